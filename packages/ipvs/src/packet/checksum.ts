/**
 * Incremental checksums (RFC 1624): what changes in a header changes the ones' complement sum by new - old.
 *
 * Sums are exact integers until they are folded, so V8 and eBPF agree without a word about carries. The transport checksum
 * is patched by the kernel, which knows whether the packet's is complete or left to the network card.
 */
import { type be16, raw, rawBe16, u32 } from '@ipvsd/bpf';

/** An unfolded sum: how much `next` adds that `old` did not. At most 2^33 for words. */
export const wordDifference = (old: number, next: number): number => next + (0xffff_ffff - old);

/** Fold a sum below 2^48 to 32 bits, end-around. */
export function fold32(sum: number): u32 {
  const once = u32(sum) + u32(sum / 0x1_0000_0000);
  return u32(u32(once) + u32(once / 0x1_0000_0000));
}

/** Apply a sum of 32-bit differences to a header checksum. */
export function patch(checksum: be16, difference: u32): be16 {
  const sum = 0xffff - raw(checksum) + (difference & 0xffff) + (difference >>> 16);
  const once = (sum & 0xffff) + (sum >>> 16);
  const twice = (once & 0xffff) + (once >>> 16);
  return rawBe16(0xffff - (twice & 0xffff));
}
