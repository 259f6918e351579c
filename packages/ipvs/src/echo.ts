/**
 * Echo of masqueraded hosts, and ICMP errors about it. Its identifier stands in for a port: of the client with a request, the
 * local one with a reply; the other side's is 0.
 */
import { assign, type be16, htons, raw, type Skb, stack, TC_ACT_UNSPEC, u32 } from '@ipvsd/bpf';
import { type Connection, connections } from './connection/connection.ts';
import { directionOf, findFlow, NO_FLOW, numberOf } from './connection/flows.ts';
import { connectionAt, rearm } from './connection/lifecycle.ts';
import { localEnds } from './connection/local-end.ts';
import { LAST_CONNECTION, OF_PACKET, openings } from './connection/opening.ts';
import { because, REASONS } from './counters.ts';
import { type Family, REPLY, REQUEST } from './family.ts';
import { answerWith, TIME_EXCEEDED, TOO_BIG } from './forward/answer.ts';
import { DESTINATION, type Side, SOURCE } from './forward/nat.ts';
import { findRoute, isTooLong, sendTo } from './forward/route.ts';
import { NOT_OURS, open, refuse } from './masquerade.ts';
import { type Address6, AF_INET } from './packet/address.ts';
import { fold32, patch, wordDifference } from './packet/checksum.ts';
import { Echo, ETHERNET, ICMP, IPPROTO_ICMP } from './packet/headers.ts';
import { finish, hasRightChecksum } from './related.ts';
import { NONE } from './service/service.ts';
import { now as clock } from './settings.ts';

const NO_PORT = htons(0);

/** The stage. */
export function echo(skb: Skb, family: Family): number {
  const ip = skb.header(family.Header, ETHERNET);
  if (ip === null) return because(REASONS.truncated);
  const at = family.transport(ip);
  const message = skb.header(Echo, at);
  if (message === null) return because(REASONS.truncated);
  const type = message.type;
  if (family.isError(type)) return aboutEcho(skb, family, at);
  const asks = type === family.echoRequest;
  if (!asks && type !== family.echoReply) return TC_ACT_UNSPEC;
  const tuple = stack(family.Tuple, {
    sourcePort: asks ? message.id : NO_PORT,
    destinationPort: asks ? NO_PORT : message.id,
    protocol: family.icmp,
  });
  assign(tuple.source, ip.source);
  assign(tuple.destination, ip.destination);
  const flow = findFlow(family, tuple);
  if (flow !== NO_FLOW) {
    const towards = directionOf(flow);
    const known = connectionAt(numberOf(flow), clock());
    if (known !== null) {
      if (asks) return towards === REQUEST ? outwards(skb, family, known) : TC_ACT_UNSPEC;
      return towards === REPLY ? inwards(skb, family, known) : TC_ACT_UNSPEC;
    }
  }
  return asks ? begin(skb, family) : TC_ACT_UNSPEC;
}

/** A request that no connection knows. */
function begin(skb: Skb, family: Family): number {
  const ip = skb.header(family.Header, ETHERNET);
  const opening = openings.at(OF_PACKET);
  if (ip === null || opening === null) return because(REASONS.corrupt);
  const message = skb.header(Echo, family.transport(ip));
  if (message === null) return because(REASONS.truncated);
  opening.clientPort = message.id;
  opening.virtualPort = NO_PORT;
  opening.protocol = family.icmp;
  opening.family = family.number;
  opening.mark = 0;
  family.widen(opening.client, ip.source);
  family.widen(opening.virtual, ip.destination);
  const index = open(skb, family, opening, 1);
  if (index === NOT_OURS) return TC_ACT_UNSPEC;
  if (index > LAST_CONNECTION) return refuse(index);
  const c = connections.at(index);
  return c === null ? because(REASONS.corrupt) : outwards(skb, family, c);
}

function outwards(skb: Skb, family: Family, c: Connection): number {
  const ip = skb.header(family.Header, ETHERNET);
  const end = localEnds.at(c.number);
  if (ip === null || end === null) return because(REASONS.corrupt);
  c.inPackets = u32(c.inPackets + 1);
  rearm(c, clock());
  if (ip.timeToLive <= 1) {
    because(REASONS.timeToLive);
    return answerWith(skb, family, TIME_EXCEEDED, 0, 1);
  }
  if (!findRoute(skb, family, end.route, c.real, clock())) return because(REASONS.noRoute);
  if (isTooLong(skb, end.route, 0, IPPROTO_ICMP)) {
    because(REASONS.tooLong);
    family.finish(ip, 0);
    return answerWith(skb, family, TOO_BIG, end.route.mtu, 1);
  }
  if (!rewrite(skb, family, SOURCE, end.address, end.port)) return because(REASONS.truncated);
  return sendTo(skb, family, end.route);
}

function inwards(skb: Skb, family: Family, c: Connection): number {
  const ip = skb.header(family.Header, ETHERNET);
  if (ip === null) return because(REASONS.truncated);
  rearm(c, clock());
  if (ip.timeToLive <= 1) return because(REASONS.timeToLive);
  if (!findRoute(skb, family, c.route, c.client, clock())) return because(REASONS.noRoute);
  if (isTooLong(skb, c.route, 0, IPPROTO_ICMP)) {
    because(REASONS.tooLong);
    family.finish(ip, 0);
    return answerWith(skb, family, TOO_BIG, c.route.mtu);
  }
  if (!rewrite(skb, family, DESTINATION, c.client, c.clientPort)) return because(REASONS.truncated);
  return sendTo(skb, family, c.route);
}

const differenceOf = (old: be16, next: be16): number => wordDifference(raw(old), raw(next));

/** One address, and the identifier; ICMPv6 sums up addresses too. */
function rewrite(skb: Skb, family: Family, side: Side, to: Address6, id: be16): boolean {
  const ip = skb.header(family.Header, ETHERNET);
  if (ip === null) return false;
  const message = skb.header(Echo, family.transport(ip));
  if (message === null) return false;
  const address = side.address(ip);
  const difference = family.difference(address, to);
  const ofMessage = differenceOf(message.id, id) + (family.number === AF_INET ? 0 : difference);
  family.narrow(address, to);
  family.finish(ip, u32(difference));
  message.id = id;
  message.checksum = patch(message.checksum, fold32(ofMessage));
  return true;
}

/** An error about a request of a masqueraded host, from the outside. */
function aboutEcho(skb: Skb, family: Family, at: u32): number {
  const ip = skb.header(family.Header, ETHERNET);
  const quoted = skb.header(family.Header, at + ICMP);
  if (ip === null || quoted === null) return because(REASONS.truncated);
  const message = skb.header(Echo, at + ICMP - ETHERNET + family.transport(quoted));
  if (message === null || message.type !== family.echoRequest) return TC_ACT_UNSPEC;
  // It quotes a packet that went the other way.
  const tuple = stack(family.Tuple, { sourcePort: NO_PORT, destinationPort: message.id, protocol: family.icmp });
  assign(tuple.source, quoted.destination);
  assign(tuple.destination, quoted.source);
  const flow = findFlow(family, tuple);
  if (flow === NO_FLOW || directionOf(flow) !== REPLY) return TC_ACT_UNSPEC;
  const c = connectionAt(numberOf(flow), clock());
  if (c === null || c.server !== NONE) return TC_ACT_UNSPEC;
  if (ip.timeToLive <= 1) return because(REASONS.timeToLive);
  if (!hasRightChecksum(skb, family)) return because(REASONS.badChecksum);
  if (!findRoute(skb, family, c.route, c.client, clock())) return because(REASONS.noRoute);
  return translate(skb, family, c, at) ? sendTo(skb, family, c.route) : because(REASONS.truncated);
}

function translate(skb: Skb, family: Family, c: Connection, at: u32): boolean {
  const ip = skb.header(family.Header, ETHERNET);
  const quoted = skb.header(family.Header, at + ICMP);
  if (ip === null || quoted === null) return false;
  const message = skb.header(Echo, at + ICMP - ETHERNET + family.transport(quoted));
  if (message === null) return false;
  const ofAddress = family.difference(ip.destination, c.client);
  const ofQuoted = differenceOf(message.id, c.clientPort) + (family.number === AF_INET ? 0 : ofAddress);
  family.narrow(ip.destination, c.client);
  family.narrow(quoted.source, c.client);
  message.id = c.clientPort;
  message.checksum = patch(message.checksum, fold32(ofQuoted));
  return finish(skb, family, u32(ofAddress));
}
