/**
 * SCTP's CRC32c (RFC 9260) after a port has changed, without reading the packet: a CRC is linear, so the checksum changes by
 * the CRC of what changed - two bytes, followed by as many zero bytes as the packet has left.
 *
 * Zeros are not fed in one by one: n of them multiply the CRC by x^(8n) modulo the polynomial, and that is a product of
 * powers x^(8 * 2^k), known when the program is compiled. Some 500 steps for any length, and a checksum that was wrong
 * stays wrong.
 */
import { type be16, raw, rawBe32, type Skb, u32 } from '@ipvsd/bpf';
import type { Family } from '../family.ts';
import { ETHERNET, MAX_OFFSET, Sctp } from '../packet/headers.ts';

/** The polynomial of CRC32c with its bits reversed, as the wire has them. */
const POLYNOMIAL = 0x82f6_3b78;

/**
 * The product of two polynomials modulo it; bits reversed, so that x^0 is the top bit. Without a branch, as the verifier would
 * follow each side of each of them.
 * @subprog alone
 */
function multiply(a: u32, b: u32): u32 {
  let product: u32 = 0;
  let power: u32 = b;
  let rest: u32 = a;
  for (let i = 0; i < 32; i++) {
    product = u32(product ^ (power & -(rest >>> 31)));
    rest = u32(rest * 2);
    power = u32((power >>> 1) ^ (POLYNOMIAL & -(power & 1)));
  }
  return product;
}

/** x^(8 * 2^k), for k from 0. */
const POWERS: readonly { readonly bit: number; readonly value: number }[] = (() => {
  const powers: { bit: number; value: number }[] = [];
  // x^8: eight below the top bit.
  for (let k = 0, value = 0x0080_0000; k < 16; k++, value = multiply(value, value)) powers.push({ bit: 1 << k, value });
  return powers;
})();

/** The CRC `crc` after `count` more zero bytes. */
function afterZeros(crc: u32, count: u32): u32 {
  let advanced: u32 = crc;
  for (const { bit, value } of POWERS) if ((count & bit) !== 0) advanced = multiply(value, advanced);
  return advanced;
}

/**
 * Mend the checksum for a port that became `next`. `first`: 1 for the source port, 0 for the destination port.
 * @subprog alone
 */
export function mendSctp(skb: Skb, family: Family, transport: u32, first: number, old: be16, next: be16): void {
  const ip = skb.header(family.Header, ETHERNET);
  if (ip === null) return;
  const length = family.length(ip) + ETHERNET;
  const at = transport & MAX_OFFSET;
  const header = skb.header(Sctp, at);
  if (header === null || length < at + 12) return;
  // The two bytes as the first in a fresh register: 16 bits shifted through, that is multiplied by x^16.
  const changed = u32(raw(old) ^ raw(next));
  const behind = length - at - (first === 1 ? 2 : 4);
  const crc = afterZeros(multiply(changed, X16), u32(behind) & 0xffff);
  header.checksum = rawBe32(u32(raw(header.checksum) ^ crc));
}

/** x^16, for the register that two bytes have passed. */
const X16 = 0x0000_8000;
