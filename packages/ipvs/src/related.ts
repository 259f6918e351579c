/**
 * ICMP errors about a connection: from its client's side they belong to its real server, from the real server's side to its
 * client. Under NAT each must read as if it were about the packet that the receiver has sent: the quoted packet is translated
 * back, its own transport checksum left as it is (as IPVS does; nobody can check it, most of the packet is missing).
 *
 * Errors only come to those who asked: what is about none of our connections is the host's, echo as well.
 */
import { assign, type be16, rawBe16, type Skb, stack, TC_ACT_UNSPEC, tailCall, u32 } from '@ipvsd/bpf';
import { type Connection, METHOD_MASK } from './connection/connection.ts';
import { directionOf, findFlow, NO_FLOW, numberOf } from './connection/flows.ts';
import { connectionAt } from './connection/lifecycle.ts';
import { localEnds } from './connection/local-end.ts';
import { because, REASONS } from './counters.ts';
import { type Family, REQUEST } from './family.ts';
import { enterTunnel } from './forward/forward.ts';
import { DESTINATION, type Side, SOURCE } from './forward/nat.ts';
import { findRoute, sendTo } from './forward/route.ts';
import { type Address6, AF_INET } from './packet/address.ts';
import { fold32 } from './packet/checksum.ts';
import { ETHERNET, ICMP, Icmp, IPPROTO_AH, IPPROTO_ESP, Ports } from './packet/headers.ts';
import { finishSum, sumOf } from './packet/sum.ts';
import { isBalanced } from './protocol/index.ts';
import {
  METHOD_FULLNAT,
  METHOD_LOCAL,
  METHOD_MASQ,
  METHOD_TUNNEL,
  SERVER_AVAILABLE,
  servers,
} from './service/service.ts';
import { countIn, countOut } from './service/statistics.ts';
import { now as clock, settings } from './settings.ts';
import { ECHO, OWN_TUNNEL, stages, UNRELATED } from './stages.ts';

/** The stage. */
export function related(skb: Skb, family: Family): number {
  const ip = skb.header(family.Header, ETHERNET);
  if (ip === null) return because(REASONS.truncated);
  if (!family.isValid(ip)) return because(REASONS.malformed);
  if (family.isFragment(ip)) return because(REASONS.fragment);
  const at = family.transport(ip);
  const icmp = skb.header(Icmp, at);
  if (icmp === null) return because(REASONS.truncated);
  if (!family.isError(icmp.type)) return echoes(skb);
  const quoted = skb.header(family.Header, at + ICMP);
  if (quoted === null) return because(REASONS.truncated);
  if (!family.isValid(quoted)) return because(REASONS.malformed);
  if (family.isLaterFragment(quoted)) return because(REASONS.fragment);
  const protocol = quoted.protocol;
  if (isBalanced(protocol)) {
    const ports = skb.header(Ports, at + ICMP - ETHERNET + family.transport(quoted));
    if (ports === null) return because(REASONS.truncated);
    // It quotes a packet that went the other way.
    const tuple = stack(family.Tuple, {
      sourcePort: ports.destinationPort,
      destinationPort: ports.sourcePort,
      protocol,
    });
    assign(tuple.source, quoted.destination);
    assign(tuple.destination, quoted.source);
    const flow = findFlow(family, tuple);
    if (flow !== NO_FLOW) {
      const towards = directionOf(flow);
      const c = connectionAt(numberOf(flow), clock());
      if (c !== null) return towards === REQUEST ? toServer(skb, family, c) : toClient(skb, family, c);
    }
  } else if (protocol === IPPROTO_ESP || protocol === IPPROTO_AH) {
    return TC_ACT_UNSPEC;
  } else if (protocol === family.icmp) {
    return echoes(skb);
  }
  return tailCall(skb, stages, family.number === AF_INET ? OWN_TUNNEL : UNRELATED);
}

/** Echo, and errors about it, are the director's business only where hosts are masqueraded. */
const echoes = (skb: Skb): number => (settings.only.masquerades === 0 ? TC_ACT_UNSPEC : tailCall(skb, stages, ECHO));

function toServer(skb: Skb, family: Family, c: Connection): number {
  const server = servers.at(c.server);
  const method = c.flags & METHOD_MASK;
  if (server === null) return method === METHOD_FULLNAT ? toOutside(skb, family, c) : because(REASONS.bypassed);
  const translates = method === METHOD_MASQ || method === METHOD_FULLNAT;
  const checked = !translates || hasRightChecksum(skb, family);
  if (!checked) return because(REASONS.badChecksum);
  if ((server.flags & SERVER_AVAILABLE) !== 0) countIn(c.server, u32(skb.len - ETHERNET));
  if (method === METHOD_LOCAL) return because(REASONS.local);
  const ip = skb.header(family.Header, ETHERNET);
  if (ip === null) return because(REASONS.truncated);
  // No error is answered with another.
  if (ip.timeToLive <= 1) return because(REASONS.timeToLive);
  if (method === METHOD_TUNNEL) return enterTunnel(skb, c.server);
  if (!findRoute(skb, family, server.route, server.address, clock())) return because(REASONS.noRoute);
  if (!translates) {
    family.finish(ip, 0);
    return sendTo(skb, family, server.route);
  }
  let changed: u32 = readdress(skb, family, DESTINATION, SOURCE, c.real, c.realPort);
  if (method === METHOD_FULLNAT) {
    const end = localEnds.at(c.number);
    if (end === null) return because(REASONS.corrupt);
    changed = fold32(changed + readdress(skb, family, SOURCE, DESTINATION, end.address, end.port));
  }
  return finish(skb, family, changed) ? sendTo(skb, family, server.route) : because(REASONS.truncated);
}

/** From a masqueraded host, or from a router on the way to it. */
function toOutside(skb: Skb, family: Family, c: Connection): number {
  const ip = skb.header(family.Header, ETHERNET);
  const end = localEnds.at(c.number);
  if (ip === null || end === null) return because(REASONS.corrupt);
  if (!hasRightChecksum(skb, family)) return because(REASONS.badChecksum);
  if (ip.timeToLive <= 1) return because(REASONS.timeToLive);
  if (!findRoute(skb, family, end.route, c.real, clock())) return because(REASONS.noRoute);
  const changed = readdress(skb, family, SOURCE, DESTINATION, end.address, end.port);
  return finish(skb, family, changed) ? sendTo(skb, family, end.route) : because(REASONS.truncated);
}

function toClient(skb: Skb, family: Family, c: Connection): number {
  const method = c.flags & METHOD_MASK;
  const fullnat = method === METHOD_FULLNAT;
  if (method !== METHOD_MASQ && !fullnat) return because(REASONS.reply);
  const ip = skb.header(family.Header, ETHERNET);
  if (ip === null) return because(REASONS.truncated);
  if (ip.timeToLive <= 1) return fullnat ? because(REASONS.timeToLive) : because(REASONS.replyOutlived);
  if (!hasRightChecksum(skb, family)) return because(REASONS.badChecksum);
  const server = servers.at(c.server);
  if (server !== null && (server.flags & SERVER_AVAILABLE) !== 0) countOut(c.server, u32(skb.len - ETHERNET));
  if (!findRoute(skb, family, c.route, c.client, clock())) return because(REASONS.noRoute);
  let changed: u32 = 0;
  // A masqueraded host hears from whom the error is; clients know only the virtual service.
  if (server !== null) changed = readdress(skb, family, SOURCE, DESTINATION, c.virtual, c.virtualPort);
  if (fullnat) changed = fold32(changed + readdress(skb, family, DESTINATION, SOURCE, c.client, c.clientPort));
  return finish(skb, family, changed) ? sendTo(skb, family, c.route) : because(REASONS.truncated);
}

/** Whether the ICMP message is all there and its checksum is right. */
export function hasRightChecksum(skb: Skb, family: Family): boolean {
  const ip = skb.header(family.Header, ETHERNET);
  if (ip === null) return false;
  const at = family.transport(ip);
  const end = family.length(ip) + ETHERNET;
  if (end > skb.len || end < at + ICMP) return false;
  const length = u32(end - at) & 0xffff;
  return finishSum(family.icmpSum(ip, length) + sumOf(skb, at, length)) === 0;
}

/**
 * The message's `side` becomes `to`, and so does the other side of the packet that it quotes, with its port. Says how the sum
 * of the outer header changes; the checksums are made by `finish`.
 */
function readdress(skb: Skb, family: Family, side: Side, other: Side, to: Address6, port: be16): u32 {
  const ip = skb.header(family.Header, ETHERNET);
  if (ip === null) return 0;
  const at = family.transport(ip) + ICMP;
  const quoted = skb.header(family.Header, at);
  if (quoted === null) return 0;
  const ports = skb.header(Ports, at - ETHERNET + family.transport(quoted));
  if (ports === null) return 0;
  const address = side.address(ip);
  const difference = family.difference(address, to);
  family.narrow(address, to);
  family.narrow(other.address(quoted), to);
  other.setPort(ports, port);
  return u32(difference);
}

/** A message with new addresses: one hop less, and its checksums made anew. */
export function finish(skb: Skb, family: Family, difference: u32): boolean {
  const ip = skb.header(family.Header, ETHERNET);
  if (ip === null) return false;
  const at = family.transport(ip);
  const icmp = skb.header(Icmp, at);
  const quoted = skb.header(family.Header, at + ICMP);
  if (icmp === null || quoted === null) return false;
  const inner = family.transport(quoted) - ETHERNET;
  const length = u32(family.length(ip) + ETHERNET - at) & 0xffff;
  family.finish(ip, difference);
  if (family.number === AF_INET) {
    quoted.checksum = rawBe16(0);
    quoted.checksum = rawBe16(finishSum(sumOf(skb, at + ICMP, inner)) & 0xffff);
  }
  icmp.checksum = rawBe16(0);
  icmp.checksum = rawBe16(finishSum(family.icmpSum(ip, length) + sumOf(skb, at, length)) & 0xffff);
  return true;
}
