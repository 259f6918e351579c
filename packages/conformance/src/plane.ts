/**
 * The director under test, as the simulated network sees it: packets go in on one side and come out on another, and time is
 * what the runner says. The same on both planes, so that a scenario does not know which one it plays on.
 */
import { FibLookup, type View } from '@ipvsd/bpf';
import type { Director } from '@ipvsd/director';
import { AF_INET } from '@ipvsd/ipvs';
import { formatIp } from '@ipvsd/linux';
import type { Ticking } from './clock.ts';
import type { Site } from './site.ts';

/** The director's interfaces: towards the clients (lbc), towards the real servers (lbs). */
export type Side = 'client' | 'server';

export const IFINDEX = { client: 2, server: 3 } as const satisfies Record<Side, number>;
export const sideOf = (ifindex: number): Side | undefined =>
  ifindex === IFINDEX.client ? 'client' : ifindex === IFINDEX.server ? 'server' : undefined;

/** What becomes of a packet: the host has it, nobody has it, or it leaves. */
export type Fate =
  | { readonly kind: 'pass'; readonly packet: Uint8Array }
  | { readonly kind: 'drop' }
  | {
      readonly kind: 'send';
      readonly packet: Uint8Array;
      readonly side: Side;
      /** Whose link address it bears; where unknown, whoever has the destination address. */
      readonly hop: string | undefined;
    };

export interface TestPlane extends Ticking {
  readonly kind: 'node' | 'kernel';
  readonly director: Director;
  /** An IP packet arrives; what leaves is more than one packet where the data plane made some of its own. */
  receive(packet: Uint8Array, side: Side, mark: number): readonly Fate[];
  /** A command was carried out: what it left to be done is due a kernel tick later. */
  touched(): void;
  close(): void;
}

export interface TestPlaneOptions {
  readonly site: Site;
  readonly seed: number;
  /** Names and MTUs, as commands may ask for them. */
  readonly interfaces?: ReadonlyMap<string, number>;
}

export const INTERFACES: ReadonlyMap<string, number> = new Map([
  ['lo', 65_536],
  ['lbc', 1500],
  ['lbs', 1500],
  ['or0', 1500],
]);

/** Microseconds of a kernel tick on the recording machine (HZ=100). */
export const KERNEL_TICK = 10_000;

/** Nanoseconds since boot at which every scenario begins: a whole number of seconds and of estimator ticks. */
export const BOOT_NS = 1_000_000_000_000n;
export const nanoseconds = (microseconds: number): bigint => BOOT_NS + BigInt(Math.round(microseconds)) * 1000n;

/** Ethernet around an IP packet, addressed to the director. */
export function frameOf(packet: Uint8Array, side: Side): Uint8Array {
  const frame = new Uint8Array(14 + packet.length);
  const segment = side === 'client' ? 1 : 2;
  frame.set([2, 0, 0, 0, segment, 1, 2, 0, 0, 0, segment, 2]);
  frame.set(packet[0]! >> 4 === 4 ? [8, 0] : [0x86, 0xdd], 12);
  frame.set(packet, 14);
  return frame;
}

/** Answers of bpf_fib_lookup. */
const FOUND = 0;
const NOT_FORWARDED = 4;
const NO_NEIGHBOUR = 7;
const TOO_BIG = 8;
const FLAG_SOURCE = 16;

/** What the director's routing table says, for planes that have none. */
export function answerRoute(site: Site, parameters: Uint8Array, flags: number): number {
  const question: View<(typeof FibLookup)['fields']> = FibLookup.on(parameters);
  const size = question.family === AF_INET ? 4 : 16;
  const at = (name: string): number => FibLookup.layout.find((l) => l.name === name)!.offset;
  const field = (name: string): Uint8Array => parameters.subarray(at(name), at(name) + size);
  const route = site.route(formatIp(field('destination')));
  if (route === undefined) return NOT_FORWARDED;
  question.ifindex = IFINDEX[route.side];
  field('destination').set(site.bytes(route.hop));
  if ((flags & FLAG_SOURCE) !== 0) field('source').set(site.bytes(route.source));
  const mtu = site.mtu;
  if (question.length > mtu) {
    question.length = mtu;
    return TOO_BIG;
  }
  question.tos = 0;
  if (!site.hasNeighbour(route.hop)) return NO_NEIGHBOUR;
  if (question.length !== 0) question.length = mtu;
  return FOUND;
}
