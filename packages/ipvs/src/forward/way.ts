/** Whether a packet under FULLNAT may go its way: there is one, and the packet fits on it. */
import { type Skb, u32, type ViewOf } from '@ipvsd/bpf';
import { because, REASONS } from '../counters.ts';
import type { Family } from '../family.ts';
import { type Address6, AF_INET } from '../packet/address.ts';
import type { Ipv4 } from '../packet/headers.ts';
import type { Route } from '../service/service.ts';
import { now as clock } from '../settings.ts';
import { answerWith, TOO_BIG } from './answer.ts';
import { maySplit } from './piece.ts';
import { findRoute, isTooLong } from './route.ts';

/** What `checkWay` gives where nothing is in the way, or where the packet has to go in pieces; no verdict is like them. */
export const FREE = 99;
export const IN_PIECES = 98;

const LEAST_MTU = 1280;

/**
 * FREE, IN_PIECES, or the verdict on a packet that has no way to `destination`, of the family `to`, or does not fit there. The host would
 * not fragment it, as it leaves with an address of ours: either we do, or its sender is told what fits.
 *
 * `shrinks`: bytes that it is shorter, or longer where that is negative, when it leaves. `own`: the answer comes from the director.
 * `splits`: the caller can have it split.
 */
export function checkWay(
  skb: Skb,
  family: Family,
  ip: ViewOf<typeof Ipv4>,
  transport: u32,
  protocol: u32,
  route: Route,
  to: Family,
  destination: Address6,
  shrinks: number,
  own: number,
  splits: boolean,
): number {
  if (!findRoute(skb, to, route, destination, clock())) return because(REASONS.noRoute);
  const room = u32(route.mtu + shrinks);
  if (!isTooLong(skb, room, transport, protocol)) return FREE;
  if (splits && maySplit(skb, family, ip)) return IN_PIECES;
  const verdict = because(REASONS.tooLong);
  // No error is about a fragment without ports.
  if (family.isLaterFragment(ip)) return verdict;
  family.finish(ip, 0);
  // No way of IPv6 is narrower, whatever comes behind it.
  const told: u32 = family.number !== AF_INET && room < LEAST_MTU ? LEAST_MTU : room;
  return answerWith(skb, family, TOO_BIG, told, own);
}
