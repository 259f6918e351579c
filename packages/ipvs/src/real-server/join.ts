/**
 * A packet in a tunnel that came in pieces, as its outer header made it too long for the way: put together again, as only a whole
 * one can be opened. The piece that begins the packet waits for the one behind it, which is joined to it when it comes.
 *
 * IPv4 outside, and packets that an Ethernet frame could hold, outer header included; all else is the host's.
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
  raw,
  rawBe16,
  type Skb,
  stack,
  TC_ACT_SHOT,
  TC_ACT_UNSPEC,
  u32,
  type ViewOf,
} from '@ipvsd/bpf';
import { IPV4 } from '../family.ts';
import { FragmentKey } from '../fragment-key.ts';
import { isAwaited, lengthOfWaiting, takeWaiting, waitFor } from '../fragment-order.ts';
import { LONGEST } from '../frame-store.ts';
import { ETHERNET, IPPROTO_UDP, Ipv4 } from '../packet/headers.ts';
import { finishSum } from '../packet/sum.ts';
import { now as clock } from '../settings.ts';

const HEADER = 20;
const OFFSET = 0x1fff;
const MORE = 0x2000;
/** Marks keys of beginnings, whose offset is that of their end, off from those of pieces that wait for theirs. */
const BEGINNING = 0x80;

/** Beside verdicts: the packet is whole now, and has moved. */
export const WHOLE = 100;

/** A piece that begins with what a tunnel to us begins with: keep it for the rest. */
export function keepBeginning(skb: Skb): number {
  const ip = skb.header(Ipv4, ETHERNET);
  if (ip === null || ip.versionAndLength !== 0x45) return TC_ACT_UNSPEC;
  const length: u32 = ntohs(ip.length) + ETHERNET;
  if (length <= ETHERNET + HEADER || length > LONGEST || length > skb.len) return TC_ACT_UNSPEC;
  const key = stack(FragmentKey);
  identify(ip, key);
  const end = (length - ETHERNET - HEADER) >>> 3;
  if (skb.len !== length && changeTail(skb, length, 0) !== 0) return TC_ACT_SHOT;
  return keep(skb, key, end);
}

/** A piece that begins somewhere in a packet: WHOLE where it was the last one, else a verdict. */
export function joinPiece(skb: Skb): number {
  const ip = skb.header(Ipv4, ETHERNET);
  if (ip === null || ip.versionAndLength !== 0x45) return TC_ACT_UNSPEC;
  const length: u32 = ntohs(ip.length) + ETHERNET;
  if (length <= ETHERNET + HEADER || length > LONGEST || length > skb.len) return TC_ACT_UNSPEC;
  const place = ntohs(ip.fragment);
  const offset = place & OFFSET;
  const payload: u32 = length - ETHERNET - HEADER;
  const key = stack(FragmentKey);
  identify(ip, key);
  // Of UDP only its beginning says whether it is ours.
  const mayWait = ip.protocol !== IPPROTO_UDP;
  key.family = BEGINNING;
  key.offset = offset;
  if (!isAwaited(key)) {
    key.family = IPV4.number;
    return mayWait ? waitFor(skb, key, clock()) : TC_ACT_UNSPEC;
  }
  const before: u32 = offset * 8;
  if (skb.len !== length && changeTail(skb, length, 0) !== 0) return TC_ACT_SHOT;
  if (before + length > LONGEST || adjustRoom(skb, before & 0xfff, BPF_ADJ_ROOM_NET, 0) !== 0) return TC_ACT_SHOT;
  if (!takeWaiting(skb, key, ETHERNET + HEADER + before, clock())) return TC_ACT_SHOT;
  const whole = skb.header(Ipv4, ETHERNET);
  if (whole === null) return TC_ACT_SHOT;
  whole.length = htons((HEADER + before + payload) & 0xffff);
  whole.fragment = htons(place & MORE);
  whole.checksum = htons(0);
  whole.checksum = rawBe16(finishSum(u32(csumDiff(null, whole, 0))) & 0xffff);
  return (place & MORE) === 0 ? WHOLE : keep(skb, key, (before + payload) >>> 3);
}

/** The packet waits for the piece that begins at `end`; where that is here already it comes in once more. */
function keep(skb: Skb, key: FragmentKey, end: u32): number {
  key.family = BEGINNING;
  key.offset = end & 0xffff;
  const now = clock();
  const verdict = waitFor(skb, key, now);
  key.family = IPV4.number;
  if (verdict !== TC_ACT_SHOT || !isAwaited(key)) return verdict;
  // The packet at hand is put away: it can become the other one.
  const length = lengthOfWaiting(key);
  if (changeTail(skb, length, 0) === 0 && takeWaiting(skb, key, length, now)) {
    cloneRedirect(skb, skb.ifindex, BPF_F_INGRESS);
  }
  return verdict;
}

function identify(ip: ViewOf<typeof Ipv4>, key: FragmentKey): void {
  key.id = raw(ip.id);
  key.protocol = ip.protocol;
  IPV4.widen(key.source, ip.source);
  IPV4.widen(key.destination, ip.destination);
}
