/**
 * Fragments. Only the first has ports: it finds the connection, or opens one, and is remembered; the others follow it by what all
 * of them have in common. None is held back, so one that overtakes its first is the host's.
 *
 * The table is of limited size and forgets what was not used for longest.
 */
import {
  ANY,
  assign,
  htons,
  lruHashMap,
  raw,
  type Skb,
  stack,
  struct,
  tailCall,
  u8,
  u16,
  u32,
  type ViewOf,
} from '@ipvsd/bpf';
import { toAltered } from './altered.ts';
import { ALTERED, type Connection, METHOD_MASK } from './connection/connection.ts';
import { connectionAt } from './connection/lifecycle.ts';
import { localEnds } from './connection/local-end.ts';
import { because, REASONS } from './counters.ts';
import { type Family, REQUEST } from './family.ts';
import { enterTunnel } from './forward/forward.ts';
import { DESTINATION, type Side, SOURCE } from './forward/nat.ts';
import { findRoute, sendTo } from './forward/route.ts';
import { Address6, AF_INET } from './packet/address.ts';
import { fold32 } from './packet/checksum.ts';
import { ETHERNET, FRAGMENT6, Fragment6, IPPROTO_SCTP, Ipv4, Ports } from './packet/headers.ts';
import { eventOf, isBalanced } from './protocol/index.ts';
import { TRUNCATED } from './protocol/protocol.ts';
import { reply } from './reply.ts';
import { request } from './request.ts';
import {
  METHOD_FULLNAT,
  METHOD_LOCAL,
  METHOD_MASQ,
  METHOD_TUNNEL,
  SERVER_AVAILABLE,
  servers,
} from './service/service.ts';
import { countMore } from './service/statistics.ts';
import { now as clock, ticksOf } from './settings.ts';
import { FIRST_FRAGMENT, FIRST_PACKET, stages } from './stages.ts';

/** What the fragments of one packet have in common (RFC 791, RFC 8200). */
export const FragmentKey = struct('fragment_key', {
  source: Address6,
  destination: Address6,
  id: u32,
  protocol: u8,
  family: u8,
  reserved: u16,
});
export const FollowedFlow = struct('followed_flow', { connection: u32, direction: u32, at: u32 });

export const followed = lruHashMap('fragments', FragmentKey, FollowedFlow, { maxEntries: 4096 });

/** How long fragments may be under way, as the kernel's ipfrag_time. */
const AGE = ticksOf(30);
const OFFSET_4 = raw(htons(0x1fff));
const OFFSET_6 = raw(htons(0xfff8));

/** The stage of all fragments. */
export function fragment(skb: Skb, family: Family): number {
  const ip = skb.header(family.Header, ETHERNET);
  if (ip === null) return because(REASONS.truncated);
  if (!family.isValid(ip)) return because(REASONS.malformed);
  const key = stack(FragmentKey);
  const kind = describe(skb, family, key);
  if (kind === NOT_OURS) return because(REASONS.fragment);
  if (kind === FIRST) return tailCall(skb, stages, FIRST_FRAGMENT);
  const now = clock();
  const known = followed.lookup(key);
  if (known === null || u32(now - known.at) >= AGE) return because(REASONS.fragment);
  const towards = known.direction;
  const c = connectionAt(known.connection, now);
  if (c === null) return because(REASONS.fragment);
  return follow(skb, family, c, towards === REQUEST);
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
  const flow = family.flows.lookup(tuple);
  if (flow === null) return tailCall(skb, stages, FIRST_PACKET);
  const now = clock();
  const towards = flow.direction;
  const index = flow.connection;
  const c = connectionAt(index, now);
  if (c === null) return tailCall(skb, stages, FIRST_PACKET);
  const entry = stack(FollowedFlow, { connection: index, direction: towards, at: now });
  followed.update(key, entry, ANY);
  if ((c.flags & ALTERED) !== 0) return toAltered(skb, c, towards);
  if (towards === REQUEST) return request(skb, family, ip, ports, at, c, event, protocol);
  return reply(skb, family, ip, ports, at, c, event, protocol);
}

const NOT_OURS = 0;
const FIRST = 1;
const LATER = 2;

/**
 * Fills the key; says whether it is the first one.
 * @subprog
 */
function describe(skb: Skb, family: Family, key: ViewOf<typeof FragmentKey>): u32 {
  const ip = skb.header(family.Header, ETHERNET);
  if (ip === null) return NOT_OURS;
  let offset: u32 = 0;
  let protocol: u8 = 0;
  if (family.number === AF_INET) {
    const ip4 = skb.header(Ipv4, ETHERNET);
    if (ip4 === null) return NOT_OURS;
    offset = raw(ip4.fragment) & OFFSET_4;
    key.id = raw(ip4.id);
    protocol = ip4.protocol;
  } else {
    const extension = skb.header(Fragment6, ETHERNET + 40);
    if (extension === null) return NOT_OURS;
    offset = raw(extension.offset) & OFFSET_6;
    key.id = raw(extension.id);
    protocol = extension.next;
  }
  key.protocol = protocol;
  key.family = family.number;
  family.widen(key.source, ip.source);
  family.widen(key.destination, ip.destination);
  // SCTP's CRC over the whole packet cannot be mended in its first part.
  if (!isBalanced(protocol) || protocol === IPPROTO_SCTP) return NOT_OURS;
  return offset === 0 ? FIRST : LATER;
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
