/**
 * Arithmetic on constants exactly as the machine does it on registers.
 *
 * A constant is kept as the signed reading of its 64 bits, so equal bits are equal bigints.
 */
import type { BinaryKind, Condition } from '../ir.ts';

export const signed = (value: bigint, bits: 8 | 16 | 32 | 64 = 64): bigint => BigInt.asIntN(bits, value);
export const unsigned = (value: bigint, bits: 8 | 16 | 32 | 64 = 64): bigint => BigInt.asUintN(bits, value);

/** Whether the machine's 32-bit immediates, which it sign-extends, can hold it. */
export const fitsImmediate = (value: bigint): boolean => signed(value, 32) === signed(value);

export function evaluate(kind: BinaryKind, width: 32 | 64, left: bigint, right: bigint): bigint {
  const a = unsigned(left, width);
  const b = unsigned(right, width);
  const shift = b & BigInt(width - 1);
  const result = (): bigint => {
    switch (kind) {
      case 'add':
        return a + b;
      case 'sub':
        return a - b;
      case 'mul':
        return a * b;
      case 'div':
        return b === 0n ? 0n : a / b;
      case 'mod':
        return b === 0n ? a : a % b;
      case 'and':
        return a & b;
      case 'or':
        return a | b;
      case 'xor':
        return a ^ b;
      case 'shl':
        return a << shift;
      case 'shr':
        return a >> shift;
      case 'sar':
        return signed(a, width) >> shift;
    }
  };
  return signed(unsigned(result(), width));
}

export function extend(value: bigint, bits: 8 | 16 | 32, isSigned: boolean): bigint {
  return isSigned ? signed(value, bits) : unsigned(value, bits);
}

/** Reverses the low `bits`; those above become 0. */
export function swap(value: bigint, bits: 16 | 32 | 64): bigint {
  let result = 0n;
  for (let rest = unsigned(value, bits), done = 0; done < bits; done += 8, rest >>= 8n)
    result = (result << 8n) | (rest & 255n);
  return signed(result);
}

export function compare(condition: Condition, width: 32 | 64, left: bigint, right: bigint): boolean {
  const a = unsigned(left, width);
  const b = unsigned(right, width);
  const sa = signed(left, width);
  const sb = signed(right, width);
  switch (condition) {
    case 'eq':
      return a === b;
    case 'ne':
      return a !== b;
    case 'lt':
      return a < b;
    case 'le':
      return a <= b;
    case 'gt':
      return a > b;
    case 'ge':
      return a >= b;
    case 'slt':
      return sa < sb;
    case 'sle':
      return sa <= sb;
    case 'sgt':
      return sa > sb;
    case 'sge':
      return sa >= sb;
    case 'set':
      return (a & b) !== 0n;
  }
}

/** The condition that holds with the sides exchanged. */
export const MIRRORED: Readonly<Record<Condition, Condition>> = {
  eq: 'eq',
  ne: 'ne',
  lt: 'gt',
  le: 'ge',
  gt: 'lt',
  ge: 'le',
  slt: 'sgt',
  sle: 'sge',
  sgt: 'slt',
  sge: 'sle',
  set: 'set',
};

/** The condition that holds when this one does not; the machine has none for `set`. */
export const INVERTED: Readonly<Record<Condition, Condition | undefined>> = {
  eq: 'ne',
  ne: 'eq',
  lt: 'ge',
  le: 'gt',
  gt: 'le',
  ge: 'lt',
  slt: 'sge',
  sle: 'sgt',
  sgt: 'sle',
  sge: 'slt',
  set: undefined,
};
