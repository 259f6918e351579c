/**
 * TUN: the packet travels whole inside another to a real server anywhere: IP in IP, GRE, or GUE (IP in UDP), in either family.
 *
 * The outer header copies what routers on the way must know: time to live, type of service, and whether it may be fragmented.
 * Packets that are segmented later (GSO) go in as they are: their segments get the same outer headers.
 */
import {
  adjustRoom,
  BPF_ADJ_ROOM_MAC,
  BPF_F_ADJ_ROOM_ENCAP_L3_IPV4,
  BPF_F_ADJ_ROOM_ENCAP_L3_IPV6,
  BPF_F_ADJ_ROOM_ENCAP_L4_GRE,
  BPF_F_ADJ_ROOM_ENCAP_L4_UDP,
  BPF_F_ADJ_ROOM_FIXED_GSO,
  changeProtocol,
  htons,
  mul32,
  randomU32,
  raw,
  rawBe16,
  type Skb,
  type u8,
  u32,
} from '@ipvsd/bpf';
import { because, REASONS } from '../counters.ts';
import { type Family, IPV4, IPV6 } from '../family.ts';
import { OUTWARDS } from '../followed.ts';
import { AF_INET } from '../packet/address.ts';
import {
  ETHER_TYPE,
  ETHERNET,
  EtherType,
  Gre,
  GreChecksum,
  Gue,
  IPPROTO_GRE,
  IPPROTO_IPIP,
  IPPROTO_IPV6,
  IPPROTO_TCP,
  IPPROTO_UDP,
  Ports,
  Tcp,
  Udp,
} from '../packet/headers.ts';
import { finishSum, sumOf } from '../packet/sum.ts';
import { WHOLE, writeIpv4, writeIpv6 } from '../packet/write.ts';
import { type RealServer, servers, TUNNEL_CHECKSUM, TUNNEL_GRE, TUNNEL_GUE } from '../service/service.ts';
import { now as clock, settings, ticksOf } from '../settings.ts';
import { errandOf } from '../stages.ts';
import { answerWith, TOO_BIG } from './answer.ts';
import { completeChecksum } from './complete-checksum.ts';
import { sendPiece } from './piece.ts';
import { findRoute, findSource, segmentLength, sendTo } from './route.ts';

const UDP = 8;
const GUE = 4;
const GRE = 4;
const GRE_CHECKSUM = 4;
/** Bytes that a packet of IPv4 has more when it becomes one of IPv6. */
const CHANGED = 20;
/** What routers say of a way is believed as long as in the kernel. */
const PATH_MTU_AGE = ticksOf(600);
/** Congestion experienced, of the packet's own way: the outer one starts without (RFC 3168, 9.1.1). */
const CONGESTED = 3;
const CAPABLE = 2;
/** The ports that a host takes for its own connections. */
const FIRST_PORT = 32_768;
const PORTS = 60_999 - FIRST_PORT;

/** The stage: the packet's family is the inner one, the real server's the outer. */
export function tunnel(skb: Skb, inner: Family): number {
  const errand = errandOf();
  if (errand === null) return because(REASONS.corrupt);
  const number = errand.server;
  const server = servers.at(number);
  if (server === null) return because(REASONS.corrupt);
  return server.family === AF_INET
    ? encapsulate(skb, inner, IPV4, server, number)
    : encapsulate(skb, inner, IPV6, server, number);
}

/** How long a packet to the real server may be, whose way begins with a link of that MTU. */
export function roomOf(server: RealServer, mtu: u32): u32 {
  const learned = server.pathMtu;
  if (learned === 0 || learned >= mtu || u32(clock() - server.pathMtuAt) >= PATH_MTU_AGE) return mtu;
  return learned;
}

/** Bytes that the tunnel puts before a packet, with an outer IP header of `header` bytes. */
export function overheadOf(server: RealServer, header: number): u32 {
  const type = server.tunnelType;
  if (type === TUNNEL_GUE) return header + UDP + GUE;
  if (type !== TUNNEL_GRE) return header;
  return header + GRE + (server.tunnelFlags === TUNNEL_CHECKSUM ? GRE_CHECKSUM : 0);
}

function encapsulate(skb: Skb, inner: Family, outer: Family, server: RealServer, number: u32): number {
  const now = clock();
  const v4 = outer.number === AF_INET;
  const header = v4 ? 20 : 40;
  const before = server.route.at;
  if (!findRoute(skb, outer, server.route, server.address, now)) return because(REASONS.noRoute);
  if (server.route.at !== before || (raw(server.source.a) === 0 && raw(server.source.d) === 0)) {
    if (!findSource(skb, outer, server.source, server.address)) return because(REASONS.noRoute);
  }
  const ip = skb.header(inner.Header, ETHERNET);
  if (ip === null) return because(REASONS.truncated);
  const protocol = ip.protocol;
  const transport = inner.transport(ip);
  const gso = skb.gsoSize !== 0;
  const frame = skb.len;
  const length: u32 = gso ? u32(frame - ETHERNET) : inner.length(ip);
  if (length + ETHERNET > frame) return because(REASONS.truncated);

  const overhead = overheadOf(server, header);
  const room = roomOf(server, server.route.mtu);
  const least = v4 ? 68 : 1280;
  const discovers = settings.only.pathMtuDiscovery !== 0;
  const mayNotFragment = inner.isWhole(ip) && (inner.number !== AF_INET || discovers);
  inner.finish(ip, 0);
  if (room < overhead + least) return because(REASONS.tooLong);
  // The kernel makes TCP's segments shorter by what the tunnel puts before them.
  const longest = gso ? segmentLength(skb, transport, protocol) : length;
  const tooLong = longest + (gso && protocol === IPPROTO_TCP ? 0 : overhead) > room;
  if (tooLong && (mayNotFragment || gso)) {
    const verdict = because(REASONS.tooLong);
    return mayNotFragment && protocol !== inner.icmp ? answerWith(skb, inner, TOO_BIG, u32(room - overhead)) : verdict;
  }
  const timeToLive = ip.timeToLive;
  const own = inner.tos(ip);
  const tos: u8 = (own & CONGESTED) === CONGESTED ? (own & 0xfc) | CAPABLE : own;
  const fixed: boolean = inner.number === AF_INET && mayNotFragment;
  const ports = skb.header(Ports, transport);
  const flow = portOf(inner.sum(ip), ports === null ? 0 : raw(ports.sourcePort) * 65_536 + raw(ports.destinationPort));

  if (tooLong) completeChecksum(skb, inner, transport, protocol);
  const type = server.tunnelType;
  // Segments get copies of the tunnel's header, so a checksum over one of them would be wrong for the others.
  const summed = server.tunnelFlags !== 0 && !gso;
  const sum: u32 = summed && type !== 0 ? sumOfPacket(skb, inner, length) : 0;
  const extra: u32 = type === TUNNEL_GRE && !summed ? header + GRE : overhead;
  const gsoFlags = protocol === IPPROTO_UDP ? BPF_F_ADJ_ROOM_FIXED_GSO : 0;
  const transportFlags =
    type === TUNNEL_GUE ? BPF_F_ADJ_ROOM_ENCAP_L4_UDP : type === TUNNEL_GRE ? BPF_F_ADJ_ROOM_ENCAP_L4_GRE : 0;
  const familyFlags = v4 ? BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 : BPF_F_ADJ_ROOM_ENCAP_L3_IPV6;
  // What is split must not be known as encapsulated: the kernel cuts off no tail of that.
  const kinds = tooLong ? 0 : familyFlags + transportFlags;
  // Nor does it know by itself then that the family is another.
  const changes = tooLong && inner.number !== outer.number;
  if (changes && changeProtocol(skb, htons(0x86dd), 0) !== 0) return because(REASONS.tooLong);
  const more = changes ? extra - CHANGED : extra;
  if (adjustRoom(skb, more, BPF_ADJ_ROOM_MAC, kinds + gsoFlags) !== 0) {
    return because(REASONS.tooLong);
  }

  const total = u32(length + extra) & 0xffff;
  const inside = inner.number === AF_INET ? IPPROTO_IPIP : IPPROTO_IPV6;
  const carrier: u8 = type === TUNNEL_GUE ? IPPROTO_UDP : type === TUNNEL_GRE ? IPPROTO_GRE : inside;
  const link = skb.header(EtherType, ETHER_TYPE);
  const written = v4
    ? writeIpv4(
        skb,
        ETHERNET,
        tos,
        total,
        fixed ? 0 : randomU32() & 0xffff,
        fixed ? WHOLE : 0,
        timeToLive,
        carrier,
        server.source,
        server.address,
      )
    : writeIpv6(skb, ETHERNET, tos, u32(total - 40), timeToLive, carrier, server.source, server.address);
  if (link === null || !written) return because(REASONS.truncated);
  link.type = htons(v4 ? 0x0800 : 0x86dd);
  if (type === TUNNEL_GUE) {
    const udp = skb.header(Udp, ETHERNET + header);
    const gue = skb.header(Gue, ETHERNET + header + UDP);
    const around = skb.header(outer.Header, ETHERNET);
    if (udp === null || gue === null || around === null) return because(REASONS.truncated);
    udp.sourcePort = htons(flow);
    udp.destinationPort = server.tunnelPort;
    udp.length = htons(u32(total - header) & 0xffff);
    gue.versionAndLength = 0;
    gue.protocol = inside;
    gue.flags = htons(0);
    udp.checksum = htons(0);
    if (summed) {
      const pseudo = outer.sum(around) + raw(udp.length) + raw(htons(IPPROTO_UDP));
      const ownHeaders = raw(udp.sourcePort) + raw(udp.destinationPort) + raw(udp.length) + raw(htons(u32(inside)));
      const checksum = finishSum(pseudo + ownHeaders + sum) & 0xffff;
      udp.checksum = rawBe16(checksum === 0 ? 0xffff : checksum);
    }
  } else if (type === TUNNEL_GRE) {
    const gre = skb.header(Gre, ETHERNET + header);
    if (gre === null) return because(REASONS.truncated);
    gre.flags = htons(summed ? 0x8000 : 0);
    gre.protocol = htons(inner.number === AF_INET ? 0x0800 : 0x86dd);
    if (summed) {
      const check = skb.header(GreChecksum, ETHERNET + header + GRE);
      if (check === null) return because(REASONS.truncated);
      check.reserved = htons(0);
      check.checksum = rawBe16(finishSum(raw(htons(0x8000)) + raw(gre.protocol) + sum) & 0xffff);
    }
  }
  if (tooLong) return sendPiece(skb, OUTWARDS, number);
  return sendTo(skb, outer, server.route);
}

/** A source port for what lies in the tunnel: the same for all packets of a flow, so that routers keep their order. */
function portOf(addresses: number, ports: number): u32 {
  const folded = u32(addresses) ^ u32(addresses / 0x1_0000_0000) ^ u32(ports);
  const mixed = mul32(u32(folded), 0x9e37_79b1);
  return FIRST_PORT + u32(((u32(mixed) >>> 16) * PORTS) / 65_536);
}

/**
 * The sum over the packet as it will be on the wire. A transport checksum that is left to the network card (it then holds the
 * pseudo header's sum) will make the transport's part sum up to the reverse of that; anything else is summed up as it lies.
 * @subprog
 */
function sumOfPacket(skb: Skb, inner: Family, length: u32): u32 {
  const ip = skb.header(inner.Header, ETHERNET);
  if (ip === null) return 0;
  const protocol = ip.protocol;
  const transport = inner.transport(ip);
  if (protocol === IPPROTO_TCP || protocol === IPPROTO_UDP) {
    const header = transport - ETHERNET;
    const own = length > header ? u32(length - header) & 0xffff : 0;
    const pseudo = 0xffff - finishSum(inner.sum(ip) + raw(htons(own)) + raw(htons(protocol)));
    const tcp = protocol === IPPROTO_TCP ? skb.header(Tcp, transport) : null;
    const udp = protocol === IPPROTO_UDP ? skb.header(Udp, transport) : null;
    const found: u32 = tcp !== null ? raw(tcp.checksum) : udp !== null ? raw(udp.checksum) : 0;
    if (found === pseudo && found !== 0) return u32(sumOf(skb, ETHERNET, header) + (0xffff - found));
  }
  return sumOf(skb, ETHERNET, length);
}
