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
  raw,
  type Skb,
  stack,
  TC_ACT_SHOT,
  TC_ACT_UNSPEC,
  type u8,
  type u32,
} from '@ipvsd/bpf';
import { type Family, IPV4, IPV6 } from '../family.ts';
import { AF_INET } from '../packet/address.ts';
import {
  ETHER_TYPE,
  ETHERNET,
  EtherType,
  Gre,
  Gue,
  IPPROTO_GRE,
  IPPROTO_IPIP,
  IPPROTO_IPV6,
  IPPROTO_UDP,
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

/** Outer packets for a virtual address lose their outer header; everything else goes on as it came. */
export function decapsulate(skb: Skb, outer: Family): number {
  const first = skb.header(outer.Header, ETHERNET);
  if (first === null || !outer.isValid(first)) return TC_ACT_UNSPEC;
  if (outer.isFragmented(first)) {
    if (outer.number !== AF_INET) return TC_ACT_UNSPEC;
    if (outer.isLaterFragment(first)) {
      if (!isCarrier(first.protocol)) return TC_ACT_UNSPEC;
      const verdict = joinPiece(skb);
      if (verdict !== WHOLE) return verdict;
    }
  }
  const ip = skb.header(outer.Header, ETHERNET);
  if (ip === null) return TC_ACT_UNSPEC;
  const behind = outer.transport(ip);
  const protocol = ip.protocol;
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
  if (outer.isFragment(around)) return keepBeginning(skb);
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
