/**
 * A real server behind a tunnel takes the outer header off: IP in IP, GRE, or GUE, in either family, for its own virtual addresses
 * only. For kernels that have no such device of their own.
 *
 * Packets that are segmented later (GSO) stay whole. Outer packets that came in fragments are put together first (join.ts).
 */
import {
  adjustRoom,
  BPF_ADJ_ROOM_MAC,
  BPF_F_ADJ_ROOM_DECAP_L3_IPV4,
  BPF_F_ADJ_ROOM_DECAP_L3_IPV6,
  BPF_F_ADJ_ROOM_FIXED_GSO,
  type be16,
  htons,
  ntohs,
  raw,
  type Skb,
  stack,
  TC_ACT_SHOT,
  TC_ACT_UNSPEC,
  type u8,
  type u32,
  type ViewOf,
} from '@ipvsd/bpf';
import { type Family, IPV4, IPV6 } from '../family.ts';
import { AF_INET } from '../packet/address.ts';
import {
  ETHER_TYPE,
  ETHERNET,
  EtherType,
  FRAGMENT6,
  Fragment6,
  Gre,
  Gue,
  IPPROTO_GRE,
  IPPROTO_IPIP,
  IPPROTO_IPV6,
  IPPROTO_UDP,
  type Ipv4,
  Ipv6,
  MAX_OFFSET,
  Udp,
} from '../packet/headers.ts';
import { joinPiece, keepBeginning, WHOLE } from './join.ts';
import { TAKES_GRE, TAKES_GUE, TAKES_IPIP, VipKey, vips } from './vips.ts';

const ETH_P_IP = htons(0x0800);
const ETH_P_IPV6 = htons(0x86dd);
/** "A checksum follows": all else that GRE's flags may say is not for us. */
const GRE_CHECKSUM = raw(htons(0x8000));
/** Version 0, a data packet. */
const GUE_DATA = 0x20;
const UDP = 8;
type Header = ViewOf<typeof Ipv4>;

/** Outer packets for a virtual address lose their outer header; everything else goes on as it came. */
export function decapsulate(skb: Skb, outer: Family): number {
  const first = skb.header(outer.Header, ETHERNET);
  if (first === null || !outer.isValid(first)) return TC_ACT_UNSPEC;
  if (isLater(skb, outer, first)) {
    if (!isCarrier(carrierOf(skb, outer, first))) return TC_ACT_UNSPEC;
    const verdict = joinPiece(skb, outer);
    if (verdict !== WHOLE) return verdict;
  }
  const ip = skb.header(outer.Header, ETHERNET);
  if (ip === null) return TC_ACT_UNSPEC;
  const behind = outer.transport(ip) + (isExtended(outer, ip) ? FRAGMENT6 : 0);
  const protocol = carrierOf(skb, outer, ip);
  if (protocol === IPPROTO_IPIP) return open(skb, outer, IPV4, behind, TAKES_IPIP, htons(0));
  if (protocol === IPPROTO_IPV6) return open(skb, outer, IPV6, behind, TAKES_IPIP, htons(0));
  if (protocol === IPPROTO_GRE) {
    const gre = skb.header(Gre, behind);
    if (gre === null) return TC_ACT_UNSPEC;
    const flags = raw(gre.flags);
    if (flags !== 0 && flags !== GRE_CHECKSUM) return TC_ACT_UNSPEC;
    const start: u32 = behind + (flags === 0 ? 4 : 8);
    if (gre.protocol === ETH_P_IP) return open(skb, outer, IPV4, start, TAKES_GRE, htons(0));
    if (gre.protocol === ETH_P_IPV6) return open(skb, outer, IPV6, start, TAKES_GRE, htons(0));
    return TC_ACT_UNSPEC;
  }
  if (protocol !== IPPROTO_UDP) return TC_ACT_UNSPEC;
  const udp = skb.header(Udp, behind);
  const gue = skb.header(Gue, behind + UDP);
  if (udp === null || gue === null || gue.versionAndLength >= GUE_DATA) return TC_ACT_UNSPEC;
  const start = behind + UDP + 4 + gue.versionAndLength * 4;
  if (gue.protocol === IPPROTO_IPIP) return open(skb, outer, IPV4, start, TAKES_GUE, udp.destinationPort);
  if (gue.protocol === IPPROTO_IPV6) return open(skb, outer, IPV6, start, TAKES_GUE, udp.destinationPort);
  return TC_ACT_UNSPEC;
}

/** With the extension header of a fragment, which it keeps when it is whole again. */
const isExtended = (outer: Family, ip: Header): boolean => outer.number !== AF_INET && outer.isFragmented(ip);

/** What lies behind the outer header, and behind its extension. */
function carrierOf(skb: Skb, outer: Family, ip: Header): u8 {
  if (!isExtended(outer, ip)) return ip.protocol;
  const extension = skb.header(Fragment6, ETHERNET + Ipv6.size);
  return extension === null ? 0 : extension.next;
}

/** A fragment that is not the first. */
function isLater(skb: Skb, outer: Family, ip: Header): boolean {
  if (!isExtended(outer, ip)) return outer.isLaterFragment(ip);
  const extension = skb.header(Fragment6, ETHERNET + Ipv6.size);
  return extension !== null && ntohs(extension.offset) >>> 3 !== 0;
}

/** More of it follows. */
function isBeginning(skb: Skb, outer: Family, ip: Header): boolean {
  if (!isExtended(outer, ip)) return outer.isFragment(ip);
  const extension = skb.header(Fragment6, ETHERNET + Ipv6.size);
  return extension !== null && (ntohs(extension.offset) & 1) !== 0;
}

const isCarrier = (protocol: u8): boolean =>
  protocol === IPPROTO_IPIP || protocol === IPPROTO_IPV6 || protocol === IPPROTO_GRE || protocol === IPPROTO_UDP;

function open(skb: Skb, outer: Family, inner: Family, begin: u32, kind: number, port: be16): number {
  const start = begin & MAX_OFFSET;
  const around = skb.header(outer.Header, ETHERNET);
  const ip = skb.header(inner.Header, start);
  if (around === null || ip === null || !inner.isValid(ip)) return TC_ACT_UNSPEC;
  const key = stack(VipKey, { family: inner.number });
  inner.widen(key.address, ip.destination);
  const vip = vips.lookup(key);
  if (vip === null || (vip.tunnels & kind) === 0) return TC_ACT_UNSPEC;
  if (kind === TAKES_GUE && vip.port !== port) return TC_ACT_UNSPEC;
  if (isBeginning(skb, outer, around)) return keepBeginning(skb, outer);
  if (outer.isCongested(around) && !inner.setCongested(ip)) return TC_ACT_SHOT;
  const other = inner.number !== outer.number;
  const flags = other ? (inner.number === AF_INET ? BPF_F_ADJ_ROOM_DECAP_L3_IPV4 : BPF_F_ADJ_ROOM_DECAP_L3_IPV6) : 0;
  if (adjustRoom(skb, ETHERNET - start, BPF_ADJ_ROOM_MAC, flags + BPF_F_ADJ_ROOM_FIXED_GSO) !== 0) return TC_ACT_SHOT;
  if (other) {
    const link = skb.header(EtherType, ETHER_TYPE);
    if (link === null) return TC_ACT_SHOT;
    link.type = inner.number === AF_INET ? ETH_P_IP : ETH_P_IPV6;
  }
  return TC_ACT_UNSPEC;
}
