/** Checksum arithmetic of the kernel's helpers, for Node (RFC 1071, RFC 1624). */

/** Ones' complement sum of two 32-bit partial sums. */
export function addSums(a: number, b: number): number {
  const sum = (a >>> 0) + (b >>> 0);
  return sum > 0xffff_ffff ? sum - 0xffff_ffff : sum;
}

/** Folds a 32-bit partial sum to 16 bits and complements it. */
export function foldSum(sum: number): number {
  let folded = (sum & 0xffff) + (sum >>> 16);
  folded = (folded & 0xffff) + (folded >>> 16);
  return ~folded & 0xffff;
}

/** The partial sum over bytes, in the machine's (little-endian) order as the kernel computes it. */
export function sumBytes(bytes: Uint8Array, seed = 0): number {
  let sum = seed;
  for (let i = 0; i < bytes.length; i += 2) sum = addSums(sum, bytes[i]! | ((bytes[i + 1] ?? 0) << 8));
  return sum;
}
