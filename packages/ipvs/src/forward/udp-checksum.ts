/**
 * UDP's checksum after NAT. It may be 0 over IPv4, "the sender made none" (RFC 768); the packet then gets a real one, as from
 * the kernel's IPVS: somebody behind may insist.
 */
import {
  array,
  BPF_F_MARK_MANGLED_0,
  BPF_F_PSEUDO_HDR,
  type be16,
  csumDiff,
  htons,
  l4CsumReplace,
  loadBytes,
  loop,
  raw,
  rawBe16,
  type Skb,
  stack,
  struct,
  u8,
  u32,
} from '@ipvsd/bpf';
import type { Family } from '../family.ts';
import { ETHERNET, IPPROTO_UDP, Udp } from '../packet/headers.ts';

const UDP_CHECKSUM = 6;
const CHUNK = 32;
const Chunk = struct('udp_chunk', { bytes: array(u8, CHUNK) });
const One = struct('udp_byte', { byte: u8 });

/** Mend it for an address that changed by `difference` and a port; the packet moves. */
export function mendUdp(skb: Skb, family: Family, transport: u32, difference: u32, old: be16, next: be16): void {
  const header = skb.header(Udp, transport);
  if (header === null) return;
  if (raw(header.checksum) === 0) {
    complete(skb, family, transport);
    return;
  }
  const checksum = transport + UDP_CHECKSUM;
  l4CsumReplace(skb, checksum, 0, difference, BPF_F_PSEUDO_HDR + BPF_F_MARK_MANGLED_0);
  if (old !== next) l4CsumReplace(skb, checksum, raw(old), raw(next), 2 + BPF_F_MARK_MANGLED_0);
}

/** Sum up the whole datagram and its pseudo header. */
function complete(skb: Skb, family: Family, transport: u32): void {
  const ip = skb.header(family.Header, ETHERNET);
  const header = skb.header(Udp, transport);
  if (ip === null || header === null) return;
  const end = family.length(ip) + ETHERNET;
  if (end < transport + 8) return;
  const length = u32(end - transport);
  const pseudo = family.sum(ip) + raw(htons(IPPROTO_UDP)) + raw(htons(length & 0xffff));
  const whole = length >>> 5;
  const chunk = stack(Chunk);
  const one = stack(One);
  let sum: u32 = 0;
  loop(whole, (i) => {
    if (loadBytes(skb, u32(transport + i * CHUNK) & 0xffff, chunk) !== 0) return 1;
    sum = u32(csumDiff(null, chunk, sum));
    return 0;
  });
  // What is left, byte by byte: an even one is the low half of its word.
  let rest: u32 = 0;
  for (let i = 0; i < CHUNK; i++) {
    if (i >= (length & (CHUNK - 1))) break;
    if (loadBytes(skb, u32(transport + whole * CHUNK + i) & 0xffff, one) !== 0) break;
    rest = u32(rest + ((i & 1) === 0 ? one.byte : one.byte * 256));
  }
  const total = pseudo + (sum & 0xffff) + (sum >>> 16) + rest;
  const once = (total & 0xffff) + u32(total / 0x1_0000);
  const twice = (once & 0xffff) + (once >>> 16);
  const folded = 0xffff - ((twice & 0xffff) + (twice >>> 16));
  const udp = skb.header(Udp, transport);
  if (udp !== null) udp.checksum = rawBe16(folded === 0 ? 0xffff : folded & 0xffff);
}
