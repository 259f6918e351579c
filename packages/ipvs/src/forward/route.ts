/**
 * The way out: next hop and interface, taken from the kernel's routing table and kept for a second: with the connection or the real
 * server, and beside them by destination, as a client that opens one connection often opens more.
 */
import {
  assign,
  BPF_FIB_LOOKUP_SRC,
  FibLookup,
  fibLookup,
  percpuArray,
  RedirectNeighbour,
  redirectNeigh,
  type Skb,
  stack,
  struct,
  u8,
  u16,
  u32,
  type ViewOf,
} from '@ipvsd/bpf';
import type { Family } from '../family.ts';
import { Address6, isSame } from '../packet/address.ts';
import { ETHERNET, IPPROTO_TCP, MAX_OFFSET, Tcp } from '../packet/headers.ts';
import { bucketOf } from '../scheduler/hash.ts';
import { foldAddress } from '../scheduler/scheduler.ts';
import { Route } from '../service/service.ts';
import { ticksOf } from '../settings.ts';
import { ownAddressOn } from './own-address.ts';
import { isPeer, keepLinkAddresses, sendToPeer } from './peer.ts';

type FibQuestion = ViewOf<typeof FibLookup>;

const ROUTE_AGE = ticksOf(1);
const FIB_SUCCESS = 0;
/** The route is known, its neighbour not yet: redirectNeigh resolves it. */
const FIB_NO_NEIGHBOUR = 7;
const FIB_TOO_LONG = 8;
const LONGEST = 0xffff;

/** Makes sure that `route` leads to `destination`; false where the kernel has no way. */
export function findRoute(skb: Skb, family: Family, route: Route, destination: Address6, now: u32): boolean {
  if (route.ifindex !== 0 && u32(now - route.at) < ROUTE_AGE) return true;
  return askRoute(skb, family, route, destination, now);
}

/** What the kernel said last, by destination and the interface on which the packet came. */
const Answer = struct('route_answer', { destination: Address6, ingress: u32, family: u32, route: Route });
const answers = percpuArray('route_answers', Answer, { maxEntries: 256 });

/** @subprog */
function askRoute(skb: Skb, family: Family, route: Route, destination: Address6, now: u32): boolean {
  const answer = answers.at(bucketOf(foldAddress(destination)));
  if (answer === null) return false;
  const ingress = skb.ingressIfindex;
  const known =
    answer.ingress === ingress && answer.family === family.number && isSame(answer.destination, destination);
  if (known && answer.route.ifindex !== 0 && u32(now - answer.route.at) < ROUTE_AGE) {
    assign(route, answer.route);
    return true;
  }
  if (!askKernel(skb, family, route, destination, now)) return false;
  answer.ingress = ingress;
  answer.family = family.number;
  assign(answer.destination, destination);
  assign(answer.route, route);
  return true;
}

function askKernel(skb: Skb, family: Family, route: Route, destination: Address6, now: u32): boolean {
  const question = stack(FibLookup);
  // Any packet has a byte: the answer says how many may be in one.
  const answer = ask(skb, family, question, destination, 1);
  if (answer !== FIB_SUCCESS && answer !== FIB_NO_NEIGHBOUR) {
    route.ifindex = 0;
    return false;
  }
  const ifindex = question.ifindex;
  if (answer === FIB_SUCCESS && isPeer(ifindex)) {
    route.peer = 1;
    keepLinkAddresses(route, question);
  } else {
    route.peer = 0;
    route.hop.a = question.destination.get(0);
    route.hop.b = question.destination.get(1);
    route.hop.c = question.destination.get(2);
    route.hop.d = question.destination.get(3);
  }
  route.mtu = question.length;
  // Without a neighbour the kernel stops before it fills that in; of a packet that does not fit it says so first.
  if (answer === FIB_NO_NEIGHBOUR) {
    route.mtu = ask(skb, family, question, destination, LONGEST) === FIB_TOO_LONG ? question.length : LONGEST;
  }
  route.ifindex = ifindex;
  route.at = now;
  return true;
}

function ask(skb: Skb, family: Family, question: FibQuestion, destination: Address6, length: number): number {
  question.family = u8(family.number);
  question.ifindex = skb.ingressIfindex;
  question.length = u16(length);
  question.tos = 0;
  question.destination.set(0, destination.a);
  question.destination.set(1, destination.b);
  question.destination.set(2, destination.c);
  question.destination.set(3, destination.d);
  return fibLookup(skb, question, 0);
}

/** Neither a way out nor an error: the address is this host's own, or nobody's. */
const FIB_NOT_FORWARDED = 4;

/**
 * Whether packets to the address end here.
 * @subprog
 */
export function isLocal(skb: Skb, family: Family, address: Address6): boolean {
  const question = stack(FibLookup, { family: family.number, ifindex: skb.ingressIfindex });
  question.destination.set(0, address.a);
  question.destination.set(1, address.b);
  question.destination.set(2, address.c);
  question.destination.set(3, address.d);
  return fibLookup(skb, question, 0) === FIB_NOT_FORWARDED;
}

/** Whether the packet is longer than a way is wide; of what is segmented later (GSO) each segment counts. */
export function isTooLong(skb: Skb, mtu: u32, transport: u32, protocol: u32): boolean {
  if (skb.len <= mtu + ETHERNET) return false;
  return skb.gsoSize === 0 || segmentLength(skb, transport, protocol) > mtu;
}

/**
 * How long each segment of a packet will be that is segmented later.
 * @subprog alone
 */
export function segmentLength(skb: Skb, transport: u32, protocol: u32): u32 {
  const tcp = protocol === IPPROTO_TCP ? skb.header(Tcp, transport & MAX_OFFSET) : null;
  const header: u32 = tcp === null ? UDP : (tcp.dataOffset >>> 4) * 4;
  return u32((transport & MAX_OFFSET) - ETHERNET + header + skb.gsoSize);
}
const UDP = 8;

/**
 * The director's own address towards `destination`, which a route was just found to; false where the kernel has none.
 * @subprog
 */
export function findSource(skb: Skb, family: Family, source: Address6, destination: Address6): boolean {
  const question = stack(FibLookup, { family: family.number, ifindex: skb.ingressIfindex });
  question.destination.set(0, destination.a);
  question.destination.set(1, destination.b);
  question.destination.set(2, destination.c);
  question.destination.set(3, destination.d);
  const answer = fibLookup(skb, question, BPF_FIB_LOOKUP_SRC);
  if (answer !== FIB_SUCCESS && answer !== FIB_NO_NEIGHBOUR) {
    return ownSource(skb, family, source, destination);
  }
  source.a = question.source.get(0);
  source.b = question.source.get(1);
  source.c = question.source.get(2);
  source.d = question.source.get(3);
  return true;
}

/**
 * The same from a kernel that does not know the question: the address of the interface that leads there.
 * @subprog
 */
function ownSource(skb: Skb, family: Family, source: Address6, destination: Address6): boolean {
  const question = stack(FibLookup, { family: family.number, ifindex: skb.ingressIfindex });
  question.destination.set(0, destination.a);
  question.destination.set(1, destination.b);
  question.destination.set(2, destination.c);
  question.destination.set(3, destination.d);
  const answer = fibLookup(skb, question, 0);
  if (answer !== FIB_SUCCESS && answer !== FIB_NO_NEIGHBOUR) return false;
  return ownAddressOn(question.ifindex, family.number, source);
}

/** Hand the packet to the next hop; the kernel resolves its link address. Views of the packet are stale by then. */
export function sendTo(skb: Skb, family: Family, route: Route): number {
  if (route.peer !== 0) return sendToPeer(skb, route);
  const next = stack(RedirectNeighbour, { family: family.number });
  next.address.set(0, route.hop.a);
  next.address.set(1, route.hop.b);
  next.address.set(2, route.hop.c);
  next.address.set(3, route.hop.d);
  return redirectNeigh(route.ifindex, next, 0);
}
