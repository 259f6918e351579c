/**
 * Conditions become jumps, not values: each gives the flow where it holds and the flow where it does not.
 *
 * A flow that cannot happen, because the condition is known at build time or the ranges decide it, is undefined; what lies
 * there is not lowered. On the others the comparison narrows what is known.
 */
import ts from 'typescript';
import { SilentError, say } from '../diagnostics.ts';
import type { Condition } from '../ir.ts';
import { inlineCondition } from './calls.ts';
import { lower, lowerOperands, symbolOf, unwrap } from './expressions.ts';
import type { Flow } from './flow.ts';
import { type Frame, findBinding } from './frame.ts';
import { type FunctionLowering, narrowFlow } from './function.ts';
import { isBigint, type Numeric, numeric, operandOf } from './operand.ts';
import { contains, I64, intersect, isExact, type Range, range, showRange, U32, U64, UNKNOWN } from './range.ts';
import { orderOf } from './types.ts';
import {
  constant,
  FALSE,
  isConstant,
  isNull,
  isScalar,
  type ScalarValue,
  TRUE,
  type Value,
  type ViewValue,
} from './value.ts';

export interface Branches {
  readonly yes: Flow | undefined;
  readonly no: Flow | undefined;
}

export type Comparison = '<' | '<=' | '>' | '>=' | '===' | '!==';

const COMPARISONS: ReadonlyMap<ts.SyntaxKind, Comparison> = new Map([
  [ts.SyntaxKind.LessThanToken, '<'],
  [ts.SyntaxKind.LessThanEqualsToken, '<='],
  [ts.SyntaxKind.GreaterThanToken, '>'],
  [ts.SyntaxKind.GreaterThanEqualsToken, '>='],
  [ts.SyntaxKind.EqualsEqualsEqualsToken, '==='],
  [ts.SyntaxKind.ExclamationEqualsEqualsToken, '!=='],
]);

export const comparisonOf = (kind: ts.SyntaxKind): Comparison | undefined => COMPARISONS.get(kind);

/** Takes the current flow; both outcomes are for the caller to go on with. */
export function lowerCondition(f: FunctionLowering, expression: ts.Expression): Branches {
  const node = unwrap(expression);
  return f.located(node, () => {
    if (ts.isPrefixUnaryExpression(node) && node.operator === ts.SyntaxKind.ExclamationToken) {
      const { yes, no } = lowerCondition(f, node.operand);
      return { yes: no, no: yes };
    }
    if (ts.isBinaryExpression(node)) {
      const operator = node.operatorToken.kind;
      if (operator === ts.SyntaxKind.AmpersandAmpersandToken) return both(f, node.left, node.right);
      if (operator === ts.SyntaxKind.BarBarToken) return either(f, node.left, node.right);
      if (operator === ts.SyntaxKind.EqualsEqualsToken || operator === ts.SyntaxKind.ExclamationEqualsToken) {
        return f.fail(node.operatorToken, say.looseEquality(ts.tokenToString(operator)!));
      }
      const comparison = comparisonOf(operator);
      if (comparison !== undefined) {
        const [a, b] = lowerOperands(f, node.left, node.right);
        return compare(f, node, node, comparison, a, b);
      }
    }
    if (ts.isConditionalExpression(node)) return choose(f, node);
    if (ts.isIdentifier(node)) {
      const branches = namedCondition(f, node);
      if (branches !== undefined) return branches;
    }
    if (ts.isCallExpression(node)) {
      const branches = inlineCondition(f, node);
      if (branches !== undefined) return branches;
    }
    return test(f, node, lower(f, node));
  });
}

function both(f: FunctionLowering, left: ts.Expression, right: ts.Expression): Branches {
  const first = lowerCondition(f, left);
  if (first.yes === undefined) return first;
  f.resume(first.yes);
  const second = lowerCondition(f, right);
  return { yes: second.yes, no: f.join([first.no, second.no]) };
}

function either(f: FunctionLowering, left: ts.Expression, right: ts.Expression): Branches {
  const first = lowerCondition(f, left);
  if (first.no === undefined) return first;
  f.resume(first.no);
  const second = lowerCondition(f, right);
  return { yes: f.join([first.yes, second.yes]), no: second.no };
}

/**
 * `const found = v !== null; if (found) ...`: the condition that the name stands for is asked again, as TypeScript narrows by
 * it too. One more comparison is cheaper than a boolean kept in a register.
 */
function namedCondition(f: FunctionLowering, node: ts.Identifier): Branches | undefined {
  const symbol = symbolOf(f, node);
  const found = symbol === undefined ? undefined : findBinding(f.frame, symbol);
  const declaration = symbol?.valueDeclaration;
  if (found?.binding.kind !== 'value' || found.binding.value.kind !== 'boolean' || found.frame.owner !== f)
    return undefined;
  if (declaration === undefined || !ts.isVariableDeclaration(declaration) || !ts.isIdentifier(declaration.name))
    return undefined;
  const { initializer } = declaration;
  if (initializer === undefined || !canAskAgain(f, found.frame, initializer)) return undefined;
  const frame = f.frame;
  f.frame = found.frame;
  try {
    return lowerCondition(f, initializer);
  } finally {
    f.frame = frame;
  }
}

/** Comparisons of names that never change. */
function canAskAgain(f: FunctionLowering, frame: Frame, expression: ts.Expression): boolean {
  const node = unwrap(expression);
  if (ts.isPrefixUnaryExpression(node) && node.operator === ts.SyntaxKind.ExclamationToken) {
    return canAskAgain(f, frame, node.operand);
  }
  if (ts.isBinaryExpression(node)) {
    const { kind } = node.operatorToken;
    const logical = kind === ts.SyntaxKind.AmpersandAmpersandToken || kind === ts.SyntaxKind.BarBarToken;
    if (!logical && comparisonOf(kind) === undefined) return false;
    return canAskAgain(f, frame, node.left) && canAskAgain(f, frame, node.right);
  }
  if (ts.isLiteralExpression(node) || node.kind === ts.SyntaxKind.NullKeyword) return true;
  if (!ts.isIdentifier(node)) return false;
  const symbol = symbolOf(f, node);
  const binding = symbol === undefined ? undefined : findBinding(frame, symbol)?.binding;
  return binding === undefined || binding.kind === 'value';
}

function choose(f: FunctionLowering, node: ts.ConditionalExpression): Branches {
  const { yes, no } = lowerCondition(f, node.condition);
  const outcomes: Branches[] = [];
  for (const [flow, side] of [
    [yes, node.whenTrue],
    [no, node.whenFalse],
  ] as const) {
    if (flow === undefined) continue;
    f.resume(flow);
    outcomes.push(lowerCondition(f, side));
  }
  return { yes: f.join(outcomes.map((o) => o.yes)), no: f.join(outcomes.map((o) => o.no)) };
}

/** The condition as a value: a constant where it is decided, else 0 or 1 in a register. */
export function conditionValue(f: FunctionLowering, { yes, no }: Branches): Value {
  if (yes === undefined || no === undefined) {
    f.resume(yes ?? no);
    return yes === undefined ? FALSE : TRUE;
  }
  const result = f.scalar('boolean', { range: range(0n, 1n), known: range(0n, 1n) });
  const one = f.within(yes, () => f.emit({ op: 'const', dst: result.reg, value: 1n }));
  const zero = f.within(no, () => f.emit({ op: 'const', dst: result.reg, value: 0n }));
  f.resume(f.join([one, zero]));
  return result;
}

/** Whether a value is true, as JavaScript asks. */
export function test(f: FunctionLowering, node: ts.Node, value: Value): Branches {
  if (isConstant(value)) return decided(f, Boolean(value.value));
  switch (value.kind) {
    case 'boolean':
    case 'number':
    case 'bigint':
      return compareNumbers(f, node, '!==', value, constant(value.kind === 'bigint' ? 0n : 0));
    case 'view': {
      const { yes, no } = nullTest(f, value);
      return { yes: no, no: yes };
    }
    case 'poison':
      throw new SilentError();
    case 'be16':
    case 'be32':
      return f.fail(node, say.truthiness());
    default:
      return decided(f, true);
  }
}

function decided(f: FunctionLowering, outcome: boolean): Branches {
  const flow = f.takeFlow();
  return outcome ? { yes: flow, no: undefined } : { yes: undefined, no: flow };
}

/** `yes` where the view is null. */
export function nullTest(f: FunctionLowering, view: ViewValue): Branches {
  if (!view.nullable || 'slot' in view.base) return decided(f, false);
  const { reg } = view.base;
  const nullFlow = f.takeNull(reg);
  if (nullFlow !== undefined) return { yes: nullFlow, no: f.takeFlow() };
  if (f.isNonNull(view.base)) return decided(f, false);
  const branches = f.branch('eq', 64, { reg }, { imm: 0n });
  if (branches === undefined) return { yes: undefined, no: undefined };
  branches.no.nonNull.add(reg);
  return branches;
}

/** The syntax of both operands. */
export interface Sides {
  readonly left: ts.Expression;
  readonly right: ts.Expression;
}

export function compare(
  f: FunctionLowering,
  node: ts.Node,
  sides: Sides,
  comparison: Comparison,
  a: Value,
  b: Value,
): Branches {
  if (a.kind === 'poison' || b.kind === 'poison') throw new SilentError();
  const equality = comparison === '===' || comparison === '!==';
  if (isConstant(a) && isConstant(b)) return decided(f, compareConstants(comparison, a.value, b.value));
  if (equality) {
    const branches = identity(f, node, sides, a, b);
    if (branches !== undefined) return comparison === '===' ? branches : { yes: branches.no, no: branches.yes };
  }
  return compareNumbers(f, node, comparison, numeric(f, sides.left, a), numeric(f, sides.right, b));
}

function compareConstants(comparison: Comparison, left: unknown, right: unknown): boolean {
  const [a, b] = [left as number, right as number];
  switch (comparison) {
    case '<':
      return a < b;
    case '<=':
      return a <= b;
    case '>':
      return a > b;
    case '>=':
      return a >= b;
    case '===':
      return a === b;
    case '!==':
      return a !== b;
  }
}

/** Equality of what is not a number; undefined for numbers. `yes` where equal. */
function identity(f: FunctionLowering, node: ts.Node, sides: Sides, a: Value, b: Value): Branches | undefined {
  if (a.kind === 'view' && isNull(b)) return nullTest(f, a);
  if (b.kind === 'view' && isNull(a)) return nullTest(f, b);
  if (a.kind === 'view' && b.kind === 'view') return f.fail(node, say.viewComparison());
  if (isNothing(a) || isNothing(b)) return decided(f, false);
  for (const [one, other, otherNode] of [
    [a, b, sides.right],
    [b, a, sides.left],
  ] as const) {
    if (one.kind === 'be16' || one.kind === 'be32') {
      if (other.kind !== one.kind && !isOrderConstant(f, other, otherNode)) return f.fail(node, say.orderComparison());
      return compareNumbers(f, node, '===', one, other as Numeric);
    }
    if (one.kind === 'boolean') {
      if (other.kind === 'boolean') return compareNumbers(f, node, '===', one, other);
      const { yes, no } = compareNumbers(f, node, '!==', one, constant(0));
      return isConstant(other) && other.value === true ? { yes, no } : { yes: no, no: yes };
    }
    if (!isScalar(one) && one.kind !== 'constant') return decided(f, false);
  }
  return undefined;
}

const isNothing = (value: Value): boolean => isConstant(value) && (value.value === null || value.value === undefined);

/** A constant that its type says to be in network order (or a literal 0, which is the same in both). */
function isOrderConstant(f: FunctionLowering, value: Value, node: ts.Expression): boolean {
  if (value.kind !== 'constant' || typeof value.value !== 'number') return false;
  return value.value === 0 || orderOf(f.unit, f.unit.checker.getTypeAtLocation(node)) !== undefined;
}

// Numbers ------------------------------------------------------------------------------------------------------------

const MIRRORED: Readonly<Record<Comparison, Comparison>> = {
  '<': '>',
  '<=': '>=',
  '>': '<',
  '>=': '<=',
  '===': '===',
  '!==': '!==',
};
const NEGATED: Readonly<Record<Comparison, Comparison>> = {
  '<': '>=',
  '<=': '>',
  '>': '<=',
  '>=': '<',
  '===': '!==',
  '!==': '===',
};
const UNSIGNED: Readonly<Record<Comparison, Condition>> = {
  '<': 'lt',
  '<=': 'le',
  '>': 'gt',
  '>=': 'ge',
  '===': 'eq',
  '!==': 'ne',
};
const SIGNED: Readonly<Record<Comparison, Condition>> = {
  '<': 'slt',
  '<=': 'sle',
  '>': 'sgt',
  '>=': 'sge',
  '===': 'eq',
  '!==': 'ne',
};

export function compareNumbers(
  f: FunctionLowering,
  node: ts.Node,
  comparison: Comparison,
  a: Numeric,
  b: Numeric,
): Branches {
  if (isBigint(a) !== isBigint(b)) return f.fail(node, say.mixedBigint());
  if (a.kind === 'constant') return compareNumbers(f, node, MIRRORED[comparison], b, a);
  f.settle();
  const [left, right] = [f.boundsOf(a), f.boundsOf(b)];
  const outcome = decideByRange(comparison, left.range, right.range);
  if (outcome !== undefined) return decided(f, outcome);
  const unsigned = contains(U64, left.range) && contains(U64, right.range);
  if (!unsigned && !(contains(I64, left.range) && contains(I64, right.range))) {
    return f.fail(node, say.signedBigint(`${showRange(left.range)} and ${showRange(right.range)}`));
  }
  // 64 bits follow the verifier best; a constant beyond the signed 32 bits of an immediate compares in 32 bits for free.
  const short =
    unsigned &&
    contains(U32, left.range) &&
    isExact(right.range) &&
    right.range.lo > 0x7fff_ffffn &&
    contains(U32, right.range);
  const width = short ? 32 : 64;
  const branches = f.branch((unsigned ? UNSIGNED : SIGNED)[comparison], width, operandOf(a), operandOf(b));
  if (branches === undefined) return { yes: undefined, no: undefined };
  return {
    yes: narrowBoth(f, branches.yes, comparison, a, b, width, unsigned),
    no: narrowBoth(f, branches.no, NEGATED[comparison], a, b, width, unsigned),
  };
}

/** True or false where the ranges leave no doubt. */
function decideByRange(comparison: Comparison, a: Range, b: Range): boolean | undefined {
  switch (comparison) {
    case '<':
      return a.hi < b.lo ? true : a.lo >= b.hi ? false : undefined;
    case '<=':
      return a.hi <= b.lo ? true : a.lo > b.hi ? false : undefined;
    case '>':
      return decideByRange('<', b, a);
    case '>=':
      return decideByRange('<=', b, a);
    case '===':
      if (a.hi < b.lo || b.hi < a.lo) return false;
      return isExact(a) && isExact(b) ? true : undefined;
    case '!==': {
      const equal = decideByRange('===', a, b);
      return equal === undefined ? undefined : !equal;
    }
  }
}

function narrowBoth(
  f: FunctionLowering,
  flow: Flow,
  comparison: Comparison,
  a: ScalarValue,
  b: Numeric,
  width: 32 | 64,
  unsigned: boolean,
): Flow {
  const own = { a: f.ownBounds(a.reg), b: b.kind === 'constant' ? f.boundsOf(b) : f.ownBounds(b.reg) };
  const left = flow.bounds.get(a.reg) ?? own.a;
  const right = b.kind === 'constant' ? own.b : (flow.bounds.get(b.reg) ?? own.b);
  // The verifier learns from a 32-bit test only about values that it knows to be 32 bits, and before Linux 6.8 from any
  // test only what a constant tells.
  const follows = width === 64 || contains(U32, left.known);
  const knownOf = (of: Range, by: Range, c: Comparison): Range | undefined => {
    if (!follows || c === '!==' || !isExact(by)) return undefined;
    return unsigned ? intersect(U64, allowed(c, of, by)) : allowed(c, of, by);
  };
  narrowFlow(flow, a.reg, own.a, {
    range: allowed(comparison, left.range, right.range),
    known: knownOf(left.known, right.known, comparison),
  });
  if (b.kind === 'constant') return flow;
  narrowFlow(flow, b.reg, own.b, {
    range: allowed(MIRRORED[comparison], right.range, left.range),
    known: knownOf(right.known, left.known, MIRRORED[comparison]),
  });
  return flow;
}

/** What `a` may be where `a comparison b` holds. */
function allowed(comparison: Comparison, a: Range, b: Range): Range {
  switch (comparison) {
    case '<':
      return range(UNKNOWN.lo, b.hi - 1n);
    case '<=':
      return range(UNKNOWN.lo, b.hi);
    case '>':
      return range(b.lo + 1n, UNKNOWN.hi);
    case '>=':
      return range(b.lo, UNKNOWN.hi);
    case '===':
      return b;
    case '!==': {
      if (!isExact(b)) return UNKNOWN;
      return range(a.lo === b.lo ? a.lo + 1n : UNKNOWN.lo, a.hi === b.lo ? a.hi - 1n : UNKNOWN.hi);
    }
  }
}
