/** IP headers that are written anew: before a packet in a tunnel, before an answer, and where a packet changes its family. */
import { assign, csumDiff, htonl, htons, rawBe16, type Skb, type u8, u32 } from '@ipvsd/bpf';
import type { Address6 } from './address.ts';
import { Ipv4, Ipv6 } from './headers.ts';
import { finishSum } from './sum.ts';

/** "Do not fragment", of `fragment`. */
export const WHOLE = 0x4000;

/**
 * A header without options at `at`: `length` bytes with all that follows, `id`, and `fragment` with flags and offset, as numbers. False where the packet ends before.
 */
export function writeIpv4(
  skb: Skb,
  at: u32,
  tos: u8,
  length: u32,
  id: u32,
  fragment: u32,
  timeToLive: u8,
  protocol: u8,
  source: Address6,
  destination: Address6,
): boolean {
  const ip = skb.header(Ipv4, at);
  if (ip === null) return false;
  ip.versionAndLength = 0x45;
  ip.tos = tos;
  ip.length = htons(length & 0xffff);
  ip.id = htons(id & 0xffff);
  ip.fragment = htons(fragment & 0xffff);
  ip.timeToLive = timeToLive;
  ip.protocol = protocol;
  ip.checksum = htons(0);
  ip.source.a = source.a;
  ip.destination.a = destination.a;
  ip.checksum = rawBe16(finishSum(u32(csumDiff(null, ip, 0))) & 0xffff);
  return true;
}

/** The same; `length` bytes follow it. */
export function writeIpv6(
  skb: Skb,
  at: u32,
  tos: u8,
  length: u32,
  timeToLive: u8,
  protocol: u8,
  source: Address6,
  destination: Address6,
): boolean {
  const ip = skb.header(Ipv6, at);
  if (ip === null) return false;
  ip.versionAndClass = htonl(u32(0x6000_0000 + tos * 0x10_0000));
  ip.payloadLength = htons(length & 0xffff);
  ip.protocol = protocol;
  ip.timeToLive = timeToLive;
  assign(ip.source, source);
  assign(ip.destination, destination);
  return true;
}
