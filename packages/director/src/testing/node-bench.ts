/** A director in Node with everything on link, and clients that ask it for connections: for tests of scheduling. */
import { answerOnLink, BPF_FIB_LOOKUP_SRC, NodeSkb, TC_ACT_REDIRECT } from '@ipvsd/bpf';
import {
  Count,
  type ParsedFrame,
  parseFrame,
  REASON_LIST,
  reasons,
  reservedFor,
  sweep,
  tcpFrame,
  udpFrame,
} from '@ipvsd/ipvs';
import type { Command } from '../command.ts';
import { plainTunnel, type RealServerSettings, type ServiceId, type ServiceSettings } from '../model.ts';
import { MapDirector } from '../plane/map-director.ts';
import { NodePlane } from '../plane/node-plane.ts';

export const VIP = '10.0.0.100';
export const tcpService: ServiceId = { kind: 'address', family: 'ipv4', protocol: 'tcp', address: VIP, port: 80 };
export const udpService: ServiceId = { kind: 'address', family: 'ipv4', protocol: 'udp', address: VIP, port: 53 };

export const serviceSettings = (scheduler: string, more: Partial<ServiceSettings> = {}): ServiceSettings => ({
  scheduler,
  schedulerFlags: 0,
  persistence: null,
  persistenceEngine: null,
  onePacket: false,
  ...more,
});

export const serverSettings = (weight = 1, more: Partial<RealServerSettings> = {}): RealServerSettings => ({
  forwarding: 'masq',
  weight,
  upperThreshold: 0,
  lowerThreshold: 0,
  tunnel: plainTunnel,
  ...more,
});

/** A code of bpf_fib_lookup: not forwarded. */
const NOT_FOUND = 4;

export class NodeBench {
  now = 10n ** 12n;
  readonly plane: NodePlane;
  readonly director: MapDirector;

  /** `route`: what the kernel says of ways, as bpf_fib_lookup does. */
  constructor(
    random: () => number = () => 4,
    maxConnections = 32_768,
    // A kernel that names no preferred source.
    route: (parameters: Uint8Array, flags: number) => number = (parameters, flags) =>
      (flags & BPF_FIB_LOOKUP_SRC) === 0 ? answerOnLink(parameters, 2) : NOT_FOUND,
  ) {
    const entries = maxConnections + reservedFor(maxConnections);
    this.plane = new NodePlane({
      now: () => this.now,
      random,
      route,
      maxEntries: {
        connections: entries,
        servers: 4096,
        traffic: 4096,
        free_slots: entries,
        local_ends: entries,
      },
    });
    this.director = new MapDirector(this.plane);
    this.director.writeSettings(undefined, maxConnections);
  }

  execute(...commands: readonly Command[]): void {
    for (const command of commands) this.director.execute(command);
  }

  /** The real server that a client's packet goes to; undefined where it goes to none. */
  packet(client: string, port: number, service: ServiceId = tcpService, flags = 'S'): string | undefined {
    if (service.kind !== 'address') throw new TypeError('Cannot ask for a firewall mark');
    const ends = { source: client, sourcePort: port, destination: service.address, destinationPort: service.port };
    const skb = new NodeSkb(service.protocol === 'udp' ? udpFrame(ends) : tcpFrame({ ...ends, flags }));
    if (this.plane.receive(skb) !== TC_ACT_REDIRECT) return undefined;
    const { protocol, destination } = parseFrame(skb.bytes);
    return protocol === 1 ? undefined : destination;
  }

  /** Any frame: the verdict, and the packet as it leaves. */
  receive(frame: Uint8Array): { readonly verdict: number; readonly frame: ParsedFrame; readonly bytes: Uint8Array } {
    const skb = new NodeSkb(frame);
    const verdict = this.plane.receive(skb);
    return { verdict, frame: parseFrame(skb.bytes), bytes: skb.bytes };
  }

  /** How often a packet was counted under this reason. */
  count(reason: string): number {
    const index = REASON_LIST.findIndex(({ name }) => name === reason);
    const [value] = this.plane.store(reasons).lookupPerCpu(new Uint8Array(Uint32Array.of(index).buffer));
    return Number(Count.on(value!).packets);
  }

  reply(from: string, fromPort: number, client: string, port: number, flags: string): void {
    const ends = { source: from, sourcePort: fromPort, destination: client, destinationPort: port, flags };
    this.plane.receive(new NodeSkb(tcpFrame(ends)));
  }

  /** Time passes, a second at a time. */
  pass(seconds: number): void {
    for (let i = 0; i < seconds; i++) {
      this.now += 1_000_000_000n;
      this.plane.call(sweep, sweep.context.create());
    }
  }
}

/** Numbers below 2^32 that look like chance and can be had again. */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return (x ^ (x >>> 14)) >>> 0;
  };
}

export const addressOf = (n: number): string => [n >>> 24, (n >>> 16) & 255, (n >>> 8) & 255, n & 255].join('.');
