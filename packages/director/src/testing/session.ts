/** A TCP connection to a virtual service through the data plane in Node, whose both sides talk: for tests of helpers. */
import { answerOnLink, NodeSkb, TC_ACT_REDIRECT } from '@ipvsd/bpf';
import { MAX_CONNECTIONS, parseFrame, REASON_LIST, reasons, sweep, tcpFrame, udpFrame } from '@ipvsd/ipvs';
import { expect } from 'vitest';
import { type ConnectionEntry, type ProxyProtocol, plainTunnel, type ServiceId } from '../model.ts';
import { MapDirector } from '../plane/map-director.ts';
import { NodePlane } from '../plane/node-plane.ts';

type Side = 'client' | 'server';
export interface Addresses {
  readonly client: string;
  readonly vip: string;
  readonly real: string;
}
export const V4: Addresses = { client: '172.16.0.9', vip: '10.1.0.100', real: '10.2.0.11' };
export const V6: Addresses = { client: '2001:db8:c::9', vip: '2001:db8:1::100', real: '2001:db8:2::11' };

/** Of FULLNAT. */
export const LOCAL = { ipv4: '10.2.0.1', ipv6: '2001:db8:2::1' } as const;

/** A client connected to a virtual service, on port 21 or another, whose real server listens on 2100. */
export class Session {
  readonly addresses: Addresses;
  readonly director: MapDirector;
  readonly #plane: NodePlane;
  #now = 10n ** 12n;
  /** What each side sends next, as it counts itself. */
  readonly next = { client: 1000, server: 0xffff_fff0 };
  /** What each side has read of the other. */
  readonly heard = { client: 0, server: 0 };
  readonly port: number;
  /** What the handshake's last segment carried at the real server. */
  readonly shaken: string;

  /** Whom the real server sees as its client. */
  #seen: readonly [string, number];

  constructor(
    addresses: Addresses,
    settings: readonly (readonly [string, string])[] = [],
    port = 21,
    forwarding: 'masq' | 'fullnat' = 'masq',
    proxyProtocol?: ProxyProtocol,
  ) {
    this.addresses = addresses;
    this.port = port;
    this.#seen = [addresses.client, 40_000];
    this.#plane = new NodePlane({
      now: () => this.#now,
      random: () => 4,
      route: (parameters) => answerOnLink(parameters, 2),
    });
    this.director = new MapDirector(this.#plane);
    this.director.writeSettings(undefined, MAX_CONNECTIONS);
    for (const [name, value] of settings) this.director.execute({ kind: 'setSysctl', name, value });
    const family = addresses === V6 ? 'ipv6' : 'ipv4';
    const service: ServiceId = { kind: 'address', family, protocol: 'tcp', address: addresses.vip, port };
    this.director.executeAll(
      [
        {
          kind: 'addService',
          service,
          settings: {
            scheduler: 'rr',
            schedulerFlags: 0,
            persistence: null,
            persistenceEngine: null,
            onePacket: false,
            ...(proxyProtocol && { proxyProtocol }),
          },
        },
        ...(forwarding === 'fullnat' ? [{ kind: 'addLocalAddress', service, address: LOCAL[family] } as const] : []),
        {
          kind: 'addServer',
          service,
          server: { address: addresses.real, port: 2100 },
          settings: { forwarding, weight: 1, upperThreshold: 0, lowerThreshold: 0, tunnel: plainTunnel },
        },
      ],
      { atomic: true },
    );
    this.#control('client', 'S', '');
    this.#control('server', 'SA', '');
    this.shaken = Buffer.from(this.#control('client', 'A', '').payload).toString('latin1');
  }

  /** A line of the control connection: as the other side reads it. */
  says(side: Side, text: string): string {
    const parsed = this.#control(side, 'PA', text);
    return Buffer.from(parsed.payload).toString();
  }

  /** The same line again, as it was not acknowledged. */
  repeats(side: Side, text: string): string {
    const { next, heard } = this;
    next[side] = (next[side] - text.length) >>> 0;
    const other = side === 'client' ? 'server' : 'client';
    const read = heard[other];
    const parsed = this.#send(side, 'PA', text);
    next[side] = (next[side] + text.length) >>> 0;
    heard[other] = read;
    return Buffer.from(parsed.payload).toString();
  }

  #control(side: Side, flags: string, text: string): ReturnType<typeof parseFrame> {
    const other = side === 'client' ? 'server' : 'client';
    const parsed = this.#send(side, flags, text);
    const length = text.length + (flags.includes('S') ? 1 : 0);
    this.next[side] = (this.next[side] + length) >>> 0;
    // The reader finds the stream without a gap, and its acknowledgements are what the writer has sent.
    if (!flags.includes('S')) expect(parsed.sequence).toBe(this.heard[other]);
    this.heard[other] = (parsed.sequence + parsed.payload.length + (flags.includes('S') ? 1 : 0)) >>> 0;
    return parsed;
  }

  #send(side: Side, flags: string, text: string): ReturnType<typeof parseFrame> {
    const { client, vip, real } = this.addresses;
    const asking = side === 'client';
    const from = asking ? ([client, 40_000] as const) : ([real, 2100] as const);
    const to = asking ? ([vip, this.port] as const) : this.#seen;
    const { verdict, parsed } = this.packet({
      from,
      to,
      flags,
      text,
      sequence: this.next[side],
      acknowledgement: flags.includes('A') ? this.heard[side] : 0,
    });
    expect(verdict).toBe(TC_ACT_REDIRECT);
    if (asking) this.#seen = [parsed.source, parsed.sourcePort];
    if (flags.includes('A')) {
      const other = side === 'client' ? 'server' : 'client';
      expect(parsed.acknowledgement).toBe(this.next[other]);
    }
    return parsed;
  }

  packet(packet: {
    readonly from: readonly [string, number];
    readonly to: readonly [string, number];
    readonly flags?: string;
    readonly text?: string;
    readonly sequence?: number;
    readonly acknowledgement?: number;
    /** In UDP, not TCP. */
    readonly datagram?: true;
  }): { readonly verdict: number; readonly parsed: ReturnType<typeof parseFrame> } {
    const ends = {
      source: packet.from[0],
      sourcePort: packet.from[1],
      destination: packet.to[0],
      destinationPort: packet.to[1],
      payload: Buffer.from(packet.text ?? ''),
    };
    const { flags = 'A', sequence = 0, acknowledgement = 0 } = packet;
    const skb = new NodeSkb(packet.datagram ? udpFrame(ends) : tcpFrame({ ...ends, flags, sequence, acknowledgement }));
    const verdict = this.#plane.receive(skb);
    const parsed = parseFrame(skb.bytes);
    expect(parsed.valid).toBe(true);
    return { verdict, parsed };
  }

  /** Any packet: where it came out. */
  receive(frame: Uint8Array): { readonly verdict: number; readonly frame: ReturnType<typeof parseFrame> } {
    const skb = new NodeSkb(frame);
    const verdict = this.#plane.receive(skb);
    return { verdict, frame: parseFrame(skb.bytes) };
  }

  connections(): string[] {
    const end = ({ address, port }: ConnectionEntry['client']): string => `${address} ${port}`;
    return [...this.director.connections()]
      .map(({ client, virtual, real, state }) => `${end(client)} > ${end(virtual)} > ${end(real)} ${state}`)
      .slice(1);
  }

  wait(seconds: number): void {
    this.#now += BigInt(seconds) * 10n ** 9n;
    this.#plane.call(sweep, sweep.context.create());
  }

  counted(name: string): number {
    const index = REASON_LIST.findIndex((reason) => reason.name === name);
    const [bytes] = this.#plane.store(reasons).lookupPerCpu(new Uint8Array(Uint32Array.of(index).buffer));
    return Number(new DataView(bytes!.buffer, bytes!.byteOffset).getBigUint64(0, true));
  }
}
