/**
 * A client that finds no real server hears so at once: ICMP port unreachable, for TCP too (as IPVS does; a RST would say that
 * somebody was there). The packet itself becomes the answer: cut to what may be quoted, with headers put before it.
 */
import {
  adjustRoom,
  assign,
  BPF_ADJ_ROOM_MAC,
  be16,
  changeTail,
  htonl,
  htons,
  randomU32,
  raw,
  rawBe16,
  type Skb,
  stack,
  struct,
  TC_ACT_SHOT,
  u8,
  u32,
} from '@ipvsd/bpf';
import type { Family } from '../family.ts';
import { Address6, AF_INET } from '../packet/address.ts';
import { ETHERNET, IPPROTO_ICMP, IPPROTO_ICMPV6, Ipv4, Ipv6 } from '../packet/headers.ts';
import { finishSum, sumOf } from '../packet/sum.ts';
import { Route } from '../service/service.ts';
import { now as clock } from '../settings.ts';
import { findRoute, sendTo } from './route.ts';

const Icmp = struct('icmp', { type: u8, code: u8, checksum: be16, rest: u32 });
const ICMP = 8;

/** RFC 792: type 3 code 3. RFC 4443: type 1 code 4. */
const UNREACHABLE_4 = 3;
const PORT_4 = 3;
const UNREACHABLE_6 = 1;
const PORT_6 = 4;
/** The whole answer fits into what every link carries. */
const QUOTE_4 = 576 - 20 - ICMP;
const QUOTE_6 = 1280 - 40 - ICMP;
const TIME_TO_LIVE = 64;
/** RFC 1812 4.3.2.5: errors go with precedence "internetwork control"; the type of service stays. */
const INTERNETWORK_CONTROL = 0xc0;
const TOS_MASK = 0x1e;

/** @subprog */
export function reject(skb: Skb, family: Family): number {
  const ip = skb.header(family.Header, ETHERNET);
  if (ip === null) return TC_ACT_SHOT;
  const client = stack(Address6);
  const virtual = stack(Address6);
  family.widen(client, ip.source);
  family.widen(virtual, ip.destination);
  const tos: u8 = family.number === AF_INET ? (ip.tos & TOS_MASK) | INTERNETWORK_CONTROL : 0;
  const most: u32 = family.number === AF_INET ? QUOTE_4 : QUOTE_6;
  const length = family.length(ip);
  const quoted: u32 = length < most ? length : most;
  if (skb.len > ETHERNET + quoted && changeTail(skb, ETHERNET + quoted, 0) !== 0) return TC_ACT_SHOT;
  const room = family.number === AF_INET ? 20 + ICMP : 40 + ICMP;
  if (adjustRoom(skb, room, BPF_ADJ_ROOM_MAC, 0) !== 0) return TC_ACT_SHOT;
  const written =
    family.number === AF_INET ? write4(skb, virtual, client, tos, quoted) : write6(skb, virtual, client, quoted);
  if (!written) return TC_ACT_SHOT;
  const route = stack(Route);
  if (!findRoute(skb, family, route, client, clock())) return TC_ACT_SHOT;
  return sendTo(family, route);
}

function write4(skb: Skb, from: Address6, to: Address6, tos: u8, quoted: u32): boolean {
  const ip = skb.header(Ipv4, ETHERNET);
  const icmp = skb.header(Icmp, ETHERNET + 20);
  if (ip === null || icmp === null) return false;
  ip.versionAndLength = 0x45;
  ip.tos = tos;
  ip.length = htons((20 + ICMP + quoted) & 0xffff);
  ip.id = rawBe16(randomU32() & 0xffff);
  ip.fragment = htons(0);
  ip.timeToLive = TIME_TO_LIVE;
  ip.protocol = IPPROTO_ICMP;
  ip.checksum = htons(0);
  ip.source.a = from.a;
  ip.destination.a = to.a;
  icmp.type = UNREACHABLE_4;
  icmp.code = PORT_4;
  icmp.checksum = htons(0);
  icmp.rest = 0;
  const headerSum = finishSum(sumOf(skb, ETHERNET, 20)) & 0xffff;
  const sum = finishSum(sumOf(skb, ETHERNET + 20, ICMP + quoted)) & 0xffff;
  ip.checksum = rawBe16(headerSum);
  icmp.checksum = rawBe16(sum);
  return true;
}

function write6(skb: Skb, from: Address6, to: Address6, quoted: u32): boolean {
  const ip = skb.header(Ipv6, ETHERNET);
  const icmp = skb.header(Icmp, ETHERNET + 40);
  if (ip === null || icmp === null) return false;
  const length = (ICMP + quoted) & 0xffff;
  ip.versionAndClass = htonl(0x6000_0000);
  ip.payloadLength = htons(length);
  ip.protocol = IPPROTO_ICMPV6;
  ip.timeToLive = TIME_TO_LIVE;
  assign(ip.source, from);
  assign(ip.destination, to);
  icmp.type = UNREACHABLE_6;
  icmp.code = PORT_6;
  icmp.checksum = htons(0);
  icmp.rest = 0;
  const pseudo = sumOf(skb, ETHERNET + 8, 32) + raw(htons(length)) + raw(htons(IPPROTO_ICMPV6));
  icmp.checksum = rawBe16(finishSum(pseudo + sumOf(skb, ETHERNET + 40, length)) & 0xffff);
  return true;
}
