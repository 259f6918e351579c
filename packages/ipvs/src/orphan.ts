/**
 * A packet that no connection knows and no virtual service is for. With nat_icmp_send set, one from a real server of NAT is
 * answered with port unreachable: its connection has expired here, and the real server may forget it too.
 */
import { loop, raw, type Skb, stack, TC_ACT_UNSPEC, tailCall, type u32 } from '@ipvsd/bpf';
import { because, REASONS } from './counters.ts';
import type { Family } from './family.ts';
import { answerWith, PORT_UNREACHABLE } from './forward/answer.ts';
import { Address6 } from './packet/address.ts';
import { ETHERNET, IPPROTO_SCTP, IPPROTO_TCP, Ports, SctpChunk, Tcp } from './packet/headers.ts';
import { isBalanced } from './protocol/index.ts';
import { METHOD_MASQ, SERVER_AVAILABLE, servers } from './service/service.ts';
import { ranges } from './service/statistics.ts';
import { settings } from './settings.ts';
import { errandOf, MASQUERADE, ORPHAN, OUTGOING, stages } from './stages.ts';

/** A packet that no connection knows and that is for no virtual service; `opens`: it may open a connection. */
export function orphaned(skb: Skb, opens: boolean): number {
  const errand = errandOf();
  if (errand === null) return because(REASONS.corrupt);
  errand.opens = opens ? 1 : 0;
  return settings.only.engineServers === 0 ? unclaimed(skb) : tailCall(skb, stages, OUTGOING);
}

/** No persistence engine knows it either: it may be one of a host's that is masqueraded. */
export function unclaimed(skb: Skb): number {
  return settings.only.masquerades === 0 ? unanswered(skb) : tailCall(skb, stages, MASQUERADE);
}

/** To the stage, where it is asked for; else the packet is the host's. */
export function unanswered(skb: Skb): number {
  return settings.only.natIcmpSend === 0 ? TC_ACT_UNSPEC : tailCall(skb, stages, ORPHAN);
}

const RST = 4;
const ABORT = 6;
const SCTP_HEADER = 12;

/** The stage. */
export function orphan(skb: Skb, family: Family): number {
  const ip = skb.header(family.Header, ETHERNET);
  if (ip === null) return because(REASONS.truncated);
  if (!isBalanced(ip.protocol)) return TC_ACT_UNSPEC;
  const transport = family.transport(ip);
  const ports = skb.header(Ports, transport);
  if (ports === null) return because(REASONS.truncated);
  // Who resets a connection knows already.
  if (ip.protocol === IPPROTO_TCP) {
    const tcp = skb.header(Tcp, transport);
    if (tcp === null || (tcp.flags & RST) !== 0) return TC_ACT_UNSPEC;
  } else if (ip.protocol === IPPROTO_SCTP) {
    const chunk = skb.header(SctpChunk, transport + SCTP_HEADER);
    if (chunk === null || chunk.type === ABORT) return TC_ACT_UNSPEC;
  }
  const source = stack(Address6);
  family.widen(source, ip.source);
  const port = ports.sourcePort;
  const number = family.number;
  let known: u32 = 0;
  loop(ranges.only.servers, (index) => {
    const s = servers.at(index);
    if (s === null) return 1;
    if ((s.flags & SERVER_AVAILABLE) === 0 || s.method !== METHOD_MASQ || s.family !== number) return 0;
    if (raw(s.port) !== raw(port) || raw(s.address.a) !== raw(source.a)) return 0;
    if (raw(s.address.b) !== raw(source.b) || raw(s.address.c) !== raw(source.c)) return 0;
    if (raw(s.address.d) !== raw(source.d)) return 0;
    known = 1;
    return 1;
  });
  if (known === 0) return TC_ACT_UNSPEC;
  const again = skb.header(family.Header, ETHERNET);
  if (again === null) return because(REASONS.truncated);
  if (again.timeToLive <= 1) return because(REASONS.replyOutlived);
  because(REASONS.orphan);
  family.finish(again, 0);
  return answerWith(skb, family, PORT_UNREACHABLE, 0, 1);
}
