/**
 * ICMP errors about a connection of NAT64 (nat64.ts), in the words of the other family (RFC 7915, 4.2 and 5.2), and with them the
 * packet that they quote. What the other family has no word for is dropped. From whom an error is cannot be said there: to the client
 * it comes from the virtual service, to the real server from the local address.
 */
import { type be32, changeTail, htonl, htons, ntohl, ntohs, rawBe16, type Skb, u8, u32, type ViewOf } from '@ipvsd/bpf';
import { type Connection, connections } from '../connection/connection.ts';
import { type LocalEnd, localEnds } from '../connection/local-end.ts';
import { because, REASONS } from '../counters.ts';
import { type Family, IPV4, IPV6 } from '../family.ts';
import { AF_INET } from '../packet/address.ts';
import { ETHERNET, ICMP, Icmp, IPPROTO_ICMP, IPPROTO_ICMPV6, Ipv4, Ports } from '../packet/headers.ts';
import { finishSum, sumOf } from '../packet/sum.ts';
import { writeIpv4, writeIpv6 } from '../packet/write.ts';
import { hasRightChecksum } from '../related.ts';
import { type RealServer, SERVER_AVAILABLE, servers } from '../service/service.ts';
import { countIn, countOut } from '../service/statistics.ts';
import { now as clock } from '../settings.ts';
import { type Errand, errandOf } from '../stages.ts';
import { changeFamily, HEADER_4, HEADER_6 } from './nat64.ts';
import { findRoute, sendTo } from './route.ts';

const ETH_P_IP = htons(0x0800);
const ETH_P_IPV6 = htons(0x86dd);
/** An error of IPv6 fits into the least that any way carries (RFC 4443): so much of a packet is quoted behind its header. */
const LEAST_MTU = 1280;
const QUOTE = LEAST_MTU - HEADER_6 - ICMP - HEADER_6;
/** The least that any way of IPv4 carries (RFC 791). */
const LEAST_MTU_4 = 68;

/** The stage. */
export function nat64Error(skb: Skb, family: Family): number {
  const errand = errandOf();
  if (errand === null) return because(REASONS.corrupt);
  const c = connections.at(errand.connection);
  const end = localEnds.at(errand.connection);
  if (c === null || end === null) return because(REASONS.corrupt);
  const server = servers.at(c.server);
  if (server === null) return because(REASONS.corrupt);
  const ip = skb.header(family.Header, ETHERNET);
  if (ip === null) return because(REASONS.truncated);
  if (ip.timeToLive <= 1) return because(REASONS.timeToLive);
  if (!hasRightChecksum(skb, family)) return because(REASONS.badChecksum);
  const available = (server.flags & SERVER_AVAILABLE) !== 0;
  if (family.number === AF_INET) {
    if (available) countOut(c.server, u32(skb.len - ETHERNET));
    return toClient(skb, errand, c, server);
  }
  if (available) countIn(c.server, u32(skb.len - ETHERNET));
  return toServer(skb, errand, c, end, server);
}

function toServer(skb: Skb, errand: Errand, c: Connection, end: LocalEnd, server: RealServer): number {
  const at = ETHERNET + HEADER_6;
  const ip = skb.header(IPV6.Header, ETHERNET);
  const icmp = skb.header(Icmp, at);
  const quoted = skb.header(IPV6.Header, at + ICMP);
  if (ip === null || icmp === null || quoted === null) return because(REASONS.truncated);
  if (!findRoute(skb, IPV4, server.route, server.address, clock())) return because(REASONS.noRoute);
  if (!sayIn4(errand, wordOf(icmp), ntohl(icmp.rest), server.route.mtu)) return because(REASONS.untranslated);
  const behind = at + ICMP + HEADER_6;
  const last = IPV6.length(ip) + ETHERNET;
  if (last < behind + Ports.size) return because(REASONS.truncated);
  const quote = u32(last - behind) & 0xffff;
  const length = u32(IPV6.length(quoted) - HEADER_6 + HEADER_4);
  const tos = IPV6.tos(ip);
  const quotedTos = IPV6.tos(quoted);
  const timeToLive = u8(ip.timeToLive - 1);
  const quotedTimeToLive = quoted.timeToLive;
  const local = end.address;
  if (!changeFamily(skb, ETH_P_IP, HEADER_4 - HEADER_6)) return because(REASONS.untranslated);
  const total = HEADER_4 + ICMP + HEADER_4 + quote;
  const inner = ETHERNET + HEADER_4 + ICMP;
  const id = c.inPackets;
  const written =
    writeIpv4(skb, ETHERNET, tos, total, id, 0, timeToLive, IPPROTO_ICMP, local, c.real) &&
    writeIpv4(skb, inner, quotedTos, length, 0, 0, quotedTimeToLive, c.protocol, c.real, local);
  const ports = skb.header(Ports, inner + HEADER_4);
  const message = skb.header(Icmp, ETHERNET + HEADER_4);
  if (!written) return because(REASONS.truncated);
  if (ports === null || message === null) return because(REASONS.truncated);
  ports.sourcePort = c.realPort;
  ports.destinationPort = end.port;
  say(message, errand);
  message.checksum = rawBe16(finishSum(sumOf(skb, ETHERNET + HEADER_4, total - HEADER_4)) & 0xffff);
  return sendTo(skb, IPV4, server.route);
}

function toClient(skb: Skb, errand: Errand, c: Connection, server: RealServer): number {
  const ip = skb.header(Ipv4, ETHERNET);
  if (ip === null) return because(REASONS.truncated);
  const header = (ip.versionAndLength & 0xf) * 4;
  const at = ETHERNET + header;
  const icmp = skb.header(Icmp, at);
  const quoted = skb.header(Ipv4, at + ICMP);
  if (icmp === null || quoted === null) return because(REASONS.truncated);
  if (!findRoute(skb, IPV6, c.route, c.client, clock())) return because(REASONS.noRoute);
  const quotedHeader = (quoted.versionAndLength & 0xf) * 4;
  const quotedLength = ntohs(quoted.length);
  const across = u32(server.route.mtu + HEADER_6 - HEADER_4);
  const widest: u32 = across < c.route.mtu ? across : c.route.mtu;
  if (!sayIn6(errand, wordOf(icmp), ntohl(icmp.rest), quotedLength, widest)) return because(REASONS.untranslated);
  const behind = at + ICMP + quotedHeader;
  const last = IPV4.length(ip) + ETHERNET;
  if (last < behind + Ports.size) return because(REASONS.truncated);
  let quote: u32 = u32(last - behind) & 0xffff;
  if (quote > QUOTE) quote = QUOTE;
  const length = u32(quotedLength - quotedHeader) & 0xffff;
  const tos = ip.tos;
  const quotedTos = quoted.tos;
  const timeToLive = u8(ip.timeToLive - 1);
  const quotedTimeToLive = quoted.timeToLive;
  if (skb.len > behind + quote && changeTail(skb, u32(behind + quote), 0) !== 0) return because(REASONS.truncated);
  // Both fixed headers grow, one by the change itself; options go.
  const more = 2 * HEADER_6 - HEADER_4 - header - quotedHeader;
  if (!changeFamily(skb, ETH_P_IPV6, more)) return because(REASONS.untranslated);
  const inner = ETHERNET + HEADER_6 + ICMP;
  const total = ICMP + HEADER_6 + quote;
  const written =
    writeIpv6(skb, ETHERNET, tos, total, timeToLive, IPPROTO_ICMPV6, c.virtual, c.client) &&
    writeIpv6(skb, inner, quotedTos, length, quotedTimeToLive, c.protocol, c.client, c.virtual);
  const around = skb.header(IPV6.Header, ETHERNET);
  const ports = skb.header(Ports, inner + HEADER_6);
  const message = skb.header(Icmp, ETHERNET + HEADER_6);
  if (!written) return because(REASONS.truncated);
  if (around === null || ports === null || message === null) return because(REASONS.truncated);
  ports.sourcePort = c.clientPort;
  ports.destinationPort = c.virtualPort;
  say(message, errand);
  const pseudo = IPV6.icmpSum(around, total);
  message.checksum = rawBe16(finishSum(pseudo + sumOf(skb, ETHERNET + HEADER_6, total)) & 0xffff);
  return sendTo(skb, IPV6, c.route);
}

/** For the checksum to be made over it. */
function say(message: ViewOf<typeof Icmp>, errand: Errand): void {
  message.type = errand.type;
  message.code = errand.code;
  message.checksum = htons(0);
  message.rest = errand.rest;
}

// The words. They go by way of the errand: as numbers at hand each would be a case of its own for the verifier. -----------------

/** Type and code, as one number. */
const word = (type: number, code: number): number => type * 256 + code;

const wordOf = (icmp: ViewOf<typeof Icmp>): u32 => icmp.type * 256 + icmp.code;

interface Word {
  readonly from: number;
  readonly to: number;
}
const TOO_BIG_4 = word(3, 4);
const TOO_BIG_6 = word(2, 0);
const BAD_HEADER_6 = word(4, 0);
const BAD_NEXT_HEADER = word(4, 1);
/** Where a header of IPv6 says what comes next (RFC 8200), for who hears that nobody takes it. */
const NEXT_HEADER = 6;

/** RFC 7915, 4.2. Source quench, and "precedence cutoff in effect", have no equal. */
const WORDS_OF_4: readonly Word[] = [
  { from: word(3, 0), to: word(1, 0) },
  { from: word(3, 1), to: word(1, 0) },
  { from: word(3, 2), to: BAD_NEXT_HEADER },
  { from: word(3, 3), to: word(1, 4) },
  { from: TOO_BIG_4, to: TOO_BIG_6 },
  { from: word(3, 5), to: word(1, 0) },
  { from: word(3, 6), to: word(1, 0) },
  { from: word(3, 7), to: word(1, 0) },
  { from: word(3, 8), to: word(1, 0) },
  { from: word(3, 9), to: word(1, 1) },
  { from: word(3, 10), to: word(1, 1) },
  { from: word(3, 11), to: word(1, 0) },
  { from: word(3, 12), to: word(1, 0) },
  { from: word(3, 13), to: word(1, 1) },
  { from: word(3, 15), to: word(1, 1) },
  { from: word(11, 0), to: word(3, 0) },
  { from: word(11, 1), to: word(3, 1) },
];

/** RFC 7915, 5.2. */
const WORDS_OF_6: readonly Word[] = [
  { from: word(1, 0), to: word(3, 1) },
  { from: word(1, 1), to: word(3, 10) },
  { from: word(1, 2), to: word(3, 1) },
  { from: word(1, 3), to: word(3, 1) },
  { from: word(1, 4), to: word(3, 3) },
  { from: TOO_BIG_6, to: TOO_BIG_4 },
  { from: word(3, 0), to: word(11, 0) },
  { from: word(3, 1), to: word(11, 1) },
  { from: BAD_HEADER_6, to: word(12, 0) },
  { from: BAD_NEXT_HEADER, to: word(3, 2) },
];

/** Lengths of packets that are usual on the way, for routers that do not say theirs (RFC 1191, 7.1). */
const PLATEAUS = [68, 296, 508, 1006, 1492, 2002, 4352, 8166, 17_914, 32_000];

/**
 * What an error of IPv4 is in IPv6; false where it is nothing. `length`: of the packet that it is about; `widest`: what its way carries.
 * @subprog
 */
function sayIn6(errand: Errand, asked: u32, rest: u32, length: u32, widest: u32): boolean {
  let said: u32 = 0;
  for (const { from, to } of WORDS_OF_4) if (asked === from) said = to;
  if (said === 0) return false;
  let mtu: u32 = rest & 0xffff;
  if (mtu === 0) for (const plateau of PLATEAUS) if (plateau < length) mtu = plateau;
  mtu = u32(mtu + HEADER_6 - HEADER_4);
  if (mtu > widest) mtu = widest;
  if (mtu < LEAST_MTU) mtu = LEAST_MTU;
  return put(errand, said, htonl(said === TOO_BIG_6 ? mtu : said === BAD_NEXT_HEADER ? NEXT_HEADER : 0));
}

/**
 * What an error of IPv6 is in IPv4; false where it is nothing. `widest`: what the way to the real server carries.
 * @subprog
 */
function sayIn4(errand: Errand, asked: u32, rest: u32, widest: u32): boolean {
  let said: u32 = 0;
  for (const { from, to } of WORDS_OF_6) if (asked === from) said = to;
  if (said === 0) return false;
  if (asked === BAD_HEADER_6) {
    const place = placeIn4(rest);
    return place === NOWHERE ? false : put(errand, said, htonl(u32(place * 0x100_0000)));
  }
  let mtu: u32 = rest < LEAST_MTU_4 + HEADER_6 - HEADER_4 ? LEAST_MTU_4 : u32(rest - (HEADER_6 - HEADER_4));
  if (mtu > widest) mtu = widest;
  return put(errand, said, htonl(said === TOO_BIG_4 ? mtu : 0));
}

function put(errand: Errand, said: u32, rest: be32): boolean {
  errand.type = (said >>> 8) & 0xff;
  errand.code = said & 0xff;
  errand.rest = rest;
  return true;
}

const NOWHERE = 0xff;

/** What lies at `place` of a header of IPv6 lies there in one of IPv4 (RFC 7915, figure 6). */
function placeIn4(place: u32): u32 {
  if (place < 2) return place;
  if (place === 4 || place === 5) return 2;
  if (place === NEXT_HEADER) return 9;
  if (place === 7) return 8;
  if (place >= 8 && place < 24) return 12;
  return place >= 24 && place < HEADER_6 ? 16 : NOWHERE;
}
