/**
 * Kernel helpers, once as Node functions and once as the table that tells the compiler how to call them.
 *
 * Numbers and argument order are the kernel's ABI (include/uapi/linux/bpf.h).
 */
import type { ProgramType } from '../spec.ts';
import { addSums, foldSum, sumBytes } from './checksum.ts';
import type { MapDefinition, ProgramTable } from './map.ts';
import { TC_ACT_REDIRECT } from './program.ts';
import { be16, be32, htons, u8, u16, u32, type u64 } from './scalar.ts';
import type { NodeSkb, Skb } from './skb.ts';
import { array, bytesOf, type Fields, struct, type Timer, type View } from './struct.ts';
import { currentWorld } from './world.ts';

/** `struct bpf_fib_lookup` of the kernel: questions in, route out. */
export const FibLookup = struct('fib_lookup', {
  family: u8,
  protocol: u8,
  sourcePort: be16,
  destinationPort: be16,
  /** In: total length to check against the MTU, or 0. Out, where it was not 0: the route's MTU (not where a neighbour is missing). */
  length: u16,
  ifindex: u32,
  /** In: TOS or flow info. Out: metric. */
  tos: u32,
  /** IPv4 in the first word. Source out when asked for by BPF_FIB_LOOKUP_SRC. */
  source: array(be32, 4),
  /** In: destination. Out: the next hop. */
  destination: array(be32, 4),
  vlan: u32,
  sourceMac: array(u16, 3),
  destinationMac: array(u16, 3),
});

/** `struct bpf_redir_neigh`: the next hop for redirectNeigh. */
export const RedirectNeighbour = struct('redir_neigh', { family: u32, address: array(be32, 4) });

/** Flags. */
export const BPF_F_RECOMPUTE_CSUM = 1;
export const BPF_F_PSEUDO_HDR = 0x10;
export const BPF_F_MARK_MANGLED_0 = 0x20;
export const BPF_F_INGRESS = 1;
export const BPF_FIB_LOOKUP_DIRECT = 1;
export const BPF_FIB_LOOKUP_OUTPUT = 2;
export const BPF_FIB_LOOKUP_SKIP_NEIGH = 4;
export const BPF_FIB_LOOKUP_SRC = 16;
export const BPF_ADJ_ROOM_NET = 0;
export const BPF_ADJ_ROOM_MAC = 1;
export const BPF_F_ADJ_ROOM_FIXED_GSO = 1;
export const BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 = 2;
export const BPF_F_ADJ_ROOM_ENCAP_L3_IPV6 = 4;
export const BPF_F_ADJ_ROOM_ENCAP_L4_GRE = 8;
export const BPF_F_ADJ_ROOM_ENCAP_L4_UDP = 16;
export const BPF_F_ADJ_ROOM_NO_CSUM_RESET = 32;
/** What the packet is after its outer header is gone (Linux 6.4). */
export const BPF_F_ADJ_ROOM_DECAP_L3_IPV4 = 128;
export const BPF_F_ADJ_ROOM_DECAP_L3_IPV6 = 256;
export const CLOCK_MONOTONIC = 1;

// Clock and chance --------------------------------------------------------------------------------------------------

/** Nanoseconds since boot, exact and dear (33-44 ns). */
export const ktimeNs = (): u64 => currentWorld().surroundings.now();
/** Nanoseconds since boot as of the last timer tick (1-4 ms), cheap (4-9 ns). */
export const ktimeCoarseNs = (): u64 => currentWorld().surroundings.now();
export const randomU32 = (): u32 => currentWorld().surroundings.random() >>> 0;
export const cpuId = (): u32 => currentWorld().surroundings.cpu?.() ?? 0;

// Packets -----------------------------------------------------------------------------------------------------------

const packet = (skb: Skb): NodeSkb => skb as NodeSkb;
const EINVAL = -22;
const EFAULT = -14;
/** The kernel's own, which no program outside gets to see. */
const ENOTSUPP = 524;

/** Copy a struct into the packet, where direct writes do not reach. Moves the packet. */
export function storeBytes(skb: Skb, offset: u32, from: object, flags: u32): number {
  const { bytes } = packet(skb);
  const data = bytesOf(from);
  if (offset + data.length > bytes.length || offset > 0xffff) return EFAULT;
  bytes.set(data, offset);
  packet(skb).moved();
  return flags === 0 || flags === BPF_F_RECOMPUTE_CSUM ? 0 : EINVAL;
}

/** Copy packet bytes out, also from beyond the linear part. */
export function loadBytes(skb: Skb, offset: u32, into: object): number {
  const { bytes } = packet(skb);
  const data = bytesOf(into);
  if (offset + data.length > bytes.length || offset > 0xffff) {
    data.fill(0);
    return EFAULT;
  }
  data.set(bytes.subarray(offset, offset + data.length));
  return 0;
}

/** Bring `length` bytes (0: the linear part as it is) into the linear part and make them writable. Moves the packet. */
export function pullData(skb: Skb, length: u32): number {
  packet(skb).moved();
  return length > packet(skb).bytes.length ? -12 : 0;
}

function patchChecksum(skb: Skb, offset: number, from: number, to: number, flags: number): number {
  const { bytes } = packet(skb);
  if (offset > 0xffff || offset & 1) return EFAULT;
  if (offset + 2 > bytes.length) return EFAULT;
  const size = flags & 0xf;
  const markMangled = (flags & BPF_F_MARK_MANGLED_0) !== 0;
  const old = bytes[offset]! | (bytes[offset + 1]! << 8);
  packet(skb).moved();
  if (markMangled && old === 0) return 0;
  let difference: number;
  if (size === 0) {
    if (from !== 0) return EINVAL;
    difference = to;
  } else if (size === 2) {
    difference = addSums(~from & 0xffff, to & 0xffff);
  } else if (size === 4) {
    difference = addSums(~from >>> 0, to >>> 0);
  } else {
    return EINVAL;
  }
  let sum = size === 2 ? replace2(old, from & 0xffff, to & 0xffff) : foldSum(addSums(difference, ~old >>> 0));
  if (markMangled && sum === 0) sum = 0xffff;
  bytes[offset] = sum & 0xff;
  bytes[offset + 1] = sum >>> 8;
  return 0;
}

/** The kernel's csum_replace2: 16-bit ones' complement steps (it never yields what a 32-bit fold would differ in but -0). */
function replace2(old: number, from: number, to: number): number {
  const add16 = (a: number, b: number): number => {
    const sum = a + b;
    return (sum & 0xffff) + (sum >>> 16);
  };
  return ~add16(add16(~old & 0xffff, ~from & 0xffff), to) & 0xffff;
}

/** Mend the IP header checksum at `offset`; `flags` holds the size of the change (2, 4; 0: `to` is a difference). */
export const l3CsumReplace = (skb: Skb, offset: u32, from: number, to: number, flags: u32): number =>
  patchChecksum(skb, offset, from, to, flags);
/** Mend a TCP, UDP or ICMP checksum; BPF_F_PSEUDO_HDR when what changed is in the pseudo header. Moves the packet. */
export const l4CsumReplace = (skb: Skb, offset: u32, from: number, to: number, flags: u32): number =>
  patchChecksum(skb, offset, from, to, flags);

/** Partial sum of `to` less that of `from`; either may be null; sizes are multiples of 4. */
export function csumDiff(from: object | null, to: object | null, seed: u32): number {
  const inverted = from === null ? new Uint8Array(0) : bytesOf(from).map((b) => ~b & 0xff);
  return sumBytes(to === null ? new Uint8Array(0) : bytesOf(to), sumBytes(inverted, seed));
}

/** Grow (delta > 0) or shrink the packet after its link header (mode MAC) or network header (mode NET). Moves the packet. */
export function adjustRoom(skb: Skb, delta: number, mode: u32, flags: u32): number {
  const p = packet(skb);
  const at = mode === BPF_ADJ_ROOM_MAC ? 14 : 14 + networkHeaderLength(p.bytes);
  if (Math.abs(delta) > 0xfff || flags > 0x1ff) return EINVAL;
  if (at + Math.max(-delta, 0) > p.bytes.length) return -ENOTSUPP;
  const grown = new Uint8Array(p.bytes.length + delta);
  grown.set(p.bytes.subarray(0, at));
  grown.set(p.bytes.subarray(at + Math.max(-delta, 0)), at + Math.max(delta, 0));
  p.bytes = grown;
  if ((flags & OUTER_4) !== 0) p.protocol = ETH_P_IP;
  if ((flags & OUTER_6) !== 0) p.protocol = ETH_P_IPV6;
  p.moved();
  return 0;
}

/** What comes before the packet, or is left of it, is of that family. */
const OUTER_4 = BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_DECAP_L3_IPV4;
const OUTER_6 = BPF_F_ADJ_ROOM_ENCAP_L3_IPV6 | BPF_F_ADJ_ROOM_DECAP_L3_IPV6;
const ETH_P_IP = htons(0x0800);
const ETH_P_IPV6 = htons(0x86dd);

const networkHeaderLength = (bytes: Uint8Array): number => (bytes[12] === 0x08 && bytes[13] === 0 ? 20 : 40);

/** Cut or extend (with zeros) the packet to `length` bytes. Moves the packet. */
export function changeTail(skb: Skb, length: u32, _flags: u32): number {
  const p = packet(skb);
  const resized = new Uint8Array(length);
  resized.set(p.bytes.subarray(0, length));
  p.bytes = resized;
  p.moved();
  return 0;
}

/**
 * Change between ETH_P_IP and ETH_P_IPV6: 20 bytes are put behind the link header, or taken from there, and the kernel takes the
 * packet for one of the other family. What its headers say, the link header's too, is for the program to write. What is
 * segmented later (GSO) stays so, and its segments hold as much as before (Linux 5.14). Moves the packet.
 */
export function changeProtocol(skb: Skb, protocol: be16, flags: u32): number {
  const p = packet(skb);
  if (flags !== 0) return EINVAL;
  if (p.protocol === protocol) return 0;
  const grows = p.protocol === ETH_P_IP && protocol === ETH_P_IPV6;
  if (!grows && !(p.protocol === ETH_P_IPV6 && protocol === ETH_P_IP)) return -ENOTSUPP;
  const result = adjustRoom(skb, grows ? 20 : -20, BPF_ADJ_ROOM_MAC, 0);
  if (result === 0) p.protocol = protocol;
  return result;
}

export const hashRecalculate = (skb: Skb): u32 => skb.hash;

// Where the packet goes ---------------------------------------------------------------------------------------------

/** Send to an interface as it is (flags BPF_F_INGRESS: receive there). */
export function redirect(ifindex: u32, flags: u32): number {
  currentWorld().redirected({ kind: 'redirect', ifindex });
  return flags > 1 ? 2 : TC_ACT_REDIRECT;
}

/** Send through the neighbour table: with the given next hop, or by route when null. */
export function redirectNeigh(
  ifindex: u32,
  neighbour: View<(typeof RedirectNeighbour)['fields']> | null,
  flags: u32,
): number {
  const next = neighbour === null ? {} : { neighbour: bytesOf(neighbour).slice() };
  currentWorld().redirected({ kind: 'neighbour', ifindex, ...next });
  return flags === 0 ? TC_ACT_REDIRECT : 2;
}

/** Into the network namespace of a veth's peer, with no queue between. */
export function redirectPeer(ifindex: u32, flags: u32): number {
  currentWorld().redirected({ kind: 'peer', ifindex });
  return flags === 0 ? TC_ACT_REDIRECT : 2;
}

/** Send a copy, or receive it once more (BPF_F_INGRESS). Moves the packet. */
export function cloneRedirect(skb: Skb, ifindex: u32, flags: u32): number {
  if (flags > BPF_F_INGRESS) return EINVAL;
  const ingress = flags === BPF_F_INGRESS;
  packet(skb).clones.push({ kind: 'clone', ifindex, ingress, packet: packet(skb).bytes.slice() });
  packet(skb).moved();
  return 0;
}

/** Ask the routing table; fills `parameters`. 0 when found, else the kernel's BPF_FIB_LKUP_RET code. */
export function fibLookup(_skb: Skb, parameters: View<(typeof FibLookup)['fields']>, flags: u32): number {
  return currentWorld().surroundings.route?.(bytesOf(parameters), flags) ?? 4;
}

/** For surroundings without a routing table: everything is on link, through that interface. */
export function answerOnLink(parameters: Uint8Array, ifindex: number, mtu = 1500): number {
  const question = FibLookup.on(parameters);
  question.ifindex = ifindex;
  if (question.length > mtu) return FIB_TOO_LONG;
  if (question.length !== 0) question.length = mtu;
  return 0;
}

/** BPF_FIB_LKUP_RET_FRAG_NEEDED */
const FIB_TOO_LONG = 8;

/** What a tail call gives that led nowhere. */
export const NO_PROGRAM = -2;

/**
 * Go on in another program, which starts with a stack of its own and never returns here. Write `return tailCall(...)`: what
 * it gives is the other program's verdict in Node, and in the kernel an error where the table has no such program.
 */
export function tailCall(skb: Skb, table: ProgramTable, index: u32): number {
  return table.programs.get(index)?.run(skb) ?? NO_PROGRAM;
}

// Atomics -----------------------------------------------------------------------------------------------------------

type NumberField<V> = { [K in keyof V]-?: V[K] extends number | bigint ? K : never }[keyof V] & string;
type Amount<V, K extends keyof V> = V[K] extends bigint ? bigint : number;

/** Add to a u32, i32 or u64 field of a map value, whoever else does the same; wraps. */
export function atomicAdd<V extends object, K extends NumberField<V>>(view: V, field: K, amount: Amount<V, K>): void {
  atomicFetchAdd(view, field, amount);
}

/** The same, giving the value before. */
export function atomicFetchAdd<V extends object, K extends NumberField<V>>(
  view: V,
  field: K,
  amount: Amount<V, K>,
): V[K] {
  const old = view[field];
  if (typeof old === 'bigint') {
    view[field] = BigInt.asUintN(64, old + (amount as bigint)) as V[K];
  } else {
    view[field] = narrowLike(view, field, (old as number) + (amount as number)) as V[K];
  }
  return old;
}

/** Store `next` if the field holds `expected`; gives the value found. */
export function atomicCompareExchange<V extends object, K extends NumberField<V>>(
  view: V,
  field: K,
  expected: V[K],
  next: V[K],
): V[K] {
  const old = view[field];
  if (old === expected) view[field] = next;
  return old;
}

/** Store `next`; gives the value before. */
export function atomicExchange<V extends object, K extends NumberField<V>>(view: V, field: K, next: V[K]): V[K] {
  const old = view[field];
  view[field] = next;
  return old;
}

function narrowLike(view: object, field: string, value: number): number {
  const { $struct } = view as { $struct: { layout: { name: string; field: { signed?: boolean } }[] } };
  const signed = $struct.layout.find((l) => l.name === field)?.field.signed === true;
  return signed ? value | 0 : value >>> 0;
}

// Loops, timers, tail calls ------------------------------------------------------------------------------------------

/** BPF_MAX_LOOPS: the kernel runs no loop longer than this. */
export const MAX_ROUNDS = 8_388_608;

/**
 * Call `body(i)` for i = 0, 1 ... until it returns 1, or `count` or MAX_ROUNDS is reached. For more than 64 rounds (bpf_loop).
 */
export function loop(count: u32, body: (index: u32) => 0 | 1): void {
  const rounds = Math.min(count, MAX_ROUNDS);
  for (let i = 0; i < rounds; i++) if (body(i) === 1) return;
}

/** Make the timer of a map value usable; `map` is the map that holds it. 0, or -16 when it is already. */
export function timerInit(timer: Timer, map: MapDefinition, _clock: u32): number {
  const armed = currentWorld().timer(timer);
  if (armed.map !== undefined) return -16;
  armed.map = map;
  return 0;
}

/** What runs when it fires: (map, key, value) => 0. The function lies at module scope. */
export function timerSetCallback<V extends Fields>(
  timer: Timer,
  callback: (map: unknown, key: u32, value: View<V>) => number,
): number {
  const armed = currentWorld().timer(timer);
  if (armed.map === undefined) return EINVAL;
  armed.callback = callback as never;
  armed.value = armed.map.value!.on(
    new Uint8Array(armed.window.$data.buffer, armed.window.$data.byteOffset, armed.window.$data.byteLength),
    armed.window.$base - armed.map.value!.layout.find((l) => l.field.kind === 'opaque')!.offset,
  ) as never;
  return 0;
}

/** Fire `ns` nanoseconds from now. */
export function timerStart(timer: Timer, ns: u64, _flags: u32): number {
  const armed = currentWorld().timer(timer);
  if (armed.callback === undefined) return EINVAL;
  armed.deadline = currentWorld().surroundings.now() + ns;
  return 0;
}

export function timerCancel(timer: Timer): number {
  const armed = currentWorld().timer(timer);
  const was = armed.deadline !== undefined;
  armed.deadline = undefined;
  return was ? 1 : 0;
}

// The compiler's table -----------------------------------------------------------------------------------------------

/**
 * How an argument is passed: `skb` the context; `map` a map; `view` a pointer to a struct's bytes; `view?` the same or null
 * (0); `viewSize` and `viewSize?` a pointer followed by its size as the next argument; `timer` a pointer to the timer;
 * `function` a function of the module; numbers by value, `constant` known when compiling.
 */
export type Argument =
  | 'skb'
  | 'map'
  | 'view'
  | 'view?'
  | 'viewSize'
  | 'viewSize?'
  | 'timer'
  | 'function'
  | 'u32'
  | 'i32'
  | 'u64'
  | 'sum';

export interface HelperSignature {
  readonly id: number;
  readonly args: readonly Argument[];
  /** `never`: does not come back when it succeeds, and gives NO_PROGRAM when it does. */
  readonly returns: 'i32' | 'u32' | 'u64' | 'sum' | 'never';
  readonly programs: readonly ProgramType[];
  /** The packet may move: earlier views are stale afterwards. */
  readonly moves?: true;
  /** Appended as last arguments, for parameters that kernel TypeScript does not show. */
  readonly hidden?: readonly number[];
  /** What serves where the program type has not got it: a helper of the same meaning. */
  readonly otherwise?: string;
}

const ALL: readonly ProgramType[] = ['tc', 'xdp', 'syscall'];
const TC: readonly ProgramType[] = ['tc'];
const PACKET: readonly ProgramType[] = ['tc', 'xdp'];

/** By the name of the Node function above. Where the kernel passes a size after a pointer, the compiler adds it. */
export const HELPERS: Readonly<Record<string, HelperSignature>> = {
  ktimeNs: { id: 5, args: [], returns: 'u64', programs: ALL },
  ktimeCoarseNs: { id: 160, args: [], returns: 'u64', programs: PACKET, otherwise: 'ktimeNs' },
  randomU32: { id: 7, args: [], returns: 'u32', programs: ALL },
  cpuId: { id: 8, args: [], returns: 'u32', programs: ALL },
  /** The kernel's order is skb, offset, from, size, flags. */
  storeBytes: { id: 9, args: ['skb', 'u32', 'viewSize', 'u32'], returns: 'i32', programs: TC, moves: true },
  loadBytes: { id: 26, args: ['skb', 'u32', 'viewSize'], returns: 'i32', programs: TC },
  pullData: { id: 39, args: ['skb', 'u32'], returns: 'i32', programs: TC, moves: true },
  l3CsumReplace: { id: 10, args: ['skb', 'u32', 'sum', 'sum', 'u32'], returns: 'i32', programs: TC, moves: true },
  l4CsumReplace: { id: 11, args: ['skb', 'u32', 'sum', 'sum', 'u32'], returns: 'i32', programs: TC, moves: true },
  /** from, from_size, to, to_size, seed. */
  csumDiff: { id: 28, args: ['viewSize?', 'viewSize?', 'u32'], returns: 'sum', programs: PACKET },
  adjustRoom: { id: 50, args: ['skb', 'i32', 'u32', 'u32'], returns: 'i32', programs: TC, moves: true },
  changeTail: { id: 38, args: ['skb', 'u32', 'u32'], returns: 'i32', programs: TC, moves: true },
  changeProtocol: { id: 31, args: ['skb', 'u32', 'u32'], returns: 'i32', programs: TC, moves: true },
  hashRecalculate: { id: 34, args: ['skb'], returns: 'u32', programs: TC },
  redirect: { id: 23, args: ['u32', 'u32'], returns: 'i32', programs: PACKET },
  /** ifindex, params, plen, flags; a null next hop has size 0. */
  redirectNeigh: { id: 152, args: ['u32', 'viewSize?', 'u32'], returns: 'i32', programs: TC },
  redirectPeer: { id: 155, args: ['u32', 'u32'], returns: 'i32', programs: TC },
  cloneRedirect: { id: 13, args: ['skb', 'u32', 'u32'], returns: 'i32', programs: TC, moves: true },
  /** skb, params, plen, flags. */
  fibLookup: { id: 69, args: ['skb', 'viewSize', 'u32'], returns: 'i32', programs: PACKET },
  tailCall: { id: 12, args: ['skb', 'map', 'u32'], returns: 'never', programs: TC },
  timerInit: { id: 169, args: ['timer', 'map', 'u32'], returns: 'i32', programs: ALL },
  timerSetCallback: { id: 170, args: ['timer', 'function'], returns: 'i32', programs: ALL },
  timerStart: { id: 171, args: ['timer', 'u64', 'u32'], returns: 'i32', programs: ALL },
  timerCancel: { id: 172, args: ['timer'], returns: 'i32', programs: ALL },
};

/** Helpers behind map methods and `loop`, which the compiler calls by itself. */
export const MAP_HELPERS = {
  lookup: 1,
  update: 2,
  delete: 3,
  push: 87,
  pop: 88,
  ringOutput: 130,
  loop: 181,
  lookupPercpu: 195,
} as const;
