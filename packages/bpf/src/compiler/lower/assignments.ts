/** Assignments to variables and to fields: `=`, `+=` and its kin, `++` and `--`. */
import ts from 'typescript';
import { SilentError, say } from '../diagnostics.ts';
import type { Register } from '../ir.ts';
import { calculate, operatorOf } from './arithmetic.ts';
import { capture, storeCell } from './captures.ts';
import { lower, lowerName, mayChangeVariables, symbolOf, unwrap } from './expressions.ts';
import { type Binding, findBinding, type ViewType } from './frame.ts';
import type { FunctionLowering } from './function.ts';
import { isBigint, numeric } from './operand.ts';
import { assignSkbField, skbField } from './packets.ts';
import { contains, showRange, U64 } from './range.ts';
import {
  type ConstantValue,
  constant,
  describe,
  isConstant,
  isNull,
  isScalar,
  type ScalarValue,
  type Value,
  type ViewValue,
} from './value.ts';
import { addressOf, fieldOf, storeField, viewOf } from './views.ts';

type Variable = Extract<Binding, { kind: 'variable' }>;

export function lowerAssignment(f: FunctionLowering, node: ts.BinaryExpression): Value {
  const target = unwrap(node.left);
  const kind = node.operatorToken.kind;
  if (kind === ts.SyntaxKind.EqualsToken) return assignTo(f, node.right, target, () => lower(f, node.right));
  if (
    kind === ts.SyntaxKind.QuestionQuestionEqualsToken ||
    kind === ts.SyntaxKind.BarBarEqualsToken ||
    kind === ts.SyntaxKind.AmpersandAmpersandEqualsToken
  ) {
    return f.fail(node.operatorToken, say.unsupportedSyntax(`"${ts.tokenToString(kind)}"`));
  }
  const operator = operatorOf(kind)!;
  return assignTo(f, node, target, (before) => {
    const old = mayChangeVariables(node.right) ? f.stable(before()) : before();
    return calculate(f, node, operator, old, lower(f, node.right));
  });
}

/** `x++` gives what was before, `++x` what is after. */
export function lowerStep(f: FunctionLowering, node: ts.PrefixUnaryExpression | ts.PostfixUnaryExpression): Value {
  const operator = node.operator === ts.SyntaxKind.PlusPlusToken ? '+' : '-';
  const asStatement = ts.isExpressionStatement(node.parent) || ts.isForStatement(node.parent);
  let old: Value | undefined;
  const result = assignTo(f, node, unwrap(node.operand), (before) => {
    const value = before();
    old = asStatement ? undefined : f.stable(value);
    const one = constant(isScalar(value) && isBigint(numeric(f, node, value)) ? 1n : 1);
    return calculate(f, node, operator, value, one);
  });
  return ts.isPostfixUnaryExpression(node) && old !== undefined ? old : result;
}

/** Evaluates the target once, then the value (which may ask for the target's old one), then stores. */
function assignTo(
  f: FunctionLowering,
  node: ts.Node,
  target: ts.Expression,
  valueFrom: (before: () => Value) => Value,
): Value {
  if (ts.isIdentifier(target)) {
    const binding = variableOf(f, target);
    const value = valueFrom(() => lowerName(f, target));
    if (binding.kind === 'cell') storeCell(f, node, binding, value);
    else assignVariable(f, node, binding, value);
    return value;
  }
  if (ts.isPropertyAccessExpression(target) || ts.isElementAccessExpression(target)) {
    return assignMember(f, node, target, valueFrom);
  }
  return f.fail(target, say.unsupportedSyntax('assignment by destructuring'));
}

function assignMember(
  f: FunctionLowering,
  node: ts.Node,
  target: ts.PropertyAccessExpression | ts.ElementAccessExpression,
  valueFrom: (before: () => Value) => Value,
): Value {
  const found = lower(f, target.expression);
  const object = mayChangeVariables(node) ? f.stable(found) : found;
  const name = memberName(f, target);
  if (object.kind === 'skb') {
    const value = valueFrom(() => skbField(f, target, object, name));
    assignSkbField(f, { target, value: node }, object, name, value);
    return value;
  }
  if (object.kind === 'view') {
    const value = valueFrom(() => fieldOf(f, target, object, name));
    storeField(f, { target, value: node }, viewOf(f, target.expression, object), name, value);
    return value;
  }
  if (object.kind === 'poison') throw new SilentError();
  return f.fail(target, say.moduleVariable(target.getText()));
}

function memberName(f: FunctionLowering, target: ts.PropertyAccessExpression | ts.ElementAccessExpression): string {
  if (ts.isPropertyAccessExpression(target)) return target.name.text;
  const index = lower(f, target.argumentExpression);
  if (isConstant(index) && typeof index.value === 'string') return index.value;
  return f.fail(target, say.unsupportedSyntax('assignment to a[i] (write a.set(i, value))'));
}

function variableOf(f: FunctionLowering, node: ts.Identifier): Exclude<Binding, { kind: 'value' }> {
  const symbol = symbolOf(f, node);
  const found = symbol === undefined ? undefined : findBinding(f.frame, symbol);
  if (found === undefined) return f.fail(node, say.moduleVariable(node.text));
  const binding = found.frame.owner === f ? found.binding : capture(f, node, found.binding, found.frame.owner);
  if (binding.kind === 'value') {
    if (binding.value.kind === 'poison') throw new SilentError();
    return f.fail(node, say.moduleVariable(node.text));
  }
  return binding;
}

/** Puts a value that fits into a variable's register and notes what is known of it now. */
export function assignVariable(f: FunctionLowering, node: ts.Node, variable: Variable, value: Value): void {
  const { name, reg, type } = variable;
  if (type.kind === 'view') {
    assignView(f, node, reg, type, value);
    return;
  }
  checkVariable(f, node, name, type, value);
  const scalar = value as ScalarValue | ConstantValue;
  const bounds = f.boundsOf(scalar);
  if (scalar.kind === 'constant') f.emit({ op: 'const', dst: reg, value: bounds.range.lo });
  else if (scalar.reg !== reg) f.emit({ op: 'move', dst: reg, src: scalar.reg });
  f.setBounds(reg, bounds);
}

/** Refuses what a variable of this type cannot hold. */
export function checkVariable(
  f: FunctionLowering,
  node: ts.Node,
  name: string,
  type: Exclude<Variable['type'], { kind: 'view' }>,
  value: Value,
): void {
  if (type.kind === 'number') {
    const number = numeric(f, node, value);
    if (isBigint(number)) f.fail(node, say.mixedBigint());
    const { range } = f.boundsOf(number);
    if (!contains(type.range, range)) f.fail(node, say.mayNotFit(`"${name}"`, showRange(range), type.name));
  } else if (type.kind === 'bigint') {
    const { range } = f.boundsOf(numeric(f, node, value));
    if (!contains(U64, range)) f.fail(node, say.beyondU64(showRange(range)));
  } else if (type.kind === 'boolean') {
    const isBoolean = value.kind === 'boolean' || (isConstant(value) && typeof value.value === 'boolean');
    if (!isBoolean) f.fail(node, say.notANumber(describe(value)));
  } else if (value.kind !== type.kind && !(isConstant(value) && typeof value.value === 'number')) {
    f.fail(node, say.orderMismatch(type.kind));
  }
}

function assignView(f: FunctionLowering, node: ts.Node, reg: number, type: ViewType, value: Value): void {
  if (isNull(value)) {
    f.emit({ op: 'const', dst: reg, value: 0n });
    f.setMaybeNull(reg);
    f.setFresh(reg);
    return;
  }
  if (value.kind === 'poison') throw new SilentError();
  if (value.kind !== 'view') f.fail(node, say.buildTimeOnly(describe(value)));
  learnView(f, node, type, value);
  const pointer = nullablePointer(f, value);
  if (pointer !== reg) f.emit({ op: 'move', dst: reg, src: pointer });
  if ('slot' in value.base) f.setFresh(reg);
  else f.inherit(reg, value.base.reg);
  if (!value.nullable) f.setNonNull(reg);
}

/** The view's address, or 0 where it is null: the offset is added only where there is a view. */
export function nullablePointer(f: FunctionLowering, value: ViewValue): Register {
  f.settle();
  const { base, offset } = value;
  if ('slot' in base || offset === 0 || !value.nullable || f.isNonNull(base))
    return (addressOf(f, value) as { reg: Register }).reg;
  const dst = f.newRegister();
  const branches = f.branch('eq', 64, { reg: base.reg }, { imm: 0n });
  const none = f.within(branches?.yes, () => f.emit({ op: 'const', dst, value: 0n }));
  const some = f.within(branches?.no, () =>
    f.emit({ op: 'binary', kind: 'add', width: 64, dst, a: { reg: base.reg }, b: { imm: BigInt(offset) } }),
  );
  f.resume(f.join([none, some]));
  return dst;
}

/** The first view assigned settles which struct and memory a variable's views have. */
export function learnView(
  f: FunctionLowering,
  node: ts.Node,
  type: ViewType,
  value: Extract<Value, { kind: 'view' }>,
): void {
  type.struct ??= value.struct;
  if (type.struct !== value.struct) f.fail(node, say.differentStructs(value.struct.name, type.struct.name));
  if (type.memory === undefined) type.memory = value.memory;
  else if (type.memory !== value.memory) type.memory = 'any';
}
