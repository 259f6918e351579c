/**
 * A packet in a tunnel that came in pieces, as its outer header made it too long for the way: put together again, as only a whole
 * one can be opened. The piece that begins the packet waits for the one behind it, which is joined to it when it comes.
 *
 * Packets that an Ethernet frame could hold, outer header included; all else is the host's.
 */
import {
  adjustRoom,
  BPF_ADJ_ROOM_NET,
  BPF_F_INGRESS,
  changeTail,
  cloneRedirect,
  csumDiff,
  htons,
  ntohs,
  rawBe16,
  type Skb,
  stack,
  TC_ACT_SHOT,
  TC_ACT_UNSPEC,
  u32,
} from '@ipvsd/bpf';
import type { Family } from '../family.ts';
import { describe, FragmentKey } from '../fragment-key.ts';
import { isAwaited, lengthOfWaiting, takeWaiting, waitFor } from '../fragment-order.ts';
import { LONGEST } from '../frame-store.ts';
import { AF_INET } from '../packet/address.ts';
import { ETHERNET, FRAGMENT6, Fragment6, IPPROTO_UDP, Ipv4, Ipv6 } from '../packet/headers.ts';
import { finishSum } from '../packet/sum.ts';
import { now as clock } from '../settings.ts';

/** Bytes before a piece's own: the IP header, in IPv6 with its extension. */
const HEADER_4 = 20;
const HEADER_6 = 40 + FRAGMENT6;
const MORE = 0x2000;
const MORE_6 = 1;
const NO_OPTIONS = 0x45;
/** Marks keys of beginnings, whose offset is that of their end, off from those of pieces that wait for theirs. */
const BEGINNING = 0x80;

/** Beside verdicts: the packet is whole now, and has moved. */
export const WHOLE = 100;

/** A piece that begins with what a tunnel to us begins with: keep it for the rest. */
export function keepBeginning(skb: Skb, family: Family): number {
  const length = lengthOf(skb, family);
  if (length === 0) return TC_ACT_UNSPEC;
  const key = stack(FragmentKey);
  describe(skb, family, key);
  const end = (length - ETHERNET - headerOf(family)) >>> 3;
  if (skb.len !== length && changeTail(skb, length, 0) !== 0) return TC_ACT_SHOT;
  return keep(skb, family, key, end);
}

/** A piece that begins somewhere in a packet: WHOLE where it was the last one, else a verdict. */
export function joinPiece(skb: Skb, family: Family): number {
  const length = lengthOf(skb, family);
  if (length === 0) return TC_ACT_UNSPEC;
  const header = headerOf(family);
  const more = isMore(skb, family);
  const payload = u32(length - ETHERNET - header);
  const key = stack(FragmentKey);
  describe(skb, family, key);
  const offset = key.offset;
  // Of UDP only its beginning says whether it is ours.
  const mayWait = key.protocol !== IPPROTO_UDP;
  key.family = BEGINNING;
  if (!isAwaited(key)) {
    key.family = family.number;
    return mayWait ? waitFor(skb, key, clock()) : TC_ACT_UNSPEC;
  }
  const before: u32 = offset * 8;
  if (skb.len !== length && changeTail(skb, length, 0) !== 0) return TC_ACT_SHOT;
  if (before + length > LONGEST || adjustRoom(skb, before & 0xfff, BPF_ADJ_ROOM_NET, 0) !== 0) return TC_ACT_SHOT;
  if (!takeWaiting(skb, key, ETHERNET + header + before, clock())) return TC_ACT_SHOT;
  if (!write(skb, family, u32(header + before + payload), more)) return TC_ACT_SHOT;
  return more ? keep(skb, family, key, (before + payload) >>> 3) : WHOLE;
}

const headerOf = (family: Family): number => (family.number === AF_INET ? HEADER_4 : HEADER_6);

/** Of the frame, without what a card has put behind it; 0 where it cannot be joined. */
function lengthOf(skb: Skb, family: Family): u32 {
  const ip = skb.header(family.Header, ETHERNET);
  if (ip === null || (family.number === AF_INET && ip.versionAndLength !== NO_OPTIONS)) return 0;
  const length: u32 = family.length(ip) + ETHERNET;
  return length <= ETHERNET + headerOf(family) || length > LONGEST || length > skb.len ? 0 : length;
}

function isMore(skb: Skb, family: Family): boolean {
  if (family.number === AF_INET) {
    const ip = skb.header(Ipv4, ETHERNET);
    return ip !== null && (ntohs(ip.fragment) & MORE) !== 0;
  }
  const extension = skb.header(Fragment6, ETHERNET + Ipv6.size);
  return extension !== null && (ntohs(extension.offset) & MORE_6) !== 0;
}

/** The headers say that the packet begins here and has `length` bytes, and whether more follow. */
function write(skb: Skb, family: Family, length: u32, more: boolean): boolean {
  if (family.number !== AF_INET) {
    const ip = skb.header(Ipv6, ETHERNET);
    const extension = skb.header(Fragment6, ETHERNET + Ipv6.size);
    if (ip === null || extension === null) return false;
    ip.payloadLength = htons(u32(length - Ipv6.size) & 0xffff);
    extension.offset = htons(more ? MORE_6 : 0);
    return true;
  }
  const ip = skb.header(Ipv4, ETHERNET);
  if (ip === null) return false;
  ip.length = htons(length & 0xffff);
  ip.fragment = htons(more ? MORE : 0);
  ip.checksum = htons(0);
  ip.checksum = rawBe16(finishSum(u32(csumDiff(null, ip, 0))) & 0xffff);
  return true;
}

/** The packet waits for the piece that begins at `end`; where that is here already it comes in once more. */
function keep(skb: Skb, family: Family, key: FragmentKey, end: u32): number {
  key.family = BEGINNING;
  key.offset = end & 0xffff;
  const now = clock();
  const verdict = waitFor(skb, key, now);
  key.family = family.number;
  if (verdict !== TC_ACT_SHOT || !isAwaited(key)) return verdict;
  // The packet at hand is put away: it can become the other one.
  const length = lengthOfWaiting(key);
  if (changeTail(skb, length, 0) === 0 && takeWaiting(skb, key, length, now)) {
    cloneRedirect(skb, skb.ifindex, BPF_F_INGRESS);
  }
  return verdict;
}
