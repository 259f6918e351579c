/** The way out: next hop and interface, taken from the kernel's routing table and kept for a second. */
import { FibLookup, fibLookup, RedirectNeighbour, redirectNeigh, type Skb, stack, u32 } from '@ipvsd/bpf';
import type { Family } from '../family.ts';
import type { Address6 } from '../packet/address.ts';
import type { Route } from '../service/service.ts';
import { ticksOf } from '../settings.ts';

const ROUTE_AGE = ticksOf(1);
const FIB_SUCCESS = 0;
/** The route is known, its neighbour not yet: redirectNeigh resolves it. */
const FIB_NO_NEIGHBOUR = 7;

/** Makes sure that `route` leads to `destination`; false where the kernel has no way. */
export function findRoute(skb: Skb, family: Family, route: Route, destination: Address6, now: u32): boolean {
  if (route.ifindex !== 0 && u32(now - route.at) < ROUTE_AGE) return true;
  return askRoute(skb, family, route, destination, now);
}

/** @subprog */
function askRoute(skb: Skb, family: Family, route: Route, destination: Address6, now: u32): boolean {
  const question = stack(FibLookup, { family: family.number, ifindex: skb.ingressIfindex });
  question.destination.set(0, destination.a);
  question.destination.set(1, destination.b);
  question.destination.set(2, destination.c);
  question.destination.set(3, destination.d);
  const answer = fibLookup(skb, question, 0);
  if (answer !== FIB_SUCCESS && answer !== FIB_NO_NEIGHBOUR) {
    route.ifindex = 0;
    return false;
  }
  route.hop.a = question.destination.get(0);
  route.hop.b = question.destination.get(1);
  route.hop.c = question.destination.get(2);
  route.hop.d = question.destination.get(3);
  route.ifindex = question.ifindex;
  route.at = now;
  return true;
}

/** Hand the packet to the next hop; the kernel resolves its link address. */
export function sendTo(family: Family, route: Route): number {
  const next = stack(RedirectNeighbour, { family: family.number });
  next.address.set(0, route.hop.a);
  next.address.set(1, route.hop.b);
  next.address.set(2, route.hop.c);
  next.address.set(3, route.hop.d);
  return redirectNeigh(route.ifindex, next, 0);
}
