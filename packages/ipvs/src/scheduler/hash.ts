/**
 * The two hashes of the kernel's hashing schedulers; that each client gets the same real server as from the kernel hangs on
 * them bit by bit.
 */
import { mul32, u32, u64 } from '@ipvsd/bpf';

/** 2^32 divided by the golden ratio squared, as include/linux/hash.h has it. */
const GOLDEN_RATIO_32 = 0x61c8_8647;

/** One of 256 buckets: the top bits of a multiplication. */
export const bucketOf = (x: u32): u32 => mul32(x, GOLDEN_RATIO_32) >>> 24;

/** To the left; a product wraps where a shift would have to be shown to fit. */
const rotate = (x: u64, bits: bigint): u64 => u64(x * (1n << bits)) | (x >> (64n - bits));

/** "somepseudorandomlygeneratedbytes", the constants of SipHash. */
const INITIAL = [
  0x736f_6d65_7073_6575n,
  0x646f_7261_6e64_6f6dn,
  0x6c79_6765_6e65_7261n,
  0x7465_6462_7974_6573n,
] as const;

/**
 * SipHash-1-3 of one 32-bit word, its low 32 bits; both halves of the key are `key`.
 *
 * A round is written out four times: the state lives in registers, and the language returns one value only.
 */
export function sipHash(word: u32, key: bigint): u32 {
  // The last block: the word, and the length 4 in the top byte.
  const block = u64(word) | (4n << 56n);
  let a: u64 = INITIAL[0] ^ key;
  let b: u64 = INITIAL[1] ^ key;
  let c: u64 = INITIAL[2] ^ key;
  let d: u64 = INITIAL[3] ^ key;
  d = d ^ block;
  for (let round = 0; round < 4; round++) {
    a = u64(a + b);
    b = rotate(b, 13n);
    b = b ^ a;
    a = rotate(a, 32n);
    c = u64(c + d);
    d = rotate(d, 16n);
    d = d ^ c;
    a = u64(a + d);
    d = rotate(d, 21n);
    d = d ^ a;
    c = u64(c + b);
    b = rotate(b, 17n);
    b = b ^ c;
    c = rotate(c, 32n);
    // One round takes the block in, three finish.
    if (round === 0) {
      a = a ^ block;
      c = c ^ 0xffn;
    }
  }
  return u32(a ^ b ^ c ^ d);
}
