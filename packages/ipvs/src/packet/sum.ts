/** The ones' complement sum over a piece of a packet, wherever it lies: for checksums that must be made, not mended. */
import { array, csumDiff, loadBytes, loop, type Skb, stack, struct, u8, u32 } from '@ipvsd/bpf';

const CHUNK = 32;
const Chunk = struct('sum_chunk', { bytes: array(u8, CHUNK) });
const WORD = 4;
const Word = struct('sum_word', { bytes: array(u8, WORD) });
const One = struct('sum_byte', { byte: u8 });

/**
 * `length` bytes from `offset` on, in the machine's order, folded to 17 bits at most.
 * @subprog alone
 */
export function sumOf(skb: Skb, offset: u32, length: u32): u32 {
  const whole: u32 = (length & 0xffff) >>> 5;
  const words: u32 = (length & (CHUNK - 1)) >>> 2;
  const chunk = stack(Chunk);
  const word = stack(Word);
  const one = stack(One);
  let sum: u32 = 0;
  loop(whole, (i) => {
    if (loadBytes(skb, u32(offset + i * CHUNK) & 0xffff, chunk) !== 0) return 1;
    sum = u32(csumDiff(null, chunk, sum));
    return 0;
  });
  loop(words, (i) => {
    if (loadBytes(skb, u32(offset + whole * CHUNK + i * WORD) & 0xffff, word) !== 0) return 1;
    sum = u32(csumDiff(null, word, sum));
    return 0;
  });
  // What is left, byte by byte: an even one is the low half of its word.
  let rest: u32 = 0;
  for (let i = 0; i < WORD; i++) {
    if (i >= (length & (WORD - 1))) break;
    if (loadBytes(skb, u32(offset + whole * CHUNK + words * WORD + i) & 0xffff, one) !== 0) break;
    rest = u32(rest + ((i & 1) === 0 ? one.byte : one.byte * 256));
  }
  return u32((sum & 0xffff) + (sum >>> 16) + (rest & 0xffff) + (rest >>> 16));
}

/** A sum below 2^48, folded and complemented: a checksum. */
export function finishSum(total: number): u32 {
  const once = (total & 0xffff) + u32(total / 0x1_0000);
  const twice = (once & 0xffff) + u32(once / 0x1_0000);
  const thrice = (twice & 0xffff) + (twice >>> 16);
  return 0xffff - (((thrice & 0xffff) + (thrice >>> 16)) & 0xffff);
}
