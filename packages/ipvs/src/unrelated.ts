/**
 * An ICMP error about a connection that is not known here, as another director may have had it: with schedule_icmp set it opens
 * one, as the packet would have done that it tells of (so that routers may send errors to any of several directors).
 */
import { type Skb, TC_ACT_UNSPEC } from '@ipvsd/bpf';
import { OF_PACKET, openings, planOf } from './connection/opening.ts';
import { because, REASONS } from './counters.ts';
import type { Family } from './family.ts';
import { admit } from './first-packet.ts';
import { ETHERNET, ICMP, Ports } from './packet/headers.ts';
import { isBalanced } from './protocol/index.ts';
import { NONE } from './service/service.ts';
import { settings } from './settings.ts';

/** The stage. */
export function unrelated(skb: Skb, family: Family): number {
  if (settings.only.scheduleIcmp === 0) return TC_ACT_UNSPEC;
  const ip = skb.header(family.Header, ETHERNET);
  if (ip === null) return because(REASONS.truncated);
  const at = family.transport(ip) + ICMP;
  const quoted = skb.header(family.Header, at);
  if (quoted === null) return because(REASONS.truncated);
  const protocol = quoted.protocol;
  if (!isBalanced(protocol)) return TC_ACT_UNSPEC;
  const ports = skb.header(Ports, at - ETHERNET + family.transport(quoted));
  if (ports === null) return because(REASONS.truncated);
  const opening = openings.at(OF_PACKET);
  const plan = planOf();
  if (opening === null || plan === null) return because(REASONS.corrupt);
  opening.clientPort = ports.destinationPort;
  opening.virtualPort = ports.sourcePort;
  opening.protocol = protocol;
  opening.family = family.number;
  family.widen(opening.client, quoted.destination);
  family.widen(opening.virtual, quoted.source);
  plan.finished = NONE;
  return admit(skb, opening, plan, true);
}
