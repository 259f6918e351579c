/**
 * Simulated end hosts: UDP sockets, and TCP as Linux 6.1 speaks it in so far as a load balancer can tell (hosts/tcp in the
 * recordings): which segments, of which length, and when again. No windows, no congestion, nothing is lost but at the director.
 */
import type { Clock } from './clock.ts';
import { resetFor } from './network.ts';
import { TcpSocket } from './tcp-socket.ts';
import { decapsulate, ICMP, ICMPV6, icmpError, type Parsed, parsePacket, TCP, UDP, udpPacket } from './wire.ts';

export interface HostOptions {
  readonly name: string;
  readonly clock: Clock;
  readonly owns: (address: string) => boolean;
  readonly listens: (protocol: 'tcp' | 'udp', port: number) => boolean;
  readonly send: (packet: Uint8Array) => void;
}

export interface Ends4 {
  readonly local: string;
  readonly localPort: number;
  readonly remote: string;
  readonly remotePort: number;
}

export const endsKey = ({ local, localPort, remote, remotePort }: Ends4): string =>
  `${local} ${localPort} ${remote} ${remotePort}`;

/** What came for a UDP client. */
export interface UdpAnswer {
  readonly from: string;
  readonly fromPort: number;
  readonly payload: Uint8Array;
}

export interface UdpClient {
  answer?: UdpAnswer;
  error?: string;
}

export class Host {
  readonly name: string;
  readonly clock: Clock;
  readonly #options: HostOptions;
  readonly #sockets = new Map<string, TcpSocket>();
  readonly #udpClients = new Map<string, UdpClient>();
  /** Connections accepted and not yet asked for, by `remote port`. */
  readonly accepted: TcpSocket[] = [];
  /** Datagrams that reached a listening port. */
  readonly datagrams: Parsed[] = [];
  /** Whether a datagram is answered. */
  answersUdp = true;
  /** Segments sent again because nobody answered. */
  retransmissions = 0;
  /** All packets that came, opened tunnels included. */
  onPacket: ((packet: Uint8Array) => void) | undefined;
  #sequence: number;

  constructor(options: HostOptions) {
    this.#options = options;
    this.name = options.name;
    this.clock = options.clock;
    this.#sequence = [...options.name].reduce((sum, letter) => sum + letter.charCodeAt(0) * 7919, 100_000);
  }

  send(packet: Uint8Array): void {
    this.#options.send(packet);
  }

  nextSequence(): number {
    this.#sequence = (this.#sequence + 128_000) >>> 0;
    return this.#sequence;
  }

  deliver(arrived: Uint8Array): void {
    const packet = decapsulate(arrived);
    this.onPacket?.(packet);
    const p = parsePacket(packet);
    if (!this.#options.owns(p.destination) || p.fragmentOffset > 0) return;
    if (p.protocol === TCP) this.#tcp(packet, p);
    else if (p.protocol === UDP) this.#udp(packet, p);
    else if (p.protocol === ICMP || p.protocol === ICMPV6) this.#icmp(p);
  }

  // TCP ------------------------------------------------------------------------------------------------------------

  connect(ends: Ends4): TcpSocket {
    const socket = new TcpSocket(this, ends);
    this.#sockets.get(endsKey(ends))?.abandon();
    this.#sockets.set(endsKey(ends), socket);
    socket.connect();
    return socket;
  }

  forget(socket: TcpSocket): void {
    if (this.#sockets.get(endsKey(socket.ends)) === socket) this.#sockets.delete(endsKey(socket.ends));
  }

  #tcp(packet: Uint8Array, p: Parsed): void {
    const ends = { local: p.destination, localPort: p.destinationPort, remote: p.source, remotePort: p.sourcePort };
    const known = this.#sockets.get(endsKey(ends));
    if (known !== undefined && !(known.state === 'TIME_WAIT' && p.flags === 'S')) {
      known.receive(p);
      return;
    }
    known?.abandon();
    if (p.flags === 'S' && this.#options.listens('tcp', p.destinationPort)) {
      const socket = new TcpSocket(this, ends);
      this.#sockets.set(endsKey(ends), socket);
      socket.accept(p);
    } else if (!p.flags.includes('R') && !isSilent(p.destinationPort)) {
      this.send(resetFor(packet));
    }
  }

  // UDP ------------------------------------------------------------------------------------------------------------

  /** One datagram from a socket of its own. */
  sendUdp(ends: Ends4, payload: Uint8Array): UdpClient {
    const client: UdpClient = {};
    this.#udpClients.set(`${ends.local} ${ends.localPort}`, client);
    this.send(
      udpPacket(
        { source: ends.local, sourcePort: ends.localPort, destination: ends.remote, destinationPort: ends.remotePort },
        payload,
      ),
    );
    return client;
  }

  #udp(packet: Uint8Array, p: Parsed): void {
    const client = this.#udpClients.get(`${p.destination} ${p.destinationPort}`);
    if (client !== undefined) {
      client.answer ??= { from: p.source, fromPort: p.sourcePort, payload: p.payload };
    } else if (this.#options.listens('udp', p.destinationPort)) {
      this.datagrams.push(p);
      if (!this.answersUdp) return;
      const back = {
        source: p.destination,
        sourcePort: p.destinationPort,
        destination: p.source,
        destinationPort: p.sourcePort,
      };
      this.send(udpPacket(back, p.payload.slice(0, 1)));
    } else if (!isSilent(p.destinationPort)) {
      this.send(icmpError(p.destination, packet, 'port'));
    }
  }

  // ICMP -----------------------------------------------------------------------------------------------------------

  #icmp(p: Parsed): void {
    const error = errorOf(p);
    if (error === undefined || p.transport.length < 28) return;
    const about = parsePacket(p.transport.subarray(8));
    if (about.protocol === UDP) {
      const client = this.#udpClients.get(`${about.source} ${about.sourcePort}`);
      if (client !== undefined) client.error ??= error;
    }
    if (about.protocol === TCP) {
      const ends = {
        local: about.source,
        localPort: about.sourcePort,
        remote: about.destination,
        remotePort: about.destinationPort,
      };
      // As recorded, an IPv6 connect goes on trying whatever ICMPv6 says.
      if (p.protocol === ICMP) this.#sockets.get(endsKey(ends))?.unreachable(error);
    }
  }
}

/** The port of the crafted state sequences: no socket, and nothing is answered. */
const isSilent = (port: number): boolean => port === 9000;

function errorOf(p: Parsed): string | undefined {
  const [type, code] = [p.transport[0], p.transport[1]];
  if (p.protocol === ICMP) {
    if (type !== 3) return undefined;
    return code === 3 || code === 2
      ? 'ECONNREFUSED'
      : code === 0
        ? 'ENETUNREACH'
        : code === 4
          ? 'EMSGSIZE'
          : 'EHOSTUNREACH';
  }
  if (type !== 1) return undefined;
  return code === 4 ? 'ECONNREFUSED' : code === 0 ? 'ENETUNREACH' : code === 1 ? 'EACCES' : 'EHOSTUNREACH';
}
