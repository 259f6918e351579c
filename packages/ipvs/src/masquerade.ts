/**
 * Masquerading: hosts behind the director reach the outside through it, many to one. Their packets leave with the director's own
 * address and a port of its own, and what comes back finds its way by that.
 *
 * It is FULLNAT without a real server: the connection's virtual and real end are both the outside host, the local end is the
 * director's, from the same pools of ports. So replies, ICMP errors and fragments go the ways they have there; only what has no
 * ports, echo, has a stage of its own (echo.ts).
 */
import { assign, lpmTrie, type Skb, stack, struct, tailCall, u8, u16, u32 } from '@ipvsd/bpf';
import { toAltered } from './altered.ts';
import { ALTERED, connections } from './connection/connection.ts';
import { changeState, rearm } from './connection/lifecycle.ts';
import { makeMasqueraded } from './connection/make.ts';
import {
  LAST_CONNECTION,
  NO_LOCAL_PORT,
  OF_PACKET,
  type Opening,
  openings,
  readOpening,
} from './connection/opening.ts';
import { because, REASONS } from './counters.ts';
import { type Family, REQUEST } from './family.ts';
import { enterFullnat } from './forward/fullnat.ts';
import { findRoute, findSource } from './forward/route.ts';
import { unanswered } from './orphan.ts';
import { Address6 } from './packet/address.ts';
import { ETHERNET } from './packet/headers.ts';
import { eventOf, isBalanced, nextState } from './protocol/index.ts';
import { INPUT } from './protocol/protocol.ts';
import { Route } from './service/service.ts';
import { now as clock } from './settings.ts';
import { errandOf, FIRST_FRAGMENT, stages } from './stages.ts';

/** Networks behind the director; `prefix` counts bits from `family` on, of which the first 32 always count. */
export const MasqueradeKey = struct('masquerade_key', {
  prefix: u32,
  family: u8,
  reserved: u8,
  reserved2: u16,
  address: Address6,
});
/** Packets that leave by this interface get its address; the kernel says which, or it is this one. */
export const Masquerade = struct('masquerade', { ifindex: u32, address: Address6 });

export const MASQUERADE_KEY_BITS = 32;
export const masquerades = lpmTrie('masquerades', MasqueradeKey, Masquerade, { maxEntries: 1024 });

/** The stage. */
export function masquerade(skb: Skb, family: Family): number {
  const opening = openings.at(OF_PACKET);
  const errand = errandOf();
  if (opening === null || errand === null) return because(REASONS.corrupt);
  if (readOpening(skb, family, opening) === 0) return because(REASONS.truncated);
  // Nor does an error that might have opened a connection of a virtual service (schedule_icmp).
  if (!isBalanced(opening.protocol)) return unanswered(skb);
  const index = open(skb, family, opening, errand.opens);
  if (index === NOT_OURS) return unanswered(skb);
  if (index > LAST_CONNECTION) return refuse(index);
  const c = connections.at(index);
  const again = skb.header(family.Header, ETHERNET);
  if (c === null || again === null) return because(REASONS.corrupt);
  if (family.isFragmented(again)) return tailCall(skb, stages, FIRST_FRAGMENT);
  // Whose first datagram may be what its helper waits for; a helper's stage does what follows here.
  if ((c.flags & ALTERED) !== 0) return toAltered(skb, c, REQUEST);
  const transport = family.transport(again);
  changeState(c, null, 0, nextState(c.protocol, 0, eventOf(skb, c.protocol, transport), INPUT));
  c.inPackets = 1;
  rearm(c, clock());
  return enterFullnat(skb, c, REQUEST, transport);
}

/** Not to be masqueraded; it belongs to nothing and may not open a connection. Other answers are those of opening.ts. */
export const NOT_OURS = 0xffff_fff8;
const MAY_NOT_OPEN = 0xffff_fff9;

/** Why a packet that is to be masqueraded is not. */
export function refuse(answer: u32): number {
  if (answer === MAY_NOT_OPEN) return because(REASONS.unmasqueraded);
  return answer === NO_LOCAL_PORT ? because(REASONS.noLocalPort) : because(REASONS.tableFull);
}

/** A connection for the packet that `opening` tells of: its number, or one of the answers. */
export function open(skb: Skb, family: Family, opening: Opening, opens: u32): u32 {
  const key = stack(MasqueradeKey, { prefix: MASQUERADE_KEY_BITS + 128, family: u8(family.number) });
  assign(key.address, opening.client);
  const rule = masquerades.lookup(key);
  if (rule === null) return NOT_OURS;
  const route = stack(Route);
  // What stays inside, and what is the director's own, is as it was.
  if (!findRoute(skb, family, route, opening.virtual, clock()) || route.ifindex !== rule.ifindex) return NOT_OURS;
  if (opens === 0) return MAY_NOT_OPEN;
  const source = stack(Address6);
  if (!findSource(skb, family, source, opening.virtual)) assign(source, rule.address);
  return makeMasqueraded(opening, source);
}
