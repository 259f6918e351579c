/**
 * UDP's checksum after NAT. It may be 0 over IPv4, "the sender made none" (RFC 768); the packet then gets a real one, as from
 * the kernel's IPVS: somebody behind may insist.
 */
import { BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, htons, l4CsumReplace, raw, rawBe16, type Skb, u32 } from '@ipvsd/bpf';
import type { Family } from '../family.ts';
import { ETHERNET, IPPROTO_UDP, MAX_OFFSET, Udp } from '../packet/headers.ts';
import { finishSum, sumOf } from '../packet/sum.ts';

const UDP_CHECKSUM = 6;

/**
 * Mend it for addresses that changed by `difference`, and ports that were `old`, one or both; the packet moves.
 * @subprog alone
 */
export function mendUdp(skb: Skb, family: Family, transport: u32, difference: u32, old: u32, next: u32): void {
  const at = transport & MAX_OFFSET;
  const header = skb.header(Udp, at);
  if (header === null) return;
  if (raw(header.checksum) === 0) {
    const ip = skb.header(family.Header, ETHERNET);
    // Of a datagram in fragments the rest is not here.
    if (ip !== null && !family.isFragmented(ip)) complete(skb, family, at);
    return;
  }
  const checksum = at + UDP_CHECKSUM;
  l4CsumReplace(skb, checksum, 0, difference, BPF_F_PSEUDO_HDR + BPF_F_MARK_MANGLED_0);
  if (old !== next) l4CsumReplace(skb, checksum, old, next, 4 + BPF_F_MARK_MANGLED_0);
}

/** Sum up the whole datagram and its pseudo header. */
function complete(skb: Skb, family: Family, transport: u32): void {
  const ip = skb.header(family.Header, ETHERNET);
  if (ip === null) return;
  const end = family.length(ip) + ETHERNET;
  if (end < transport + 8) return;
  const length = u32(end - transport) & 0xffff;
  const pseudo = family.sum(ip) + raw(htons(IPPROTO_UDP)) + raw(htons(length));
  const checksum = finishSum(pseudo + sumOf(skb, transport, length));
  const udp = skb.header(Udp, transport);
  if (udp !== null) udp.checksum = rawBe16(checksum === 0 ? 0xffff : checksum & 0xffff);
}
