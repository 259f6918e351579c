/**
 * Fragments. Only the first has ports: it finds the connection, or opens one, and is remembered; the others follow it by what all
 * of them have in common. One that overtakes others waits (fragment-order.ts), so all leave in the order in which they lie in the
 * packet, as from the kernel's IPVS, which puts packets together first.
 *
 * The tables are of limited size and forget what was not used for longest.
 */
import { ANY, assign, lruHashMap, type Skb, stack, struct, tailCall, u32, type ViewOf } from '@ipvsd/bpf';
import { toAltered } from './altered.ts';
import { type Connection, METHOD_MASK } from './connection/connection.ts';
import { directionOf, findFlow, NO_FLOW, numberOf } from './connection/flows.ts';
import { connectionAt } from './connection/lifecycle.ts';
import { localEnds } from './connection/local-end.ts';
import { because, REASONS } from './counters.ts';
import { type Family, REQUEST } from './family.ts';
import { FollowedFlow, followed, HOST, NOBODY, OUTWARDS } from './followed.ts';
import { enterTunnel } from './forward/forward.ts';
import { DESTINATION, type Side, SOURCE } from './forward/nat.ts';
import { findRoute, isLocal, sendTo } from './forward/route.ts';
import { sendPiece } from './forward/split.ts';
import { describe, endOf, FIRST, FRAGMENT_AGE, FragmentKey, LATER, NOT_OURS } from './fragment-key.ts';
import { isAwaited, release, waitFor } from './fragment-order.ts';
import { Address6, AF_INET } from './packet/address.ts';
import { fold32 } from './packet/checksum.ts';
import { ETHERNET, FRAGMENT6, type Ipv4, Ports } from './packet/headers.ts';
import { eventOf } from './protocol/index.ts';
import { TRUNCATED } from './protocol/protocol.ts';
import {
  METHOD_FULLNAT,
  METHOD_LOCAL,
  METHOD_MASQ,
  METHOD_TUNNEL,
  SERVER_AVAILABLE,
  servers,
} from './service/service.ts';
import { countMore } from './service/statistics.ts';
import { now as clock } from './settings.ts';
import { FIRST_FRAGMENT, FIRST_PACKET, LATER_FRAGMENT, RELEASE, stages } from './stages.ts';

/** Real servers that have sent first fragments: later ones of theirs are worth keeping. */
const Seen = struct('seen', { at: u32 });
export const fragmenting = lruHashMap('fragmenting', Address6, Seen, { maxEntries: 1024 });

/** The stage of all fragments: who comes in order goes on, who comes too early waits. */
export function fragment(skb: Skb, family: Family): number {
  const ip = skb.header(family.Header, ETHERNET);
  if (ip === null) return because(REASONS.truncated);
  if (!family.isValid(ip)) return because(REASONS.malformed);
  const key = stack(FragmentKey);
  const kind = describe(skb, family, key);
  if (kind === NOT_OURS) return because(REASONS.fragment);
  const now = clock();
  const offset = key.offset;
  const end = endOf(skb, family, offset);
  key.offset = 0;
  if (kind === FIRST) {
    const entry = stack(FollowedFlow, { connection: NOBODY, direction: HOST, at: now, next: end });
    followed.update(key, entry, ANY);
  } else {
    const known = followed.lookup(key);
    if (known === null || u32(now - known.at) >= FRAGMENT_AGE) {
      return kind === LATER ? waitIfOurs(skb, family, key, offset, now) : because(REASONS.fragment);
    }
    if (known.direction === HOST) return because(REASONS.fragment);
    if (known.direction === OUTWARDS) return sendPiece(skb, known.connection);
    if (offset > known.next) return waitIfOurs(skb, family, key, offset, now);
    // One that is here already goes the same way once more.
    if (offset === known.next) known.next = end;
  }
  key.offset = end;
  if (isAwaited(key)) return tailCall(skb, stages, RELEASE);
  return tailCall(skb, stages, kind === FIRST ? FIRST_FRAGMENT : LATER_FRAGMENT);
}

/** The stage of one for which others wait: the next of them comes in once more, behind this one. */
export function releasing(skb: Skb, family: Family): number {
  const key = stack(FragmentKey);
  const kind = describe(skb, family, key);
  key.offset = endOf(skb, family, key.offset);
  if (!release(skb, key, clock())) return because(REASONS.corrupt);
  return tailCall(skb, stages, kind === FIRST ? FIRST_FRAGMENT : LATER_FRAGMENT);
}

/** The stage of those without ports, in order. */
export function laterFragment(skb: Skb, family: Family): number {
  const key = stack(FragmentKey);
  if (describe(skb, family, key) !== LATER) return because(REASONS.fragment);
  key.offset = 0;
  const known = followed.lookup(key);
  if (known === null) return because(REASONS.fragment);
  const towards = known.direction;
  const c = connectionAt(known.connection, clock());
  if (c === null) return because(REASONS.fragment);
  return follow(skb, family, c, towards === REQUEST);
}

/** It is the director's to keep where nobody else can know the rest: sent to its own address, or by a real server. */
function waitIfOurs(skb: Skb, family: Family, key: FragmentKey, offset: u32, now: u32): number {
  if (fragmenting.lookup(key.source) === null && !isLocal(skb, family, key.destination)) {
    return because(REASONS.fragment);
  }
  key.offset = offset & 0xffff;
  return waitFor(skb, key, now);
}

/** The stage of the one with ports. */
export function firstFragment(skb: Skb, family: Family): number {
  const key = stack(FragmentKey);
  if (describe(skb, family, key) !== FIRST) return because(REASONS.fragment);
  const ip = skb.header(family.Header, ETHERNET);
  if (ip === null) return because(REASONS.truncated);
  const protocol = key.protocol;
  const at = family.transport(ip) + (family.number === AF_INET ? 0 : FRAGMENT6);
  const ports = skb.header(Ports, at);
  const event = eventOf(skb, protocol, at);
  if (ports === null || event === TRUNCATED) return because(REASONS.truncated);
  const tuple = stack(family.Tuple, {
    sourcePort: ports.sourcePort,
    destinationPort: ports.destinationPort,
    protocol,
  });
  assign(tuple.source, ip.source);
  assign(tuple.destination, ip.destination);
  const flow = findFlow(family, tuple);
  if (flow === NO_FLOW) return tailCall(skb, stages, FIRST_PACKET);
  const now = clock();
  const towards = directionOf(flow);
  const index = numberOf(flow);
  const c = connectionAt(index, now);
  if (c === null) return tailCall(skb, stages, FIRST_PACKET);
  const entry = stack(FollowedFlow, { connection: index, direction: towards, at: now, next: endOf(skb, family, 0) });
  followed.update(key, entry, ANY);
  if (towards !== REQUEST) fragmenting.update(key.source, stack(Seen, { at: now }), ANY);
  return toAltered(skb, c, towards);
}

/** A fragment without ports goes where its first went. */
function follow(skb: Skb, family: Family, c: Connection, towardsServer: boolean): number {
  const ip = skb.header(family.Header, ETHERNET);
  if (ip === null) return because(REASONS.truncated);
  const server = servers.at(c.server);
  const method = c.flags & METHOD_MASK;
  if (server === null) {
    return method === METHOD_FULLNAT ? followOutside(skb, family, c, towardsServer) : because(REASONS.bypassed);
  }
  const available = (server.flags & SERVER_AVAILABLE) !== 0;
  if (available) countMore(c.server, u32(skb.len - family.transport(ip)), !towardsServer);
  const fullnat = method === METHOD_FULLNAT;
  if (!towardsServer) {
    if (method !== METHOD_MASQ && !fullnat) return because(REASONS.reply);
    if (ip.timeToLive <= 1) return fullnat ? because(REASONS.timeToLive) : because(REASONS.replyOutlived);
    if (!findRoute(skb, family, c.route, c.client, clock())) return because(REASONS.noRoute);
    let changed: u32 = readdress(family, ip, SOURCE, c.virtual);
    if (fullnat) changed = fold32(changed + readdress(family, ip, DESTINATION, c.client));
    family.finish(ip, changed);
    return sendTo(skb, family, c.route);
  }
  if (!available) return because(REASONS.serverGone);
  if (method === METHOD_LOCAL) return because(REASONS.local);
  if (ip.timeToLive <= 1) return because(REASONS.timeToLive);
  if (method === METHOD_TUNNEL) return enterTunnel(skb, c.server);
  if (!findRoute(skb, family, server.route, server.address, clock())) return because(REASONS.noRoute);
  let changed: u32 = 0;
  if (method === METHOD_MASQ || fullnat) changed = readdress(family, ip, DESTINATION, c.real);
  if (fullnat) {
    const end = localEnds.at(c.number);
    if (end === null) return because(REASONS.corrupt);
    changed = fold32(changed + readdress(family, ip, SOURCE, end.address));
  }
  family.finish(ip, changed);
  return sendTo(skb, family, server.route);
}

/** Of a masqueraded host, or to it. */
function followOutside(skb: Skb, family: Family, c: Connection, outwards: boolean): number {
  const ip = skb.header(family.Header, ETHERNET);
  const end = localEnds.at(c.number);
  if (ip === null || end === null) return because(REASONS.corrupt);
  if (ip.timeToLive <= 1) return because(REASONS.timeToLive);
  if (outwards) {
    if (!findRoute(skb, family, end.route, c.real, clock())) return because(REASONS.noRoute);
    family.finish(ip, readdress(family, ip, SOURCE, end.address));
    return sendTo(skb, family, end.route);
  }
  if (!findRoute(skb, family, c.route, c.client, clock())) return because(REASONS.noRoute);
  family.finish(ip, readdress(family, ip, DESTINATION, c.client));
  return sendTo(skb, family, c.route);
}

/** How the header's sum changes by it. */
function readdress(family: Family, ip: ViewOf<typeof Ipv4>, side: Side, to: Address6): u32 {
  const address = side.address(ip);
  const difference = family.difference(address, to);
  family.narrow(address, to);
  return u32(difference);
}
