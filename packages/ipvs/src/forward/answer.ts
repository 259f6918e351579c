/**
 * ICMP errors that the director answers with. The packet itself becomes the answer: cut to what may be quoted, with headers put
 * before it, from the virtual service to the client.
 *
 * A client that finds no real server hears so at once: port unreachable, for TCP too (as IPVS does; a RST would say that somebody
 * was there).
 */
import {
  adjustRoom,
  BPF_ADJ_ROOM_MAC,
  changeTail,
  htonl,
  htons,
  randomU32,
  raw,
  rawBe16,
  type Skb,
  stack,
  TC_ACT_SHOT,
  tailCall,
  type u8,
  u32,
  type ViewOf,
} from '@ipvsd/bpf';
import { endOnce } from '../connection/once.ts';
import type { Family } from '../family.ts';
import { Address6, AF_INET } from '../packet/address.ts';
import { ETHERNET, ICMP, Icmp, IPPROTO_ICMP, IPPROTO_ICMPV6 } from '../packet/headers.ts';
import { finishSum, sumOf } from '../packet/sum.ts';
import { writeIpv4, writeIpv6 } from '../packet/write.ts';
import { Route } from '../service/service.ts';
import { now as clock } from '../settings.ts';
import { ANSWER, errandOf, stages } from '../stages.ts';
import { findRoute, findSource, sendTo } from './route.ts';

/** Type and code of an error (RFC 792, RFC 4443). */
export interface Kind {
  readonly v4: readonly [type: number, code: number];
  readonly v6: readonly [type: number, code: number];
}
export const PORT_UNREACHABLE: Kind = { v4: [3, 3], v6: [1, 4] };
export const TIME_EXCEEDED: Kind = { v4: [11, 0], v6: [3, 0] };
/** Fragmentation needed, packet too big: with the MTU. */
export const TOO_BIG: Kind = { v4: [3, 4], v6: [2, 0] };

/** The whole answer fits into what every link carries. */
const QUOTE_4 = 576 - 20 - ICMP;
const QUOTE_6 = 1280 - 40 - ICMP;
const TIME_TO_LIVE = 64;
/** RFC 1812 4.3.2.5: errors go with precedence "internetwork control"; the type of service stays. */
const INTERNETWORK_CONTROL = 0xc0;
const TOS_MASK = 0x1e;

/** Answer the packet with an error; `mtu` is 0 where it has none; `own` as in the errand. The stage comes by tail call. */
export function answerWith(skb: Skb, family: Family, { v4, v6 }: Kind, mtu: u32, own = 0): number {
  const errand = errandOf();
  if (errand === null) return TC_ACT_SHOT;
  errand.type = family.number === AF_INET ? v4[0] : v6[0];
  errand.code = family.number === AF_INET ? v4[1] : v6[1];
  errand.rest = htonl(mtu);
  errand.own = own;
  endOnce();
  return tailCall(skb, stages, ANSWER);
}

/** The stage: the packet becomes the error that the errand says. */
export function answer(skb: Skb, family: Family): number {
  const ip = skb.header(family.Header, ETHERNET);
  if (ip === null) return TC_ACT_SHOT;
  const client = stack(Address6);
  const virtual = stack(Address6);
  family.widen(client, ip.source);
  family.widen(virtual, ip.destination);
  const errand = errandOf();
  if (errand === null) return TC_ACT_SHOT;
  if (errand.own !== 0 && !findSource(skb, family, virtual, client)) return TC_ACT_SHOT;
  const tos: u8 = family.number === AF_INET ? (ip.tos & TOS_MASK) | INTERNETWORK_CONTROL : 0;
  const most: u32 = family.number === AF_INET ? QUOTE_4 : QUOTE_6;
  const length = family.length(ip);
  const there = u32(skb.len - ETHERNET);
  let quoted: u32 = length;
  if (quoted > most) quoted = most;
  if (quoted > there) quoted = there;
  if (there > quoted && changeTail(skb, ETHERNET + quoted, 0) !== 0) return TC_ACT_SHOT;
  const room = family.number === AF_INET ? 20 + ICMP : 40 + ICMP;
  if (adjustRoom(skb, room, BPF_ADJ_ROOM_MAC, 0) !== 0) return TC_ACT_SHOT;
  const written =
    family.number === AF_INET ? write4(skb, virtual, client, tos, quoted) : write6(skb, virtual, client, quoted);
  if (!written) return TC_ACT_SHOT;
  const route = stack(Route);
  if (!findRoute(skb, family, route, client, clock())) return TC_ACT_SHOT;
  return sendTo(skb, family, route);
}

function write4(skb: Skb, from: Address6, to: Address6, tos: u8, quoted: u32): boolean {
  const id = randomU32() & 0xffff;
  if (!writeIpv4(skb, ETHERNET, tos, 20 + ICMP + quoted, id, 0, TIME_TO_LIVE, IPPROTO_ICMP, from, to)) return false;
  const icmp = skb.header(Icmp, ETHERNET + 20);
  if (icmp === null || !say(icmp)) return false;
  icmp.checksum = rawBe16(finishSum(sumOf(skb, ETHERNET + 20, ICMP + quoted)) & 0xffff);
  return true;
}

function write6(skb: Skb, from: Address6, to: Address6, quoted: u32): boolean {
  const length = (ICMP + quoted) & 0xffff;
  if (!writeIpv6(skb, ETHERNET, 0, length, TIME_TO_LIVE, IPPROTO_ICMPV6, from, to)) return false;
  const icmp = skb.header(Icmp, ETHERNET + 40);
  if (icmp === null || !say(icmp)) return false;
  const pseudo = sumOf(skb, ETHERNET + 8, 32) + raw(htons(length)) + raw(htons(IPPROTO_ICMPV6));
  icmp.checksum = rawBe16(finishSum(pseudo + sumOf(skb, ETHERNET + 40, length)) & 0xffff);
  return true;
}

/** What the errand says, for the checksum to be made over it. */
function say(icmp: ViewOf<typeof Icmp>): boolean {
  const errand = errandOf();
  if (errand === null) return false;
  icmp.type = errand.type;
  icmp.code = errand.code;
  icmp.checksum = htons(0);
  icmp.rest = errand.rest;
  return true;
}
