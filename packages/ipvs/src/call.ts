/**
 * The stage of GRE: packets of calls that the helper of PPTP expects (RFC 2637 4.1). All else that GRE carries is the host's.
 */
import { be16, htons, raw, type Skb, struct, TC_ACT_UNSPEC, u32 } from '@ipvsd/bpf';
import { findCall, receiversNumber } from './connection/calls.ts';
import { directionOf, NO_FLOW, numberOf } from './connection/flows.ts';
import { connectionAt } from './connection/lifecycle.ts';
import { because, REASONS } from './counters.ts';
import { type Family, REQUEST } from './family.ts';
import { ETHERNET, IPPROTO_GRE, Ports } from './packet/headers.ts';
import { reply } from './reply.ts';
import { request } from './request.ts';
import { now as clock } from './settings.ts';

/** Enhanced GRE: its key is the length of what it carries, and the receiver's number of the call. */
const CallHeader = struct('call_header', { flags: be16, protocol: be16, length: be16, call: be16 });
const PPP = htons(0x880b);
const VERSION_MASK = raw(htons(0x2007));
/** Version 1, with a key. */
const ENHANCED = raw(htons(0x2001));

export function call(skb: Skb, family: Family): number {
  const ip = skb.header(family.Header, ETHERNET);
  if (ip === null) return because(REASONS.truncated);
  if (!family.isValid(ip)) return because(REASONS.malformed);
  const transport = family.transport(ip);
  const gre = skb.header(CallHeader, transport);
  const ports = skb.header(Ports, transport);
  if (gre === null || ports === null) return TC_ACT_UNSPEC;
  if (gre.protocol !== PPP || u32(raw(gre.flags) & VERSION_MASK) !== ENHANCED) return TC_ACT_UNSPEC;
  const flow = findCall(family, ip, gre.call);
  if (flow === NO_FLOW) return TC_ACT_UNSPEC;
  const direction = directionOf(flow);
  const now = clock();
  const c = connectionAt(numberOf(flow), now);
  if (c === null) return TC_ACT_UNSPEC;
  gre.call = receiversNumber(c, direction);
  if (direction === REQUEST) return request(skb, family, ip, ports, transport, c, 0, IPPROTO_GRE, now);
  return reply(skb, family, ip, ports, transport, c, 0, IPPROTO_GRE, now);
}
