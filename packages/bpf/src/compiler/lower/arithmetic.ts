/**
 * Calculation on numbers and bigints, exact or refused.
 *
 * An intermediate number is an exact integer in 64 bits, proven to stay within 2^53, so V8 and eBPF cannot disagree. Inside a
 * narrowing (`u32(a ^ b)`) only the low bits matter; narrow.ts does those.
 */
import ts from 'typescript';
import { say } from '../diagnostics.ts';
import type { BinaryKind, Operand } from '../ir.ts';
import type { FunctionLowering } from './function.ts';
import { isBigint, type Numeric, numeric, operandOf } from './operand.ts';
import {
  type Bounds,
  boundsOf,
  contains,
  exactly,
  I32,
  I64,
  isExact,
  isNonNegative,
  knownOf,
  min,
  type Range,
  range,
  rangeOf,
  SAFE,
  seen,
  showRange,
  U31,
  U32,
  U64,
  UNKNOWN,
  unseen,
} from './range.ts';
import { constant, isConstant, type ScalarKind, type ScalarValue, type Value } from './value.ts';

export type Operator = '+' | '-' | '*' | '/' | '%' | '&' | '|' | '^' | '<<' | '>>' | '>>>';

const OPERATORS: ReadonlyMap<ts.SyntaxKind, Operator> = new Map([
  [ts.SyntaxKind.PlusToken, '+'],
  [ts.SyntaxKind.MinusToken, '-'],
  [ts.SyntaxKind.AsteriskToken, '*'],
  [ts.SyntaxKind.SlashToken, '/'],
  [ts.SyntaxKind.PercentToken, '%'],
  [ts.SyntaxKind.AmpersandToken, '&'],
  [ts.SyntaxKind.BarToken, '|'],
  [ts.SyntaxKind.CaretToken, '^'],
  [ts.SyntaxKind.LessThanLessThanToken, '<<'],
  [ts.SyntaxKind.GreaterThanGreaterThanToken, '>>'],
  [ts.SyntaxKind.GreaterThanGreaterThanGreaterThanToken, '>>>'],
  [ts.SyntaxKind.PlusEqualsToken, '+'],
  [ts.SyntaxKind.MinusEqualsToken, '-'],
  [ts.SyntaxKind.AsteriskEqualsToken, '*'],
  [ts.SyntaxKind.SlashEqualsToken, '/'],
  [ts.SyntaxKind.PercentEqualsToken, '%'],
  [ts.SyntaxKind.AmpersandEqualsToken, '&'],
  [ts.SyntaxKind.BarEqualsToken, '|'],
  [ts.SyntaxKind.CaretEqualsToken, '^'],
  [ts.SyntaxKind.LessThanLessThanEqualsToken, '<<'],
  [ts.SyntaxKind.GreaterThanGreaterThanEqualsToken, '>>'],
  [ts.SyntaxKind.GreaterThanGreaterThanGreaterThanEqualsToken, '>>>'],
]);

/** The operator of `a + b` and of `a += b`. */
export const operatorOf = (kind: ts.SyntaxKind): Operator | undefined => OPERATORS.get(kind);

/** `a op b` as JavaScript means it. */
export function calculate(f: FunctionLowering, node: ts.Node, operator: Operator, a: Value, b: Value): Value {
  if (isConstant(a) && isConstant(b)) return constant(fold(operator, a.value, b.value));
  if (isString(a) || isString(b)) return f.fail(node, say.string());
  const left = numeric(f, node, a);
  const right = numeric(f, node, b);
  if (isBigint(left) !== isBigint(right)) return f.fail(node, say.mixedBigint());
  if (isBigint(left)) return calculateBigint(f, node, operator, left, right);
  switch (operator) {
    case '+':
    case '-':
    case '*':
      return exact(f, node, operator, left, right);
    case '/':
      return f.fail(node, say.bareDivision());
    case '%':
      return remainder(f, node, left, right);
    case '&':
    case '|':
    case '^':
      return bitwise(f, operator, left, right);
    default:
      return shift(f, operator, left, right);
  }
}

const isString = (value: Value): boolean => value.kind === 'constant' && typeof value.value === 'string';

/** What V8 would say; build-time values only. */
function fold(operator: Operator, left: unknown, right: unknown): unknown {
  const a = left as number;
  const b = right as number;
  switch (operator) {
    case '+':
      return a + b;
    case '-':
      return a - b;
    case '*':
      return a * b;
    case '/':
      return a / b;
    case '%':
      return a % b;
    case '&':
      return a & b;
    case '|':
      return a | b;
    case '^':
      return a ^ b;
    case '<<':
      return a << b;
    case '>>':
      return a >> b;
    case '>>>':
      return a >>> b;
  }
}

export function binary(
  f: FunctionLowering,
  kind: BinaryKind,
  width: 32 | 64,
  a: Operand,
  b: Operand,
  bounds: Bounds,
  type: ScalarKind = 'number',
): ScalarValue {
  const result = f.scalar(type, bounds);
  f.emit({ op: 'binary', kind, width, dst: result.reg, a, b });
  return result;
}

export function extend(
  f: FunctionLowering,
  operand: Operand,
  bits: 8 | 16 | 32,
  signed: boolean,
  bounds: Bounds,
  type: ScalarKind = 'number',
): Value {
  if ('imm' in operand) {
    const value = signed ? BigInt.asIntN(bits, operand.imm) : BigInt.asUintN(bits, operand.imm);
    return constant(type === 'bigint' ? value : Number(value));
  }
  const result = f.scalar(type, bounds);
  f.emit({ op: 'extend', dst: result.reg, src: operand.reg, bits, signed });
  return result;
}

const KINDS = { '+': 'add', '-': 'sub', '*': 'mul', '&': 'and', '|': 'or', '^': 'xor' } as const;

function exact(f: FunctionLowering, node: ts.Node, operator: '+' | '-' | '*', a: Numeric, b: Numeric): Value {
  const bounds = boundsOf(operator, f.boundsOf(a), f.boundsOf(b));
  if (!contains(SAFE, bounds.range)) return f.fail(node, say.beyondSafe(showRange(bounds.range)));
  return emitExact(f, operator, a, b, bounds, 'number');
}

/** With constants on the right, and nothing at all for `x + 0` and `x * 1`. */
function emitExact(
  f: FunctionLowering,
  operator: '+' | '-' | '*' | '&' | '|' | '^',
  a: Numeric,
  b: Numeric,
  bounds: Bounds,
  type: ScalarKind,
): Value {
  if (a.kind === 'constant' && operator !== '-') return emitExact(f, operator, b, a, bounds, type);
  if (b.kind === 'constant') {
    const value = BigInt(b.value as number | bigint);
    if (value === 0n && (operator === '+' || operator === '-')) return a;
    if (value === 1n && operator === '*') return a;
    const power = operator === '*' ? powerOfTwo(value) : undefined;
    if (power !== undefined) return binary(f, 'shl', 64, operandOf(a), { imm: power }, bounds, type);
  }
  return binary(f, KINDS[operator], 64, operandOf(a), operandOf(b), bounds, type);
}

/** n where value is 2^n. */
export function powerOfTwo(value: bigint): bigint | undefined {
  if (value <= 0n || (value & (value - 1n)) !== 0n) return undefined;
  return BigInt(value.toString(2).length - 1);
}

function remainder(f: FunctionLowering, node: ts.Node, a: Numeric, b: Numeric): Value {
  const [left, right] = [f.boundsOf(a), f.boundsOf(b)];
  if (!isNonNegative(left.range)) return f.fail(node, say.negativeDivision(showRange(left.range)));
  if (right.range.lo <= 0n) {
    const message = right.range.lo === 0n ? say.zeroModulus : say.negativeDivision;
    return f.fail(node, message(showRange(right.range)));
  }
  if (right.range.lo > left.range.hi) return a;
  return divide(f, '%', a, b, isBigint(a) ? 'bigint' : 'number');
}

/** Unsigned division of what is known to be non-negative; by 0 it gives 0. */
export function divide(f: FunctionLowering, operator: '/' | '%', a: Numeric, b: Numeric, type: ScalarKind): Value {
  const [left, right] = [f.boundsOf(a), f.boundsOf(b)];
  const result = boundsOf(operator, left, right);
  const power = isExact(right.range) ? powerOfTwo(right.range.lo) : undefined;
  if (power !== undefined) {
    const quotient = operator === '/';
    const by = quotient ? exactly(power) : exactly(right.range.lo - 1n);
    const known = knownOf(quotient ? '>>' : '&', left.known, by);
    if (power === 0n && quotient) return a;
    return binary(f, quotient ? 'shr' : 'and', 64, operandOf(a), { imm: by.lo }, { range: result.range, known }, type);
  }
  const width = contains(U32, left.range) && contains(U32, right.range) ? 32 : 64;
  // The verifier forgets all about a quotient, even that 32 bits of it are 32 bits.
  return binary(f, operator === '/' ? 'div' : 'mod', width, operandOf(a), operandOf(b), unseen(result.range), type);
}

/** The int32 of JavaScript; plain 64-bit operations wherever sign and size allow. */
function bitwise(f: FunctionLowering, operator: '&' | '|' | '^', a: Numeric, b: Numeric): Value {
  const [left, right] = [f.boundsOf(a), f.boundsOf(b)];
  if (operator === '&' && (contains(U31, left.range) || contains(U31, right.range))) {
    return emitExact(f, '&', a, b, maskBounds(left, right), 'number');
  }
  if (operator !== '&' && b.kind === 'constant' && b.value === 0) {
    return contains(I32, left.range) ? a : extend(f, operandOf(a), 32, true, seen(I32));
  }
  if (contains(I32, left.range) && contains(I32, right.range)) {
    return emitExact(f, operator, a, b, signedBits(operator, left, right, I32), 'number');
  }
  const low = binary(f, KINDS[operator], 32, operandOf(a), operandOf(b), seen(U32));
  return extend(f, operandOf(low), 32, true, seen(I32));
}

/** Bounds of `a & b` where at least one side is a non-negative mask, which also clears the other's sign. */
export function maskBounds(a: Bounds, b: Bounds): Bounds {
  const limits = [a.range, b.range].filter((r) => r.lo >= 0n).map((r) => r.hi);
  const hi = limits.reduce(min);
  return { range: range(0n, hi), known: knownOf('&', a.known, b.known) };
}

function signedBits(operator: '&' | '|' | '^', a: Bounds, b: Bounds, whole: Range): Bounds {
  if (isNonNegative(a.range) && isNonNegative(b.range)) return boundsOf(operator, a, b);
  return { range: whole, known: UNKNOWN };
}

/** A shift count as JavaScript takes it: modulo 32. */
export function shiftCount(f: FunctionLowering, count: Numeric, mask: 31 | 63 = 31): Numeric {
  const limit = range(0n, BigInt(mask));
  if (count.kind === 'constant') return constant(Number(BigInt(count.value as number | bigint) & limit.hi));
  if (contains(limit, f.boundsOf(count).range)) return count;
  return binary(f, 'and', 64, operandOf(count), { imm: limit.hi }, seen(limit), count.kind);
}

function shift(f: FunctionLowering, operator: '<<' | '>>' | '>>>', a: Numeric, b: Numeric): Value {
  const count = shiftCount(f, b);
  const [left, right] = [f.boundsOf(a), f.boundsOf(count)];
  if (operator === '<<') return shiftLeft(f, a, count, left, right);
  if (operator === '>>>') {
    const whole = contains(U32, left.range) ? a : (extend(f, operandOf(a), 32, false, seen(U32)) as Numeric);
    return binary(f, 'shr', 64, operandOf(whole), operandOf(count), boundsOf('>>', f.boundsOf(whole), right));
  }
  const whole = contains(I32, left.range) ? a : (extend(f, operandOf(a), 32, true, seen(I32)) as Numeric);
  const from = f.boundsOf(whole);
  if (isNonNegative(from.range)) {
    return binary(f, 'shr', 64, operandOf(whole), operandOf(count), boundsOf('>>', from, right));
  }
  const least = from.range.lo >> right.range.lo;
  const most = from.range.hi >> (from.range.hi < 0n ? right.range.hi : right.range.lo);
  return binary(f, 'sar', 64, operandOf(whole), operandOf(count), { range: range(least, most), known: UNKNOWN });
}

function shiftLeft(f: FunctionLowering, a: Numeric, count: Numeric, left: Bounds, right: Bounds): Value {
  if (isNonNegative(left.range) && contains(U31, rangeOf('<<', left.range, right.range))) {
    return binary(f, 'shl', 64, operandOf(a), operandOf(count), boundsOf('<<', left, right));
  }
  const low = binary(f, 'shl', 32, operandOf(a), operandOf(count), count.kind === 'constant' ? seen(U32) : unseen(U32));
  return extend(f, operandOf(low), 32, true, seen(I32));
}

// Bigint -------------------------------------------------------------------------------------------------------------

/** A bigint lies in a register while it fits 64 bits, unsigned or signed; wrapping is said with `u64(...)`. */
function calculateBigint(f: FunctionLowering, node: ts.Node, operator: Operator, a: Numeric, b: Numeric): Value {
  const [left, right] = [f.boundsOf(a), f.boundsOf(b)];
  switch (operator) {
    case '+':
    case '-':
    case '*': {
      const bounds = boundsOf(operator, left, right);
      if (!inRegisterRange(bounds.range)) return f.fail(node, say.beyondU64(showRange(bounds.range)));
      return emitExact(f, operator, a, b, bounds, 'bigint');
    }
    case '/':
      if (right.range.lo <= 0n) return f.fail(node, say.bigintDivision(showRange(right.range)));
      if (!isNonNegative(left.range)) return f.fail(node, say.negativeDivision(showRange(left.range)));
      return divide(f, '/', a, b, 'bigint');
    case '%':
      return remainder(f, node, a, b);
    case '&':
    case '|':
    case '^': {
      const mask = operator === '&' && (contains(U64, left.range) || contains(U64, right.range));
      if (mask) return emitExact(f, '&', a, b, maskBounds(left, right), 'bigint');
      if (contains(U64, left.range) && contains(U64, right.range)) {
        return emitExact(f, operator, a, b, signedBits(operator, left, right, U64), 'bigint');
      }
      if (contains(I64, left.range) && contains(I64, right.range)) {
        return emitExact(f, operator, a, b, signedBits(operator, left, right, I64), 'bigint');
      }
      return f.fail(node, say.signedBigint(`${showRange(left.range)} and ${showRange(right.range)}`));
    }
    case '<<':
    case '>>':
      return shiftBigint(f, node, operator, a, b, left, right);
    case '>>>':
      return f.fail(node, say.unsupportedSyntax('">>>" on bigint'));
  }
}

const inRegisterRange = (r: Range): boolean => contains(U64, r) || contains(I64, r);

function shiftBigint(
  f: FunctionLowering,
  node: ts.Node,
  operator: '<<' | '>>',
  a: Numeric,
  b: Numeric,
  left: Bounds,
  right: Bounds,
): Value {
  if (!contains(range(0n, 63n), right.range)) return f.fail(node, say.shiftRange(showRange(right.range)));
  const signed = !isNonNegative(left.range);
  if (signed && operator === '>>') {
    return binary(f, 'sar', 64, operandOf(a), operandOf(b), { range: I64, known: UNKNOWN }, 'bigint');
  }
  const bounds = boundsOf(operator, left, right);
  if (signed || !contains(U64, bounds.range)) return f.fail(node, say.beyondU64(showRange(bounds.range)));
  return binary(f, operator === '<<' ? 'shl' : 'shr', 64, operandOf(a), operandOf(b), bounds, 'bigint');
}
