/**
 * Datagrams under FULLNAT that tell the real server who its client is: by a PROXY protocol header, version 2, before what they carry,
 * or as DPVS does (UOA), by an option of IPv4 or by a header between IP and UDP. They go the whole rest of their way here, as what
 * fits depends on what is added.
 *
 * One datagram may be lost, so more than one tells it: the header is put until the real server answers, or before each where the
 * service says so, UOA into the first three at most. What does not fit beside UOA goes without it. A header is waited for, so a
 * datagram that does not fit with it is treated as one that is too long.
 */
import { adjustRoom, BPF_ADJ_ROOM_NET, htons, ntohs, rawBe16, type Skb, u8, u32 } from '@ipvsd/bpf';
import { type Connection, connections } from '../connection/connection.ts';
import { ANSWERED, type LocalEnd, localEnds, TELLS_BY_OPTION, TELLS_BY_PROXY_EACH } from '../connection/local-end.ts';
import { because, REASONS } from '../counters.ts';
import type { Family } from '../family.ts';
import { OUTWARDS } from '../followed.ts';
import { beginLine, lineLength, putBeforeDatagram, writeCharacter, writeLine } from '../helper/writing.ts';
import { AF_INET } from '../packet/address.ts';
import { ETHERNET, IPPROTO_UDP, Ipv4, Ipv6, MAX_OFFSET, Ports, Udp } from '../packet/headers.ts';
import { finishSum, sumOf } from '../packet/sum.ts';
import { servers } from '../service/service.ts';
import { now as clock, settings } from '../settings.ts';
import { errandOf } from '../stages.ts';
import { answerWith, TOO_BIG } from './answer.ts';
import { rewriteBoth } from './nat.ts';
import { maySplit, splitWhole } from './piece.ts';
import { findRoute, isTooLong, sendTo } from './route.ts';
import { writeAddress, writeHeader, writePort } from './tell.ts';

/** As many datagrams tell it by UOA; DPVS has the same number (uoa_max_trail). */
const MOST_OPTIONS = 3;
/** `datagramOption` in settings. */
const BY_IP_OPTION = 1;
/** The protocol number of the header that UOA has for itself, and its versions by family. */
const IPPROTO_UOA = 248;
const VERSION_4 = 0x10;
const VERSION_6 = 0x20;
/** An IP option of class control, not copied into fragments: its kind, and its length with a port and an address. */
const OPTION = 31;
const OPTION_4 = 8;
const OPTION_6 = 20;
const HEADER = 4;
const NO_OPTIONS = 0x45;
/** Every way of IPv6 takes as much. */
const LEAST_6 = 1280;

/** The next datagram of the client tells it. */
export const isToTell = (end: LocalEnd): boolean =>
  end.tells === TELLS_BY_PROXY_EACH ||
  (end.tells !== 0 && end.answered < (end.tells === TELLS_BY_OPTION ? MOST_OPTIONS : ANSWERED));

/** A module that was told by UOA says so with nothing in a datagram. */
export function isAcknowledgement(skb: Skb, end: LocalEnd, transport: u32): boolean {
  if (end.tells !== TELLS_BY_OPTION || end.answered === 0 || end.answered === ANSWERED) return false;
  const udp = skb.header(Udp, transport & MAX_OFFSET);
  if (udp === null || udp.length !== htons(Udp.size)) return false;
  end.answered = ANSWERED;
  return true;
}

/** The stage. */
export function tellDatagram(skb: Skb, family: Family): number {
  const errand = errandOf();
  if (errand === null) return because(REASONS.corrupt);
  const c = connections.at(errand.connection);
  const end = localEnds.at(errand.connection);
  if (c === null || end === null) return because(REASONS.corrupt);
  const server = servers.at(c.server);
  if (server === null) return because(REASONS.corrupt);
  if (!findRoute(skb, family, server.route, server.address, clock())) return because(REASONS.noRoute);
  const { mtu } = server.route;
  const transport = errand.transport & MAX_OFFSET;
  const byOption = end.tells === TELLS_BY_OPTION;
  const size = write(skb, family, c, end);
  const before = skb.header(family.Header, ETHERNET);
  if (before === null) return because(REASONS.corrupt);
  const length = family.length(before);
  const least = family.number === AF_INET ? 0 : LEAST_6;
  const told = size !== 0 && length + size <= mtu;
  const parted = maySplit(skb, family, before) && length + (byOption ? 0 : size) > mtu;
  const answered = size !== 0 && !told && !byOption && !parted && mtu >= least + size;
  if (answered || (!told && !parted && isTooLong(skb, server.route.mtu, transport, IPPROTO_UDP))) {
    because(REASONS.tooLong);
    family.finish(before, 0);
    return answerWith(skb, family, TOO_BIG, answered ? u32(mtu - size) : mtu);
  }
  const ip = skb.header(family.Header, ETHERNET);
  const ports = skb.header(Ports, transport);
  if (ip === null || ports === null) return because(REASONS.corrupt);
  rewriteBoth(skb, family, ip, ports, transport, end.address, end.port, c.real, c.realPort, IPPROTO_UDP);
  if (
    (told || (parted && !byOption && size !== 0)) &&
    (byOption ? insert(skb, family, size) : putBeforeDatagram(skb, family, transport))
  ) {
    if (byOption) end.answered = u8(end.answered + 1);
  } else {
    because(REASONS.untold);
  }
  if (parted) return splitWhole(skb, family, transport, IPPROTO_UDP, OUTWARDS, c.server);
  return sendTo(skb, family, server.route);
}

/** What is added, as the line of helper/writing.ts: its length, or 0 where this packet takes nothing. */
function write(skb: Skb, family: Family, c: Connection, end: LocalEnd): u32 {
  const ip = skb.header(family.Header, ETHERNET);
  if (ip === null || family.isFragmented(ip) || skb.gsoSize !== 0) return 0;
  if (end.tells !== TELLS_BY_OPTION) {
    writeHeader(c, end.tells);
    return lineLength();
  }
  const v4 = family.number === AF_INET;
  const inIp = settings.only.datagramOption === BY_IP_OPTION;
  // Not behind options of the client's own, nor where IP has none.
  if (v4 ? ip.versionAndLength !== NO_OPTIONS : inIp) return 0;
  const size: u32 = c.family === AF_INET ? OPTION_4 : OPTION_6;
  beginLine();
  if (!inIp) {
    writeCharacter(c.family === AF_INET ? VERSION_4 : VERSION_6);
    writeCharacter(IPPROTO_UDP);
    writeCharacter(0);
    writeCharacter(HEADER + size);
  }
  writeCharacter(OPTION);
  writeCharacter(size);
  writePort(c.clientPort);
  writeAddress(c.client, c.family);
  return lineLength();
}

/** The line goes behind the IP header, or becomes part of it. False where the packet does not take it, and is as it was. */
function insert(skb: Skb, family: Family, size: u32): boolean {
  if (adjustRoom(skb, size & 0xff, BPF_ADJ_ROOM_NET, 0) !== 0) return false;
  const inIp = settings.only.datagramOption === BY_IP_OPTION;
  if (family.number !== AF_INET) {
    const ip = skb.header(Ipv6, ETHERNET);
    if (ip === null) return false;
    ip.payloadLength = htons(u32(ntohs(ip.payloadLength) + size) & 0xffff);
    ip.protocol = IPPROTO_UOA;
    writeLine(skb, ETHERNET + Ipv6.size);
    return true;
  }
  writeLine(skb, ETHERNET + Ipv4.size);
  const ip = skb.header(Ipv4, ETHERNET);
  if (ip === null) return false;
  ip.length = htons(u32(ntohs(ip.length) + size) & 0xffff);
  if (inIp) ip.versionAndLength = u8(NO_OPTIONS + (size >>> 2));
  else ip.protocol = IPPROTO_UOA;
  ip.checksum = htons(0);
  const checksum = finishSum(sumOf(skb, ETHERNET, u32(Ipv4.size + (inIp ? size : 0))));
  const made = skb.header(Ipv4, ETHERNET);
  if (made !== null) made.checksum = rawBe16(checksum & 0xffff);
  return true;
}
