/**
 * Intervals of exact integers: the proof that a value fits where it goes.
 *
 * Bounds are bigint, so the analysis itself never rounds. Two intervals are kept for a value (`Bounds`): `range` is what is
 * true, `known` is what the kernel's verifier will find out for itself. They differ after divisions, helper calls and
 * bpf_loop indexes, which the verifier does not follow; where a pointer depends on such a value, lowering adds a check.
 */

export interface Range {
  readonly lo: bigint;
  readonly hi: bigint;
}

export interface Bounds {
  readonly range: Range;
  readonly known: Range;
}

export const range = (lo: bigint, hi: bigint): Range => ({ lo, hi });
export const exactly = (value: bigint): Range => ({ lo: value, hi: value });

const U8 = range(0n, 0xffn);
export const U16 = range(0n, 0xffffn);
export const U31 = range(0n, 0x7fff_ffffn);
export const U32 = range(0n, 0xffff_ffffn);
export const I32 = range(-0x8000_0000n, 0x7fff_ffffn);
export const U64 = range(0n, 0xffff_ffff_ffff_ffffn);
export const I64 = range(-0x8000_0000_0000_0000n, 0x7fff_ffff_ffff_ffffn);
export const BOOLEAN = range(0n, 1n);
/** Numbers are exact in JavaScript up to here. */
export const SAFE = range(-(2n ** 53n - 1n), 2n ** 53n - 1n);
/** Any 64-bit register, read as signed or unsigned: the verifier knows nothing. */
export const UNKNOWN = range(I64.lo, U64.hi);

/** The range of each scalar as it lies in memory. */
export const SCALAR_RANGES = { u8: U8, u16: U16, u32: U32, i32: I32, u64: U64, be16: U16, be32: U32 } as const;

/** Bounds that the verifier sees too. */
export const seen = (range: Range): Bounds => ({ range, known: range });
/** Bounds that only we know. */
export const unseen = (range: Range): Bounds => ({ range, known: UNKNOWN });

export const contains = (outer: Range, inner: Range): boolean => outer.lo <= inner.lo && inner.hi <= outer.hi;
export const isExact = (a: Range): boolean => a.lo === a.hi;
export const isNonNegative = (a: Range): boolean => a.lo >= 0n;
export const union = (a: Range, b: Range): Range => range(min(a.lo, b.lo), max(a.hi, b.hi));
export const sameRange = (a: Range, b: Range): boolean => a.lo === b.lo && a.hi === b.hi;

/** Undefined where nothing is in both. */
export function intersect(a: Range, b: Range): Range | undefined {
  const lo = max(a.lo, b.lo);
  const hi = min(a.hi, b.hi);
  return lo > hi ? undefined : range(lo, hi);
}

export const unionBounds = (a: Bounds, b: Bounds): Bounds => ({
  range: union(a.range, b.range),
  known: union(a.known, b.known),
});

export type RangeOperator = '+' | '-' | '*' | '/' | '%' | '&' | '|' | '^' | '<<' | '>>';

/** The exact result of an operator on intervals; bit operators and shifts ask for non-negative operands. */
export function rangeOf(operator: RangeOperator, a: Range, b: Range): Range {
  switch (operator) {
    case '+':
      return range(a.lo + b.lo, a.hi + b.hi);
    case '-':
      return range(a.lo - b.hi, a.hi - b.lo);
    case '*':
      return hull(a.lo * b.lo, a.lo * b.hi, a.hi * b.lo, a.hi * b.hi);
    case '/':
      // Division by zero gives 0, so 0 is always possible where the divisor may be 0.
      return range(b.lo <= 0n ? 0n : a.lo / b.hi, b.hi === 0n ? 0n : a.hi / max(b.lo, 1n));
    case '%':
      return a.hi < b.lo ? a : range(0n, min(a.hi, b.hi - 1n));
    case '&':
      return range(isExact(a) && isExact(b) ? a.lo & b.lo : 0n, min(a.hi, b.hi));
    case '|':
      return range(max(a.lo, b.lo), isExact(a) && isExact(b) ? a.lo | b.lo : maskOver(max(a.hi, b.hi)));
    case '^':
      return range(0n, maskOver(max(a.hi, b.hi)));
    case '<<':
      return range(a.lo << b.lo, a.hi << b.hi);
    case '>>':
      return range(a.lo >> b.hi, a.hi >> b.lo);
  }
}

/** What the verifier makes of the same operator: nothing for divisions, and nothing where its 64 bits may overflow. */
export function knownOf(operator: RangeOperator, a: Range, b: Range): Range {
  if (operator === '/' || operator === '%') return UNKNOWN;
  if (operator === '&') {
    // A mask bounds even what is unknown.
    if (b.lo >= 0n && b.hi <= I64.hi) return range(0n, a.lo >= 0n ? min(a.hi, b.hi) : b.hi);
    if (a.lo >= 0n && a.hi <= I64.hi) return range(0n, a.hi);
    return UNKNOWN;
  }
  const bits = operator === '|' || operator === '^' || operator === '<<' || operator === '>>';
  if (bits && !(isNonNegative(a) && isNonNegative(b))) return UNKNOWN;
  if ((operator === '<<' || operator === '>>') && !isExact(b)) return UNKNOWN;
  if (operator === '*' && !(contains(U32, a) && contains(U32, b))) return UNKNOWN;
  const result = rangeOf(operator, a, b);
  return contains(U64, result) || contains(I64, result) ? result : UNKNOWN;
}

export const boundsOf = (operator: RangeOperator, a: Bounds, b: Bounds): Bounds => ({
  range: rangeOf(operator, a.range, b.range),
  known: knownOf(operator, a.known, b.known),
});

/** As people write it: `5` or `0..65535`, powers of two near the ends of the big types by name. */
export function showRange({ lo, hi }: Range): string {
  return lo === hi ? showBound(lo) : `${showBound(lo)}..${showBound(hi)}`;
}

const NAMED: readonly (readonly [bigint, string])[] = [
  [U32.hi, '2^32-1'],
  [U64.hi, '2^64-1'],
  [I32.lo, '-2^31'],
  [I32.hi, '2^31-1'],
  [SAFE.hi, '2^53-1'],
];

function showBound(value: bigint): string {
  const named = NAMED.find(([bound]) => bound === value);
  if (named !== undefined) return named[1];
  const magnitude = value < 0n ? -value : value;
  if (magnitude < 10_000_000_000n) return String(value);
  return `${value < 0n ? '-' : ''}about 2^${Math.round(Math.log2(Number(magnitude)))}`;
}

const hull = (...values: bigint[]): Range =>
  range(
    values.reduce((a, b) => min(a, b)),
    values.reduce((a, b) => max(a, b)),
  );
export const min = (a: bigint, b: bigint): bigint => (a < b ? a : b);
const max = (a: bigint, b: bigint): bigint => (a > b ? a : b);
/** The smallest 2^n - 1 that is at least `value`. */
const maskOver = (value: bigint): bigint => (value <= 0n ? 0n : (1n << BigInt(value.toString(2).length)) - 1n);
