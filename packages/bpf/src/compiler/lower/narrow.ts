/**
 * Narrowing: `u8() u16() u32() i32() u64()`, where only the low bits of what is inside matter.
 *
 * `u32(a ^ b)` would be an int32 made unsigned again; here the whole expression is calculated in 32 bits and nothing is
 * extended in between. Intermediates must still be exact in JavaScript, so their ranges are proven as elsewhere.
 */
import ts from 'typescript';
import { say } from '../diagnostics.ts';
import type { BinaryKind } from '../ir.ts';
import { binary, divide, extend, maskBounds, type Operator, operatorOf, shiftCount } from './arithmetic.ts';
import { lower, lowerOperands, unwrap } from './expressions.ts';
import type { FunctionLowering } from './function.ts';
import { isBigint, type Numeric, numeric, operandOf } from './operand.ts';
import {
  type Bounds,
  boundsOf,
  contains,
  I32,
  isExact,
  isNonNegative,
  min,
  type Range,
  range,
  rangeOf,
  SAFE,
  SCALAR_RANGES,
  seen,
  showRange,
  U31,
  U32,
  U64,
  UNKNOWN,
  unseen,
} from './range.ts';
import { constant, isConstant, type ScalarValue, type Value } from './value.ts';

/**
 * The low 32 bits of an expression. `exact` is the range of what JavaScript would have; the register holds just that, or
 * (`isLow`) its low 32 bits with zeros above.
 */
interface Low {
  readonly value: Numeric;
  readonly exact: Range;
  readonly isLow: boolean;
}

/** `u8(e)`, `u16(e)`, `u32(e)`, `i32(e)`. */
export function narrow(f: FunctionLowering, scalar: 'u8' | 'u16' | 'u32' | 'i32', node: ts.Expression): Value {
  const inner = unwrap(node);
  const low =
    ts.isBinaryExpression(inner) && inner.operatorToken.kind === ts.SyntaxKind.SlashToken
      ? quotient(f, inner)
      : low32(f, inner);
  const { value } = low;
  if (value.kind === 'constant') {
    const bits = scalar === 'u8' ? 8 : scalar === 'u16' ? 16 : 32;
    const whole = BigInt(value.value as number | bigint);
    return constant(Number(scalar === 'i32' ? BigInt.asIntN(32, whole) : BigInt.asUintN(bits, whole)));
  }
  const wanted = SCALAR_RANGES[scalar];
  const held = f.boundsOf(value);
  if (contains(wanted, held.range) && (!low.isLow || scalar !== 'i32' || contains(U31, held.range)))
    return asNumber(value);
  if (scalar === 'u32' || scalar === 'i32') return extend(f, operandOf(value), 32, scalar === 'i32', seen(wanted));
  return binary(
    f,
    'and',
    64,
    operandOf(value),
    { imm: wanted.hi },
    maskBounds(held, seen({ lo: wanted.hi, hi: wanted.hi })),
  );
}

/** `a >>> n`: the only operator that gives a u32, so what is inside is calculated in 32 bits as well. */
export function shiftUnsigned(f: FunctionLowering, node: ts.BinaryExpression): Value {
  const { flags } = f.unit.checker.getTypeAtLocation(node);
  if (flags & ts.TypeFlags.BigIntLike) return f.fail(node, say.unsupportedSyntax('">>>" on bigint'));
  return low32(f, node).value;
}

const asNumber = (value: Numeric): Value => (value.kind === 'bigint' ? { kind: 'number', reg: value.reg } : value);

/** `a / b` inside a narrowing: the integer quotient, 0 where b is 0. */
export function quotient(f: FunctionLowering, node: ts.BinaryExpression): Low {
  const [a, b] = lowerOperands(f, node.left, node.right);
  if (isConstant(a) && isConstant(b) && typeof a.value === 'number') {
    const result = Math.trunc(a.value / (b.value as number));
    const value = constant(Number.isFinite(result) ? result : 0);
    return { value, exact: f.boundsOf(value).range, isLow: false };
  }
  const left = numeric(f, node.left, a);
  const right = numeric(f, node.right, b);
  if (isBigint(left) !== isBigint(right)) return f.fail(node, say.mixedBigint());
  const type = isBigint(left) ? 'bigint' : 'number';
  for (const side of [left, right]) {
    const { range } = f.boundsOf(side);
    if (!isNonNegative(range)) return f.fail(node, say.negativeDivision(showRange(range)));
  }
  const divisor = f.boundsOf(right).range;
  if (type === 'bigint' && divisor.lo === 0n) return f.fail(node, say.bigintDivision(showRange(divisor)));
  const value = numeric(f, node, divide(f, '/', left, right, type));
  return { value, exact: f.boundsOf(value).range, isLow: false };
}

const LOW_KINDS: Partial<Record<Operator, BinaryKind>> = {
  '+': 'add',
  '-': 'sub',
  '*': 'mul',
  '&': 'and',
  '|': 'or',
  '^': 'xor',
  '<<': 'shl',
  '>>>': 'shr',
};

function low32(f: FunctionLowering, node: ts.Expression): Low {
  const inner = unwrap(node);
  if (ts.isPrefixUnaryExpression(inner) && inner.operator === ts.SyntaxKind.TildeToken) {
    const a = low32(f, inner.operand);
    if (!isBigint(a.value)) return lowOperation(f, inner, '^', a, leaf(f, constant(-1)));
  }
  if (ts.isBinaryExpression(inner)) {
    const operator = operatorOf(inner.operatorToken.kind);
    const assigns =
      inner.operatorToken.kind >= ts.SyntaxKind.FirstAssignment &&
      inner.operatorToken.kind <= ts.SyntaxKind.LastAssignment;
    const isNumber = (f.unit.checker.getTypeAtLocation(inner).flags & ts.TypeFlags.NumberLike) !== 0;
    if (operator !== undefined && !assigns && isNumber && LOW_KINDS[operator] !== undefined) {
      const [a, b] = lowerOperands(f, inner.left, inner.right, (side) => low32(f, side));
      return lowOperation(f, inner, operator, a, b);
    }
  }
  return leaf(f, numeric(f, inner, lower(f, inner)));
}

const leaf = (f: FunctionLowering, value: Numeric): Low => ({ value, exact: f.boundsOf(value).range, isLow: false });

function lowOperation(f: FunctionLowering, node: ts.Node, operator: Operator, a: Low, b: Low): Low {
  if (isBigint(a.value) || isBigint(b.value)) return f.fail(node, say.mixedBigint());
  if (isConstant(a.value) && isConstant(b.value))
    return leaf(f, numeric(f, node, foldLow(operator, a.value.value, b.value.value)));
  const count = operator === '<<' || operator === '>>>' ? shiftCount(f, b.value) : b.value;
  const exact = exactRange(f, node, operator, a, b, count);
  if (operator === '>>>' && isConstant(count) && count.value === 0)
    return { value: zeroExtended(f, a.value), exact, isLow: true };
  const [held, by] = [f.boundsOf(a.value), f.boundsOf(count)];
  const plain = contains(U32, held.range) && contains(U32, by.range);
  const kind = LOW_KINDS[operator]!;
  if (plain && !(a.isLow && operator !== '&' && operator !== '|' && operator !== '^')) {
    // Zero-extended operands: where the 64-bit result fits 32 bits, the verifier follows it better.
    const bounds = boundsOf(operator === '>>>' ? '>>' : (operator as '+'), held, by);
    if (contains(U32, bounds.range)) {
      const value = binary(f, kind, 64, operandOf(a.value), operandOf(count), bounds);
      return { value, exact, isLow: !contains(U31, bounds.range) };
    }
  }
  // A 32-bit shift right needs no cleared upper half either.
  const value = binary(f, kind, 32, operandOf(a.value), operandOf(count), lowBounds(operator, held, by));
  return { value, exact, isLow: true };
}

/** Bounds of a 32-bit operation. Of a shift by an unknown count the verifier forgets even that it has 32 bits. */
function lowBounds(operator: Operator, a: Bounds, b: Bounds): Bounds {
  if (operator === '&') return { range: maskOf(a.range, b.range), known: maskOf(a.known, b.known) };
  const range = operator === '>>>' ? rangeOf('>>', U32, b.range) : U32;
  const isShift = operator === '>>>' || operator === '<<';
  return isShift && !isExact(b.known) ? unseen(range) : seen(range);
}

function zeroExtended(f: FunctionLowering, value: Numeric): Numeric {
  if (contains(U32, f.boundsOf(value).range)) return value;
  return extend(f, operandOf(value), 32, false, seen(U32)) as Numeric;
}

const maskOf = (a: Range, b: Range): Range => {
  const limits = [a, b].filter((r) => contains(U32, r)).map((r) => r.hi);
  return { lo: 0n, hi: limits.reduce(min, U32.hi) };
};

function foldLow(operator: Operator, left: unknown, right: unknown): Value {
  const [a, b] = [left as number, right as number];
  const results: Partial<Record<Operator, number>> = {
    '+': a + b,
    '-': a - b,
    '*': a * b,
    '&': a & b,
    '|': a | b,
    '^': a ^ b,
    '<<': a << b,
    '>>>': a >>> b,
  };
  return constant(results[operator]);
}

/** What JavaScript's value would range over; sums and products must be exact. */
function exactRange(f: FunctionLowering, node: ts.Node, operator: Operator, a: Low, b: Low, count: Numeric): Range {
  switch (operator) {
    case '+':
    case '-':
    case '*': {
      const exact = rangeOf(operator, a.exact, b.exact);
      return contains(SAFE, exact) ? exact : f.fail(node, say.beyondSafe(showRange(exact)));
    }
    case '>>>':
      return rangeOf('>>', contains(U32, a.exact) ? a.exact : U32, f.boundsOf(count).range);
    case '&':
      if (contains(U31, a.exact) || contains(U31, b.exact)) return maskBounds(seen(a.exact), seen(b.exact)).range;
      return I32;
    case '<<': {
      if (!isNonNegative(a.exact)) return I32;
      const exact = rangeOf('<<', a.exact, f.boundsOf(count).range);
      return contains(U31, exact) ? exact : I32;
    }
    default: {
      if (!(contains(U31, a.exact) && contains(U31, b.exact))) return I32;
      return rangeOf(operator as '|', a.exact, b.exact);
    }
  }
}

// u64 ----------------------------------------------------------------------------------------------------------------

const WRAPPING: Partial<Record<Operator, BinaryKind>> = {
  '+': 'add',
  '-': 'sub',
  '*': 'mul',
  '&': 'and',
  '|': 'or',
  '^': 'xor',
};

/** `u64(e)`: sums, differences, products and bit operations inside wrap to 64 bits; a number is taken as it is. */
export function wrapU64(f: FunctionLowering, node: ts.Expression): Value {
  const value = low64(f, node);
  if (value.kind === 'constant') return constant(BigInt.asUintN(64, BigInt(value.value as number | bigint)));
  const bounds = f.boundsOf(value);
  if (contains(U64, bounds.range)) return { kind: 'bigint', reg: value.reg };
  // The same bits, read as unsigned from now on.
  const result = f.scalar('bigint', { range: U64, known: UNKNOWN });
  f.emit({ op: 'move', dst: result.reg, src: (value as ScalarValue).reg });
  return result;
}

function low64(f: FunctionLowering, node: ts.Expression): Numeric {
  const inner = unwrap(node);
  if (ts.isBinaryExpression(inner)) {
    const operator = operatorOf(inner.operatorToken.kind);
    const kind = operator === undefined ? undefined : WRAPPING[operator];
    const isBig = (f.unit.checker.getTypeAtLocation(inner).flags & ts.TypeFlags.BigIntLike) !== 0;
    const plain =
      inner.operatorToken.kind < ts.SyntaxKind.FirstAssignment ||
      inner.operatorToken.kind > ts.SyntaxKind.LastAssignment;
    if (kind !== undefined && isBig && plain) return wrapping(f, inner, operator!, kind);
    if (operator === '<<' && isBig && plain) return wrappingShift(f, inner);
  }
  if (ts.isPrefixUnaryExpression(inner) && inner.operator === ts.SyntaxKind.TildeToken) {
    const value = low64(f, inner.operand);
    if (value.kind === 'constant') return constant(~BigInt(value.value as bigint));
    if (value.kind === 'bigint')
      return binary(f, 'xor', 64, operandOf(value), { imm: -1n }, { range: U64, known: UNKNOWN }, 'bigint');
  }
  return numeric(f, inner, lower(f, inner));
}

/** Bits shifted out are gone, as the wrap says. The count is no part of what wraps. */
function wrappingShift(f: FunctionLowering, node: ts.BinaryExpression): Numeric {
  const [a, b] = lowerOperands(f, node.left, node.right, (side) =>
    side === node.left ? low64(f, side) : numeric(f, side, lower(f, side)),
  );
  if (isConstant(a) && isConstant(b)) return constant(BigInt(a.value as bigint) << BigInt(b.value as bigint));
  const count = f.boundsOf(b).range;
  if (!contains(range(0n, 63n), count)) return f.fail(node, say.shiftRange(showRange(count)));
  return binary(f, 'shl', 64, operandOf(a), operandOf(b), { range: U64, known: UNKNOWN }, 'bigint');
}

function wrapping(f: FunctionLowering, node: ts.BinaryExpression, operator: Operator, kind: BinaryKind): Numeric {
  const [a, b] = lowerOperands(f, node.left, node.right, (side) => low64(f, side));
  if (isConstant(a) && isConstant(b)) {
    const [x, y] = [BigInt(a.value as bigint), BigInt(b.value as bigint)];
    const results: Partial<Record<BinaryKind, bigint>> = {
      add: x + y,
      sub: x - y,
      mul: x * y,
      and: x & y,
      or: x | y,
      xor: x ^ y,
    };
    return constant(results[kind]);
  }
  const [left, right] = [f.boundsOf(a), f.boundsOf(b)];
  const bits = operator === '&' || operator === '|' || operator === '^';
  const follows = !bits || (isNonNegative(left.range) && isNonNegative(right.range));
  const bounds = follows ? boundsOf(operator as '+', left, right) : { range: UNKNOWN, known: UNKNOWN };
  // Out of 64 bits it wraps, which is what was asked for.
  const range = contains(U64, bounds.range) ? bounds.range : U64;
  const known = contains(U64, bounds.range) ? bounds.known : UNKNOWN;
  return binary(f, kind, 64, operandOf(a), operandOf(b), { range, known }, 'bigint');
}
