/**
 * The journey of a packet: parsed, known as part of a connection or let to open one, then told by request.ts or reply.ts.
 *
 * A packet that is none of ours leaves here untouched (TC_ACT_UNSPEC) and goes on to the host.
 */
import { assign, htons, type Skb, stack, TC_ACT_UNSPEC, tailCall, u32 } from '@ipvsd/bpf';
import { toAltered } from './altered.ts';
import { ALTERED, type Connection, LIMITED, SHAKING } from './connection/connection.ts';
import { directionOf, findFlowFast, NO_FLOW, numberOf } from './connection/flows.ts';
import { connectionAt, expire, expireSoon } from './connection/lifecycle.ts';
import { beginPlan } from './connection/opening.ts';
import { isFinished } from './connection/reuse.ts';
import { because, REASONS } from './counters.ts';
import { type Family, IPV4, IPV6, REPLY, REQUEST } from './family.ts';
import { AF_INET } from './packet/address.ts';
import { ETHERNET, IPPROTO_AH, IPPROTO_ESP, IPPROTO_GRE, IPPROTO_UDP, Ports } from './packet/headers.ts';
import { eventOf, isBalanced, isFirst } from './protocol/index.ts';
import { TRUNCATED } from './protocol/protocol.ts';
import { reply } from './reply.ts';
import { request } from './request.ts';
import { NONE, SERVER_AVAILABLE, servers, standingOf } from './service/service.ts';
import { now as clock, settings } from './settings.ts';
import { CALL, FIRST_PACKET, FRAGMENT, RELATED, stages } from './stages.ts';
import { wasTunneled } from './tunneled.ts';

const ETH_P_IP = htons(0x0800);
const ETH_P_IPV6 = htons(0x86dd);
/** Addressed to this host by its link address. */
export const PACKET_HOST = 0;
/** Key exchange of IPsec (RFC 7296), UDP on both sides: AH and ESP follow its connection. */
const ISAKMP = htons(500);

/** Calls `step` with the packet's family; what is not IP goes on untouched. */
export function byFamily(skb: Skb, step: (skb: Skb, family: Family) => number): number {
  const protocol = skb.protocol;
  if (protocol === ETH_P_IP) return step(skb, IPV4);
  if (protocol === ETH_P_IPV6) return step(skb, IPV6);
  return TC_ACT_UNSPEC;
}

export function director(skb: Skb): number {
  if (skb.pktType !== PACKET_HOST) return TC_ACT_UNSPEC;
  if (wasTunneled(skb)) return because(REASONS.tunneled);
  return byFamily(skb, journey);
}

function journey(skb: Skb, family: Family): number {
  // Without a service of the family even packets of connections are the host's, as the kernel's hooks are gone then.
  if (family.hasServices() === 0) return withoutServices(skb, family);
  const ip = skb.header(family.Header, ETHERNET);
  if (ip === null) return because(REASONS.truncated);
  const protocol = ip.protocol;
  const encrypted = protocol === IPPROTO_ESP || protocol === IPPROTO_AH;
  if (!isBalanced(protocol) && !encrypted) {
    if (protocol === family.icmp) return tailCall(skb, stages, RELATED);
    if (family.isFragmented(ip)) return tailCall(skb, stages, FRAGMENT);
    return protocol === IPPROTO_GRE ? tailCall(skb, stages, CALL) : TC_ACT_UNSPEC;
  }
  if (!family.isValid(ip)) return because(REASONS.malformed);
  if (family.isFragment(ip)) return tailCall(skb, stages, FRAGMENT);
  const transport = family.transport(ip);
  const ports = skb.header(Ports, transport);
  const event = eventOf(skb, protocol, transport);
  if (ports === null || event === TRUNCATED) return because(REASONS.truncated);

  const tuple = stack(family.Tuple, {
    sourcePort: ports.sourcePort,
    destinationPort: ports.destinationPort,
    protocol,
  });
  if (encrypted) {
    tuple.sourcePort = ISAKMP;
    tuple.destinationPort = ISAKMP;
    tuple.protocol = IPPROTO_UDP;
  }
  assign(tuple.source, ip.source);
  assign(tuple.destination, ip.destination);
  let finished: u32 = NONE;
  const flow = findFlowFast(family, tuple);
  if (flow !== NO_FLOW) {
    const index = numberOf(flow);
    // Asked once for the whole journey: each question is a call into the kernel.
    const now = clock();
    const c = connectionAt(index, now);
    if (c !== null) {
      if (directionOf(flow) !== REQUEST) {
        if ((c.flags & ALTERED) === 0) return reply(skb, family, ip, ports, transport, c, event, protocol, now);
        return toAltered(skb, c, REPLY);
      }
      const fate = fateOf(c, event);
      if (fate === GOES_ON) {
        if ((c.flags & ALTERED) === 0) return request(skb, family, ip, ports, transport, c, event, protocol, now);
        return toAltered(skb, c, REQUEST);
      }
      if (fate === FINISHED) finished = index;
      else if (fate === QUIESCED) expireSoon(c, index);
      else expire(index);
    }
  }
  beginPlan(finished);
  return tailCall(skb, stages, FIRST_PACKET);
}

/** Packets of IPv4 that we put into a tunnel of IPv6 in pieces come in once more. */
function withoutServices(skb: Skb, family: Family): number {
  if (family.number === AF_INET) return TC_ACT_UNSPEC;
  const ip = skb.header(family.Header, ETHERNET);
  return ip !== null && family.isFragmented(ip) ? tailCall(skb, stages, FRAGMENT) : TC_ACT_UNSPEC;
}

const GOES_ON = 0;
/** The client uses its port anew: the packet is a first one, and may have the old one's entry. */
const FINISHED = 1;
/** The same where the real server shall have no new ones: the old entry goes. */
const QUIESCED = 2;
/** Its real server is gone, and so is it. */
const FORSAKEN = 3;

/** What a client's packet means for the connection that knows it. */
function fateOf(c: Connection, event: u32): u32 {
  if (c.controls !== 0) return GOES_ON;
  const first = isFirst(c.protocol, event);
  if (first) {
    if (isFinished(c, c.state)) return FINISHED;
    if ((c.flags & LIMITED) !== 0) c.flags = u32(c.flags | SHAKING);
  }
  if (settings.only.expireNoDestination === 0) return GOES_ON;
  const server = servers.at(c.server);
  if (server === null) return GOES_ON;
  if ((server.flags & SERVER_AVAILABLE) === 0) return FORSAKEN;
  return first && standingOf(c.server).weight === 0 ? QUIESCED : GOES_ON;
}
