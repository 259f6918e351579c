/**
 * `for` loops: counting ones stay loops, at most 64 rounds by proof; those over arrays of the build are unrolled.
 */
import ts from 'typescript';
import { diagnosticAt, placeOf, relatedAt, say } from '../diagnostics.ts';
import type { Register } from '../ir.ts';
import { calculate } from './arithmetic.ts';
import { assignVariable } from './assignments.ts';
import { type Comparison, comparisonOf, lowerCondition } from './conditions.ts';
import { makeVariable } from './declare.ts';
import { lower, lowerName, mayChangeVariables, unwrap } from './expressions.ts';
import type { Flow } from './flow.ts';
import { type Binding, findBinding } from './frame.ts';
import type { FunctionLowering } from './function.ts';
import { isBigint, type Numeric, numeric } from './operand.ts';
import { type Bounds, type Range, range } from './range.ts';
import { assignmentsIn, isStep } from './scope-scan.ts';
import { lowerStatement } from './statements.ts';
import { constant, isConstant } from './value.ts';

/** The verifier walks every round; beyond this, bpf_loop. */
const MOST_ROUNDS = 64n;
const MOST_UNROLLED = 1024;

interface Counter {
  readonly name: ts.Identifier;
  readonly symbol: ts.Symbol;
  readonly start: Numeric;
  readonly step: bigint;
}

export function lowerFor(f: FunctionLowering, node: ts.ForStatement, label: string | undefined): void {
  const counter = counterOf(f, node);
  const limits = limitsOf(f, node, counter);
  const bounds = headBounds(f, node, counter, limits);
  const type = { kind: 'number', range: bounds.range, name: 'u32' } as const;
  makeVariable(f, f.frame, counter.symbol, counter.name, type, counter.start, false);
  const binding = f.frame.bindings.get(counter.symbol) as Extract<Binding, { kind: 'variable' }>;
  const head = f.loopHead();
  if (head === undefined) return;
  const firstInside = f.registerCount;
  f.resume(head);
  forget(f, head, node);
  f.setBounds(binding.reg, bounds);
  const staleBefore = new Set(head.stale.keys());
  const jump = { label, breaks: [] as Flow[], continues: [] as Flow[] };
  let back: Flow | undefined;
  const uses = f.loggingUses(() => {
    const { yes, no } = lowerCondition(f, node.condition!);
    f.frame.jumps.push(jump);
    const body = f.within(yes, () => lowerStatement(f, node.statement));
    f.frame.jumps.pop();
    back = f.within(f.join([body, ...jump.continues]), () => {
      f.located(node.incrementor!, () => {
        const next = calculate(f, node.incrementor!, '+', lowerName(f, counter.name), constant(Number(counter.step)));
        assignVariable(f, node.incrementor!, binding, next);
      });
    });
    if (back !== undefined) f.goto(back, head.block);
    f.resume(f.join([no, ...jump.breaks]));
  });
  if (back !== undefined) refuseStale(f, back, uses, staleBefore, firstInside);
}

function counterOf(f: FunctionLowering, node: ts.ForStatement): Counter {
  const { initializer, condition, incrementor } = node;
  if (initializer === undefined || condition === undefined || incrementor === undefined)
    return f.fail(node, say.loopShape());
  if (!ts.isVariableDeclarationList(initializer) || initializer.declarations.length !== 1)
    return f.fail(initializer, say.loopShape());
  const { name, initializer: start } = initializer.declarations[0]!;
  if (!ts.isIdentifier(name) || start === undefined) return f.fail(initializer, say.loopShape());
  const symbol = f.unit.checker.getSymbolAtLocation(name)!;
  if (assignmentsIn(f.unit, node.statement).assigned.has(symbol)) f.fail(name, say.loopCounter(name.text));
  const first = numeric(f, start, f.stable(lower(f, start)));
  if (isBigint(first)) return f.fail(start, say.loopShape());
  const step = stepOf(f, incrementor, symbol);
  return step === undefined || step === 0n
    ? f.fail(incrementor, say.loopShape())
    : { name, symbol, start: first, step };
}

/** What `i++`, `i += 2`, `i--` ... add. */
function stepOf(f: FunctionLowering, node: ts.Expression, counter: ts.Symbol): bigint | undefined {
  const isCounter = (target: ts.Expression): boolean =>
    ts.isIdentifier(target) && f.unit.checker.getSymbolAtLocation(target) === counter;
  if (
    (ts.isPostfixUnaryExpression(node) || ts.isPrefixUnaryExpression(node)) &&
    isStep(node.operator) &&
    isCounter(node.operand)
  ) {
    return node.operator === ts.SyntaxKind.PlusPlusToken ? 1n : -1n;
  }
  if (!ts.isBinaryExpression(node) || !isCounter(node.left)) return undefined;
  const operator = node.operatorToken.kind;
  if (operator !== ts.SyntaxKind.PlusEqualsToken && operator !== ts.SyntaxKind.MinusEqualsToken) return undefined;
  const by = lower(f, node.right);
  if (!isConstant(by) || !Number.isSafeInteger(by.value)) return undefined;
  return BigInt(by.value as number) * (operator === ts.SyntaxKind.PlusEqualsToken ? 1n : -1n);
}

interface Limit {
  readonly comparison: Comparison;
  readonly bounds: Bounds;
}

/** What the condition compares the counter with, as far as it is a name or a value of the build. */
function limitsOf(f: FunctionLowering, node: ts.ForStatement, counter: Counter): Limit[] {
  const limits: Limit[] = [];
  const { assigned } = assignmentsIn(f.unit, node);
  const isCounter = (side: ts.Expression): boolean => {
    const target = unwrap(side);
    return ts.isIdentifier(target) && f.unit.checker.getSymbolAtLocation(target) === counter.symbol;
  };
  const note = (comparison: Comparison, limit: ts.Expression): void => {
    if (mayChangeVariables(limit)) return;
    const value = lower(f, limit);
    if (value.kind !== 'number' && !isConstant(value)) return;
    const number = numeric(f, limit, value);
    const target = unwrap(limit);
    const symbol = ts.isIdentifier(target) ? f.unit.checker.getSymbolAtLocation(target) : undefined;
    // What the loop itself assigns is what it is now for the first round only.
    const changing = symbol !== undefined && assigned.has(symbol) ? findBinding(f.frame, symbol)?.binding : undefined;
    limits.push({
      comparison,
      bounds: changing?.kind === 'variable' ? f.ownBounds(changing.reg) : f.boundsOf(number),
    });
  };
  const visit = (expression: ts.Expression): void => {
    const part = unwrap(expression);
    if (!ts.isBinaryExpression(part)) return;
    if (part.operatorToken.kind === ts.SyntaxKind.AmpersandAmpersandToken) {
      visit(part.left);
      visit(part.right);
      return;
    }
    const comparison = comparisonOf(part.operatorToken.kind);
    if (comparison === undefined) return;
    if (isCounter(part.left)) note(comparison, part.right);
    else if (isCounter(part.right)) note(MIRRORED[comparison], part.left);
  };
  visit(node.condition!);
  return limits;
}

const MIRRORED: Readonly<Record<Comparison, Comparison>> = {
  '<': '>',
  '<=': '>=',
  '>': '<',
  '>=': '<=',
  '===': '===',
  '!==': '!==',
};

/** The counter's range at the head of the loop; refuses loops that may run too long. */
function headBounds(
  f: FunctionLowering,
  node: ts.ForStatement,
  { start, step }: Counter,
  limits: readonly Limit[],
): Bounds {
  const first = f.boundsOf(start);
  const heads = limits.flatMap(({ comparison, bounds }) => {
    const head = headRange(comparison, first.range, bounds.range, step);
    const known = headRange(comparison, first.known, bounds.known, step);
    return head === undefined || known === undefined ? [] : [{ head, known }];
  });
  const rounds = ({ lo, hi }: Range): bigint => (hi - lo) / (step < 0n ? -step : step);
  const best = heads.reduce<{ head: Range; known: Range } | undefined>(
    (least, one) => (least === undefined || rounds(one.known) < rounds(least.known) ? one : least),
    undefined,
  );
  if (best === undefined) return f.fail(node.condition!, say.loopBound('no bound found'));
  if (rounds(best.known) > MOST_ROUNDS)
    return f.fail(node.condition!, say.loopBound(describeRounds(rounds(best.known))));
  return { range: best.head, known: best.known };
}

const describeRounds = (rounds: bigint): string =>
  rounds < 1_000_000n ? `up to ${rounds}` : 'nothing known about the bound';

/** From the first value to the one that fails the test; one step further where the first one does already. */
function headRange(comparison: Comparison, first: Range, limit: Range, step: bigint): Range | undefined {
  const max = (a: bigint, b: bigint): bigint => (a > b ? a : b);
  const min = (a: bigint, b: bigint): bigint => (a < b ? a : b);
  if (step > 0n) {
    if (comparison === '<') return range(first.lo, max(first.hi, limit.hi - 1n) + step);
    return comparison === '<=' ? range(first.lo, max(first.hi, limit.hi) + step) : undefined;
  }
  if (comparison === '>') return range(min(first.lo, limit.lo + 1n) + step, first.hi);
  return comparison === '>=' ? range(min(first.lo, limit.lo) + step, first.hi) : undefined;
}

/** What a round may change is not known at the head. */
function forget(f: FunctionLowering, head: Flow, node: ts.Node): void {
  const registers = new Set<Register>(f.shared);
  for (const symbol of assignmentsIn(f.unit, node).assigned) {
    const binding = findBinding(f.frame, symbol)?.binding;
    if (binding?.kind === 'variable') registers.add(binding.reg);
  }
  head.loaded.clear();
  for (const reg of registers) {
    head.bounds.delete(reg);
    head.nonNull.delete(reg);
  }
}

/** A pointer used in the body that a later round finds stale. */
function refuseStale(
  f: FunctionLowering,
  back: Flow,
  uses: ReadonlyMap<Register, ts.Node>,
  before: ReadonlySet<Register>,
  firstInside: Register,
): void {
  for (const [reg, node] of uses) {
    const at = reg < firstInside && !before.has(reg) ? back.stale.get(reg) : undefined;
    if (at === undefined) continue;
    const file = f.unit.files[at.file]!;
    const start = file.getPositionOfLineAndCharacter(at.line - 1, at.column - 1);
    const moved = relatedAt({ file, start }, 'in an earlier round the packet may have moved at');
    f.unit.report(diagnosticAt(placeOf(node), say.staleView(), [moved]));
  }
}

// Arrays of the build ------------------------------------------------------------------------------------------------

/** `for (const x of ARRAY)`: the body once for each element, with the element as a value of the build. */
export function lowerForOf(f: FunctionLowering, node: ts.ForOfStatement, label: string | undefined): void {
  const iterable = lower(f, node.expression);
  if (!isConstant(iterable) || !isIterable(iterable.value)) f.fail(node.expression, say.forOf());
  const elements = [...iterable.value];
  if (elements.length > MOST_UNROLLED) f.fail(node.expression, say.unrollTooLong(elements.length));
  if (!ts.isVariableDeclarationList(node.initializer)) f.fail(node.initializer, say.loopShape());
  const { name } = node.initializer.declarations[0]!;
  const breaks: Flow[] = [];
  for (const element of elements) {
    if (!f.isReachable) break;
    const continues: Flow[] = [];
    f.frame.jumps.push({ label, breaks, continues });
    bindElement(f, name, element);
    lowerStatement(f, node.statement);
    f.frame.jumps.pop();
    f.resume(f.join([f.takeFlow(), ...continues]));
  }
  f.resume(f.join([f.takeFlow(), ...breaks]));
}

function isIterable(value: unknown): value is Iterable<unknown> {
  return typeof value === 'object' && value !== null && Symbol.iterator in value;
}

function bindElement(f: FunctionLowering, name: ts.BindingName, element: unknown): void {
  if (ts.isIdentifier(name)) {
    const symbol = f.unit.checker.getSymbolAtLocation(name)!;
    f.frame.bindings.set(symbol, { kind: 'value', value: constant(element) });
    return;
  }
  for (const [index, part] of name.elements.entries()) {
    if (!ts.isBindingElement(part)) continue;
    const key = ts.isArrayBindingPattern(name) ? index : (part.propertyName ?? part.name).getText();
    bindElement(f, part.name, (element as Record<string | number, unknown>)[key]);
  }
}
