/**
 * The recordings' network around the director under test: the client, the real servers, the gateway by which DR and TUN
 * answers go home, and the director's own host, which has every packet that the data plane lets pass.
 *
 * A packet takes no time, but is delivered only after whoever sent it is done (golden README: work takes no time).
 */
import type { Clock } from './clock.ts';
import { Host } from './hosts.ts';
import type { Marks } from './marks.ts';
import type { Fate, Side, TestPlane } from './plane.ts';
import { isClientAddress, REAL_SERVERS, type RealServerName, realServerAddresses, type Site, VIPS } from './site.ts';
import { hopLess, ICMP, ICMPV6, icmpError, icmpPacket, parsePacket, TCP, tcpPacket, UDP } from './wire.ts';

export interface NetworkOptions {
  readonly clock: Clock;
  readonly plane: TestPlane;
  readonly site: Site;
  readonly marks: Marks;
  /** By which way real servers answer: through the director (nat), or by their own gateway. */
  readonly forward: string;
  /** Ports that real servers listen on, as `tcp 80`. */
  readonly open: ReadonlySet<string>;
  /** Nobody but the director answers. */
  readonly mute: boolean;
}

/** A frame seen on one side of the director, either way. */
export type Watcher = (packet: Uint8Array, side: Side, direction: 'in' | 'out') => void;

export class Network {
  readonly client: Host;
  readonly servers: ReadonlyMap<RealServerName, Host>;
  readonly clock: Clock;
  readonly #plane: TestPlane;
  readonly #site: Site;
  readonly #marks: Marks;
  readonly #forward: string;
  readonly #watchers = new Set<Watcher>();
  readonly #byAddress = new Map<string, Host>();

  readonly #mute: boolean;

  constructor({ clock, plane, site, marks, forward, open, mute }: NetworkOptions) {
    this.#mute = mute;
    this.clock = clock;
    this.#plane = plane;
    this.#site = site;
    this.#marks = marks;
    this.#forward = forward;
    this.client = new Host({
      name: 'c',
      clock,
      owns: isClientAddress,
      listens: () => false,
      send: (packet) => this.toDirector(packet, 'client'),
    });
    this.servers = new Map(
      REAL_SERVERS.map((name) => {
        const addresses = [...realServerAddresses(name), ...VIPS];
        const host: Host = new Host({
          name,
          clock,
          owns: (address) => addresses.includes(address),
          listens: (protocol, port) => open.has(`${protocol} ${port}`),
          send: (packet) => this.#fromServer(packet),
        });
        for (const address of realServerAddresses(name)) this.#byAddress.set(address, host);
        return [name, host] as const;
      }),
    );
  }

  watch(watcher: Watcher): () => void {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  /** The name of the real server that a packet's source is, if it is one. */
  serverAt(address: string): Host | undefined {
    return this.#byAddress.get(address);
  }

  /** A packet comes to the director's interface. */
  toDirector(packet: Uint8Array, side: Side): void {
    this.clock.after(0, () => {
      this.#see(packet, side, 'in');
      for (const fate of this.#plane.receive(packet, side, this.#marks.of(packet))) this.#follow(fate, side);
    });
  }

  #fromServer(packet: Uint8Array): void {
    const { destination } = parsePacket(packet);
    const onLink = this.#byAddress.get(destination);
    if (onLink !== undefined) {
      this.clock.after(0, () => onLink.deliver(packet));
    } else if (this.#forward === 'nat' || this.#site.isOwn(destination)) {
      this.toDirector(packet, 'server');
    } else {
      const forwarded = hopLess(packet);
      if (forwarded !== undefined) this.#toClientSide(forwarded);
    }
  }

  #follow(fate: Fate, from: Side): void {
    if (fate.kind === 'drop') return;
    if (fate.kind === 'pass') {
      this.#hostOfDirector(fate.packet, from);
      return;
    }
    const { destination } = parsePacket(fate.packet);
    this.#leave(fate.packet, fate.side, fate.hop ?? this.#site.route(destination)?.hop ?? destination);
  }

  /** Out of the director's interface, to the host with that link address. */
  #leave(packet: Uint8Array, side: Side, hop: string): void {
    this.#see(packet, side, 'out');
    if (this.#mute) return;
    if (side === 'client') this.#toClientSide(packet);
    else this.clock.after(0, () => this.#byAddress.get(hop)?.deliver(packet));
  }

  #toClientSide(packet: Uint8Array): void {
    // What is addressed to 192.168.77.0/24 has crafted packets as its source, and nobody there.
    this.clock.after(0, () => this.client.deliver(packet));
  }

  /** The director's own host: its addresses answer, all else is routed. */
  #hostOfDirector(packet: Uint8Array, from: Side): void {
    const parsed = parsePacket(packet);
    if (this.#site.isOwn(parsed.destination)) {
      this.#answerLocally(packet, from);
      return;
    }
    const route = this.#site.route(parsed.destination);
    const forwarded = hopLess(packet);
    if (route !== undefined && forwarded !== undefined) this.#leave(forwarded, route.side, route.hop);
  }

  #answerLocally(packet: Uint8Array, from: Side): void {
    const p = parsePacket(packet);
    if (p.fragmentOffset > 0 || p.moreFragments) return;
    if (p.protocol === TCP && !p.flags.includes('R')) this.#send(resetFor(packet), from);
    else if (p.protocol === UDP) this.#send(icmpError(p.destination, packet, 'port'), from);
    else if ((p.protocol === ICMP && p.transport[0] === 8) || (p.protocol === ICMPV6 && p.transport[0] === 128)) {
      const reply = p.protocol === ICMP ? 0 : 129;
      const rest = new DataView(p.transport.buffer, p.transport.byteOffset).getUint32(4);
      this.#send(icmpPacket(p.destination, p.source, reply, 0, rest, p.transport.slice(8)), from);
    }
  }

  #send(packet: Uint8Array, side: Side): void {
    const { destination } = parsePacket(packet);
    const route = this.#site.route(destination);
    if (route !== undefined) this.#leave(packet, route.side, route.hop);
    else this.#leave(packet, side, destination);
  }

  #see(packet: Uint8Array, side: Side, direction: 'in' | 'out'): void {
    for (const watcher of this.#watchers) watcher(packet, side, direction);
  }
}

/** What a port answers where nobody listens (RFC 9293, 3.10.7.1). */
export function resetFor(packet: Uint8Array): Uint8Array {
  const p = parsePacket(packet);
  const acknowledged = p.flags.includes('A');
  const length = p.payload.length + (p.flags.includes('S') ? 1 : 0) + (p.flags.includes('F') ? 1 : 0);
  return tcpPacket({
    source: p.destination,
    destination: p.source,
    sourcePort: p.destinationPort,
    destinationPort: p.sourcePort,
    flags: acknowledged ? 'R' : 'RA',
    sequence: acknowledged ? p.acknowledgement : 0,
    acknowledgement: acknowledged ? 0 : p.sequence + length,
  });
}
