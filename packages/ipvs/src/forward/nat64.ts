/**
 * NAT64: FULLNAT between a client of IPv6 and a real server of IPv4. A packet of the client becomes one of IPv4, a reply one of IPv6
 * (RFC 7915), with other addresses and ports as under FULLNAT.
 *
 * The family of the packet says which way it goes, so each of the stage's two copies has one way only. Large packets (GSO) stay
 * whole: segments hold as many bytes as before, and are 20 bytes shorter or longer.
 */
import {
  adjustRoom,
  BPF_ADJ_ROOM_MAC,
  BPF_F_ADJ_ROOM_FIXED_GSO,
  type be16,
  changeProtocol,
  htonl,
  htons,
  mul32,
  ntohl,
  ntohs,
  raw,
  type Skb,
  tailCall,
  u8,
  u32,
} from '@ipvsd/bpf';
import { type Connection, connections } from '../connection/connection.ts';
import { type LocalEnd, localEnds, TELLS_NOT } from '../connection/local-end.ts';
import { because, REASONS } from '../counters.ts';
import { type Family, IPV4, IPV6 } from '../family.ts';
import { type Address6, AF_INET } from '../packet/address.ts';
import { fold32 } from '../packet/checksum.ts';
import {
  ETHER_TYPE,
  ETHERNET,
  EtherType,
  FRAGMENT6,
  Fragment6,
  IPPROTO_AH,
  IPPROTO_ESP,
  IPPROTO_FRAGMENT,
  IPPROTO_TCP,
  IPPROTO_UDP,
  Ipv4,
  Ports,
  Tcp,
  Udp,
} from '../packet/headers.ts';
import { WHOLE, writeIpv4, writeIpv6 } from '../packet/write.ts';
import { type RealServer, servers } from '../service/service.ts';
import { errandOf, stages, TELL } from '../stages.ts';
import { rewritePorts } from './nat.ts';
import { segmentLength, sendTo } from './route.ts';
import { isAnswer, isPlain } from './tell.ts';
import { checkWay, FREE } from './way.ts';

export const HEADER_4 = 20;
export const HEADER_6 = 40;
const ETH_P_IP = htons(0x0800);
const ETH_P_IPV6 = htons(0x86dd);
/** What any way of IPv6 carries in one piece is, as a packet of IPv4, so long; such ones may be fragmented on (RFC 7915 5.1). */
const FRAGMENTABLE = 1260;
const MORE = 0x2000;
const OFFSET = 0x1fff;

/** The stage. */
export function nat64(skb: Skb, family: Family): number {
  const errand = errandOf();
  if (errand === null) return because(REASONS.corrupt);
  const c = connections.at(errand.connection);
  const end = localEnds.at(errand.connection);
  if (c === null || end === null) return because(REASONS.corrupt);
  if (family.number === AF_INET) return toClient(skb, c, end);
  const server = servers.at(c.server);
  return server === null ? because(REASONS.corrupt) : toServer(skb, c, end, server);
}

function toServer(skb: Skb, c: Connection, end: LocalEnd, server: RealServer): number {
  const ip = skb.header(IPV6.Header, ETHERNET);
  if (ip === null) return because(REASONS.truncated);
  const next = ip.protocol;
  if (next === IPPROTO_ESP || next === IPPROTO_AH) return because(REASONS.portless);
  const protocol = c.protocol;
  let id: u32 = u32(c.inPackets + mul32(c.number, 0x9e37));
  let fragment: u32 = 0;
  let extension: u32 = 0;
  if (next === IPPROTO_FRAGMENT) {
    const header = skb.header(Fragment6, ETHERNET + HEADER_6);
    if (header === null) return because(REASONS.truncated);
    const place = ntohs(header.offset);
    fragment = (place >>> 3) + (place & 1) * MORE;
    id = ntohl(header.id);
    extension = FRAGMENT6;
  }
  const before = ETHERNET + HEADER_6 + extension;
  const shrinks = HEADER_6 - HEADER_4 + extension;
  const way = checkWay(skb, IPV6, ip, before, protocol, server.route, IPV4, server.address, shrinks, 0, false);
  if (way !== FREE) return way;
  const first = (fragment & OFFSET) === 0;
  let plain = true;
  if (protocol === IPPROTO_TCP && first) {
    const tcp = skb.header(Tcp, before);
    if (tcp === null) return because(REASONS.truncated);
    plain = isPlain(tcp, end);
  }
  const length = u32(IPV6.length(ip) - shrinks);
  const longest: u32 = skb.gsoSize === 0 ? length : u32(segmentLength(skb, before, protocol) - shrinks);
  if (extension === 0 && longest > FRAGMENTABLE) {
    fragment = WHOLE;
    id = 0;
  }
  const difference = fold32(sum4(end.address, c.real) + 8 * 0xffff_ffff - IPV6.sum(ip));
  const tos = IPV6.tos(ip);
  const timeToLive = u8(ip.timeToLive - 1);
  if (!changeFamily(skb, ETH_P_IP, -extension)) return because(REASONS.untranslated);
  const written = writeIpv4(skb, ETHERNET, tos, length, id, fragment, timeToLive, protocol, end.address, c.real);
  if (!written) return because(REASONS.truncated);
  if (!first) return sendTo(skb, IPV4, server.route);
  const after = ETHERNET + HEADER_4;
  const ports = skb.header(Ports, after);
  if (ports === null) return because(REASONS.truncated);
  rewritePorts(skb, IPV4, ports, after, end.port, c.realPort, difference, protocol);
  return plain ? sendTo(skb, IPV4, server.route) : goOnTelling(skb, after);
}

function toClient(skb: Skb, c: Connection, end: LocalEnd): number {
  const ip = skb.header(Ipv4, ETHERNET);
  if (ip === null) return because(REASONS.truncated);
  if (ip.protocol === IPPROTO_ESP || ip.protocol === IPPROTO_AH) return because(REASONS.portless);
  const protocol = c.protocol;
  const header = (ip.versionAndLength & 0xf) * 4;
  const before = ETHERNET + header;
  const place = ntohs(ip.fragment);
  const fragmented = (place & (MORE + OFFSET)) !== 0;
  const first = (place & OFFSET) === 0;
  const extension: u32 = fragmented ? FRAGMENT6 : 0;
  const shrinks = header - HEADER_6 - extension;
  const way = checkWay(skb, IPV4, ip, before, protocol, c.route, IPV6, c.client, shrinks, 0, false);
  if (way !== FREE) return way;
  if (protocol === IPPROTO_UDP && fragmented && first) {
    // IPv6 asks for a checksum, and most of the datagram is not here.
    const udp = skb.header(Udp, before);
    if (udp === null) return because(REASONS.truncated);
    if (raw(udp.checksum) === 0) return because(REASONS.untranslated);
  }
  let answers = false;
  if (end.tells !== TELLS_NOT && protocol === IPPROTO_TCP && first) {
    const tcp = skb.header(Tcp, before);
    if (tcp === null) return because(REASONS.truncated);
    answers = isAnswer(tcp);
  }
  const difference = fold32(sum6(c.virtual, c.client) + 2 * 0xffff_ffff - IPV4.sum(ip));
  const length = u32(ntohs(ip.length) - header + extension);
  const { tos, id } = ip;
  const timeToLive = u8(ip.timeToLive - 1);
  const next: u8 = fragmented ? IPPROTO_FRAGMENT : protocol;
  if (!changeFamily(skb, ETH_P_IPV6, HEADER_4 - header + extension)) return because(REASONS.untranslated);
  if (!writeIpv6(skb, ETHERNET, tos, length, timeToLive, next, c.virtual, c.client)) return because(REASONS.truncated);
  if (fragmented) {
    const piece = skb.header(Fragment6, ETHERNET + HEADER_6);
    if (piece === null) return because(REASONS.truncated);
    piece.next = protocol;
    piece.reserved = 0;
    piece.offset = htons((place & OFFSET) * 8 + ((place & MORE) !== 0 ? 1 : 0));
    piece.id = htonl(ntohs(id));
    if (!first) return sendTo(skb, IPV6, c.route);
  }
  const after = ETHERNET + HEADER_6 + extension;
  const ports = skb.header(Ports, after);
  if (ports === null) return because(REASONS.truncated);
  rewritePorts(skb, IPV6, ports, after, c.virtualPort, c.clientPort, difference, protocol);
  return answers ? goOnTelling(skb, after) : sendTo(skb, IPV6, c.route);
}

/** The packet's transport header lies elsewhere now. */
function goOnTelling(skb: Skb, transport: u32): number {
  const errand = errandOf();
  if (errand === null) return because(REASONS.corrupt);
  errand.transport = transport;
  return tailCall(skb, stages, TELL);
}

/** As the Family's `sum`, of addresses that a packet is to have. */
const sum4 = (source: Address6, destination: Address6): number => raw(source.a) + raw(destination.a);
const sum6 = (source: Address6, destination: Address6): number =>
  raw(source.a) +
  raw(source.b) +
  raw(source.c) +
  raw(source.d) +
  raw(destination.a) +
  raw(destination.b) +
  raw(destination.c) +
  raw(destination.d);

/**
 * The packet becomes one of the other family, with room for its fixed header and `more` bytes (or less room, where that is negative):
 * all headers up to there are to be written. False where the kernel does not do so, and the packet is as good as lost.
 */
export function changeFamily(skb: Skb, protocol: be16, more: number): boolean {
  if (changeProtocol(skb, protocol, 0) !== 0) return false;
  if (more !== 0 && adjustRoom(skb, more, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO) !== 0) return false;
  const link = skb.header(EtherType, ETHER_TYPE);
  if (link === null) return false;
  link.type = protocol;
  return true;
}
