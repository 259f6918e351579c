/**
 * Expressions. Whatever is known at build time is carried as a JavaScript value and costs nothing; the rest becomes
 * instructions in the order JavaScript would evaluate it.
 */
import ts from 'typescript';
import { SilentError, say } from '../diagnostics.ts';
import { calculate, operatorOf } from './arithmetic.ts';
import { lowerAssignment, lowerStep } from './assignments.ts';
import { lowerCall, lowerSpread } from './calls.ts';
import { capture, loadCell } from './captures.ts';
import { comparisonOf, conditionValue, lowerCondition, nullTest } from './conditions.ts';
import type { Flow } from './flow.ts';
import type { Binding } from './frame.ts';
import { findBinding } from './frame.ts';
import type { FunctionLowering } from './function.ts';
import { joinValues, type Outcome, takeOutcomes } from './join-values.ts';
import { mapProperty } from './maps.ts';
import { shiftUnsigned } from './narrow.ts';
import { type Numeric, numeric } from './operand.ts';
import { skbField } from './packets.ts';
import { assignsSomething, isAssignmentOperator, isStep } from './scope-scan.ts';
import { constant, describe, FALSE, isConstant, isMap, isScalar, NULL, TRUE, UNDEFINED, type Value } from './value.ts';
import { fieldOf } from './views.ts';

/** Without parentheses and casts, which mean nothing at run time. */
export function unwrap(node: ts.Expression): ts.Expression {
  if (
    ts.isParenthesizedExpression(node) ||
    ts.isAsExpression(node) ||
    ts.isSatisfiesExpression(node) ||
    ts.isTypeAssertionExpression(node)
  ) {
    return unwrap(node.expression);
  }
  return node;
}

export function lower(f: FunctionLowering, expression: ts.Expression): Value {
  const node = unwrap(expression);
  return f.located(node, () => lowerUnwrapped(f, node));
}

function lowerUnwrapped(f: FunctionLowering, node: ts.Expression): Value {
  if (ts.isIdentifier(node)) return lowerName(f, node);
  if (ts.isNumericLiteral(node)) return constant(Number(node.text));
  if (ts.isBigIntLiteral(node)) return constant(BigInt(node.text.slice(0, -1)));
  if (ts.isStringLiteralLike(node)) return constant(node.text);
  switch (node.kind) {
    case ts.SyntaxKind.TrueKeyword:
      return TRUE;
    case ts.SyntaxKind.FalseKeyword:
      return FALSE;
    case ts.SyntaxKind.NullKeyword:
      return NULL;
    case ts.SyntaxKind.ThisKeyword:
      return lowerThis(f, node);
  }
  if (ts.isPropertyAccessExpression(node)) return lowerProperty(f, node);
  if (ts.isElementAccessExpression(node)) return lowerElement(f, node);
  if (ts.isCallExpression(node)) return lowerCall(f, node);
  if (ts.isBinaryExpression(node)) return lowerBinary(f, node);
  if (ts.isPrefixUnaryExpression(node)) return lowerPrefix(f, node);
  if (ts.isPostfixUnaryExpression(node)) return lowerStep(f, node);
  if (ts.isConditionalExpression(node)) return lowerConditional(f, node);
  if (ts.isNonNullExpression(node)) return lowerNonNull(f, node);
  if (ts.isArrowFunction(node) || ts.isFunctionExpression(node)) return { kind: 'closure', node, frame: f.frame };
  if (ts.isObjectLiteralExpression(node)) return buildTimeObject(f, node);
  if (ts.isArrayLiteralExpression(node)) return buildTimeArray(f, node);
  if (ts.isTemplateExpression(node)) return buildTimeTemplate(f, node);
  if (ts.isVoidExpression(node)) {
    lower(f, node.expression);
    return UNDEFINED;
  }
  if (ts.isTypeOfExpression(node)) {
    const value = lower(f, node.expression);
    return isConstant(value)
      ? constant(typeof value.value)
      : f.fail(node, say.unsupportedSyntax('typeof of a value of run time'));
  }
  return unsupported(f, node);
}

function unsupported(f: FunctionLowering, node: ts.Expression): never {
  if (ts.isNewExpression(node)) return f.fail(node, say.newExpression());
  if (ts.isAwaitExpression(node) || ts.isYieldExpression(node)) return f.fail(node, say.asyncFunction());
  if (node.kind === ts.SyntaxKind.RegularExpressionLiteral) return f.fail(node, say.regularExpression());
  if (ts.isClassExpression(node)) return f.fail(node, say.classInFunction());
  if (ts.isTaggedTemplateExpression(node)) return f.fail(node, say.string());
  if (ts.isSpreadElement(node)) return f.fail(node, say.spread());
  if (ts.isDeleteExpression(node)) return f.fail(node, say.unsupportedSyntax('delete'));
  return f.fail(node, say.unsupportedSyntax(`this expression (${ts.SyntaxKind[node.kind]})`));
}

/** Both operands in order; what the second one's evaluation may change is kept apart first. */
export function lowerOperands<T extends Value | { readonly value: Numeric } = Value>(
  f: FunctionLowering,
  left: ts.Expression,
  right: ts.Expression,
  lowerOne: (node: ts.Expression) => T = (node) => lower(f, node) as T,
): [T, T] {
  const first = lowerOne(left);
  const kept = mayChangeVariables(right) ? keep(f, first) : first;
  return [kept, lowerOne(right)];
}

function keep<T extends Value | { readonly value: Numeric }>(f: FunctionLowering, held: T): T {
  if ('kind' in held) return f.stable(held) as T;
  return { ...held, value: f.stable(held.value) };
}

/** Assignments, and calls of functions that may assign what they share. */
export const mayChangeVariables = (node: ts.Node): boolean => assignsSomething(node) || containsCall(node);

const containsCall = (node: ts.Node): boolean =>
  ts.isCallExpression(node) || (ts.forEachChild(node, containsCall) ?? false);

// Names --------------------------------------------------------------------------------------------------------------

export function lowerName(f: FunctionLowering, node: ts.Identifier): Value {
  const symbol = symbolOf(f, node);
  if (symbol === undefined) {
    if (node.text === 'undefined') return UNDEFINED;
    return f.fail(node, say.unsupportedSyntax(`the name "${node.text}"`));
  }
  const found = findBinding(f.frame, symbol);
  if (found !== undefined) {
    const binding = found.frame.owner === f ? found.binding : capture(f, node, found.binding, found.frame.owner);
    return readBinding(f, node, binding);
  }
  const atBuildTime = f.unit.buildTime.valueOf(symbol);
  if (atBuildTime !== undefined) return constant(atBuildTime.value);
  return captured(f, node);
}

export function symbolOf(f: FunctionLowering, node: ts.Identifier): ts.Symbol | undefined {
  if (ts.isShorthandPropertyAssignment(node.parent) && node.parent.name === node) {
    return f.unit.checker.getShorthandAssignmentValueSymbol(node.parent);
  }
  return f.unit.checker.getSymbolAtLocation(node);
}

function readBinding(f: FunctionLowering, node: ts.Identifier, binding: Binding): Value {
  if (binding.kind === 'cell') return loadCell(f, node, binding);
  if (binding.kind === 'value') {
    if (binding.value.kind === 'poison') throw new SilentError();
    return binding.value;
  }
  const { reg, type, name } = binding;
  if (type.kind !== 'view') return { kind: type.kind, reg };
  const { struct, memory = 'any' } = type;
  if (struct === undefined) return f.fail(node, say.unknownStruct(name));
  return { kind: 'view', struct, base: { reg }, offset: 0, memory, nullable: true };
}

/** A name that a function made at build time brought along. */
function captured(f: FunctionLowering, node: ts.Identifier): Value {
  for (let frame = f.frame; frame !== undefined; frame = frame.lexical!) {
    try {
      if (frame.scope !== undefined) return constant(frame.scope(node.text));
    } catch {
      // Not in this scope either.
    }
  }
  return f.fail(node, say.unsupportedSyntax(`the name "${node.text}" here`));
}

function lowerThis(f: FunctionLowering, node: ts.Expression): Value {
  for (let frame = f.frame; frame !== undefined; frame = frame.lexical!) {
    if (frame.thisValue !== undefined) return frame.thisValue;
    if (!ts.isArrowFunction(frame.node)) break;
  }
  return f.fail(node, say.thisValue());
}

// Properties ---------------------------------------------------------------------------------------------------------

function lowerProperty(f: FunctionLowering, node: ts.PropertyAccessExpression): Value {
  const value = lower(f, node.expression);
  if (node.questionDotToken !== undefined) {
    if (isConstant(value) && (value.value === undefined || value.value === null)) return UNDEFINED;
    if (!isConstant(value)) return f.fail(node, say.optionalChain());
  }
  return propertyOf(f, node, value, node.name.text);
}

export function propertyOf(f: FunctionLowering, node: ts.Node, value: Value, name: string): Value {
  switch (value.kind) {
    case 'view':
      return fieldOf(f, node, value, name);
    case 'skb':
      return skbField(f, node, value, name);
    case 'constant':
      return propertyOfConstant(f, node, value.value, name);
    case 'elements':
      if (name === 'length') return constant(value.field.length);
      return f.fail(node, say.notMember(name, describe(value)));
    case 'poison':
      throw new SilentError();
    default:
      return f.fail(node, say.notMember(name, describe(value)));
  }
}

function propertyOfConstant(f: FunctionLowering, node: ts.Node, value: unknown, name: string): Value {
  if (value === null) return f.fail(node, say.maybeNull());
  if (value === undefined) return f.fail(node, say.notMember(name, 'undefined'));
  if (isMap(value)) {
    const special = mapProperty(f, value, name);
    if (special !== undefined) return special;
  }
  return constant((value as Record<string, unknown>)[name]);
}

function lowerElement(f: FunctionLowering, node: ts.ElementAccessExpression): Value {
  const [value, index] = lowerOperands(f, node.expression, node.argumentExpression);
  if (isConstant(value) && isConstant(index)) {
    if (value.value === undefined && node.questionDotToken !== undefined) return UNDEFINED;
    return propertyOfConstant(f, node, value.value, index.value as string);
  }
  if (value.kind === 'elements')
    return f.fail(node, say.unsupportedSyntax('a[i] on an array field (write a.get(i) or a.at(i))'));
  if (isConstant(value)) return f.fail(node, say.buildTimeOnly(describe(value)));
  if (isConstant(index) && typeof index.value === 'string') return propertyOf(f, node, value, index.value);
  return f.fail(node, say.fieldName());
}

function lowerNonNull(f: FunctionLowering, node: ts.NonNullExpression): Value {
  const value = lower(f, node.expression);
  if (value.kind !== 'view') return value;
  if ('reg' in value.base && f.isPending(value.base.reg)) f.settle();
  if (value.nullable && !f.isNonNull(value.base)) return f.fail(node, say.nonNullAssertion());
  return value;
}

// Operators ----------------------------------------------------------------------------------------------------------

function lowerBinary(f: FunctionLowering, node: ts.BinaryExpression): Value {
  const operator = node.operatorToken.kind;
  if (isAssignmentOperator(operator)) return lowerAssignment(f, node);
  switch (operator) {
    case ts.SyntaxKind.CommaToken:
      return f.fail(node.operatorToken, say.comma());
    case ts.SyntaxKind.QuestionQuestionToken:
      return lowerNullish(f, node);
    case ts.SyntaxKind.AmpersandAmpersandToken:
    case ts.SyntaxKind.BarBarToken:
      return lowerLogical(f, node);
    case ts.SyntaxKind.EqualsEqualsToken:
    case ts.SyntaxKind.ExclamationEqualsToken:
      return conditionValue(f, lowerCondition(f, node));
    case ts.SyntaxKind.InKeyword: {
      const [name, object] = lowerOperands(f, node.left, node.right);
      if (isConstant(name) && isConstant(object)) return constant((name.value as string) in (object.value as object));
      return f.fail(node, say.unsupportedSyntax('"in" at run time'));
    }
  }
  if (comparisonOf(operator) !== undefined) return conditionValue(f, lowerCondition(f, node));
  const arithmetic = operatorOf(operator);
  if (arithmetic === undefined)
    return f.fail(node.operatorToken, say.unsupportedSyntax(`"${node.operatorToken.getText()}"`));
  if (arithmetic === '>>>') return shiftUnsigned(f, node);
  const [a, b] = lowerOperands(f, node.left, node.right);
  for (const [side, value] of [
    [node.left, a],
    [node.right, b],
  ] as const)
    if (isScalar(value)) numeric(f, side, value);
  return calculate(f, node, arithmetic, a, b);
}

function lowerPrefix(f: FunctionLowering, node: ts.PrefixUnaryExpression): Value {
  if (isStep(node.operator)) return lowerStep(f, node);
  if (node.operator === ts.SyntaxKind.ExclamationToken) return conditionValue(f, lowerCondition(f, node));
  const value = lower(f, node.operand);
  if (isConstant(value)) return foldPrefix(node.operator, value.value);
  const number = numeric(f, node.operand, value);
  const zero = constant(number.kind === 'bigint' ? 0n : 0);
  const ones = constant(number.kind === 'bigint' ? -1n : -1);
  if (node.operator === ts.SyntaxKind.MinusToken) return calculate(f, node, '-', zero, number);
  if (node.operator === ts.SyntaxKind.TildeToken) return calculate(f, node, '^', number, ones);
  return number;
}

function foldPrefix(operator: ts.PrefixUnaryOperator, value: unknown): Value {
  const number = value as number;
  if (operator === ts.SyntaxKind.MinusToken) return constant(-number);
  return constant(operator === ts.SyntaxKind.TildeToken ? ~number : +number);
}

function lowerConditional(f: FunctionLowering, node: ts.ConditionalExpression): Value {
  const { yes, no } = lowerCondition(f, node.condition);
  return joinValues(f, node, [...outcomesOf(f, yes, node.whenTrue), ...outcomesOf(f, no, node.whenFalse)]);
}

function outcomesOf(f: FunctionLowering, flow: Flow | undefined, node: ts.Expression): Outcome[] {
  if (flow === undefined) return [];
  f.resume(flow);
  return takeOutcomes(f, f.stable(lower(f, node)));
}

/** `a ?? b`: b where the view (or the build-time value) is null. */
function lowerNullish(f: FunctionLowering, node: ts.BinaryExpression): Value {
  const value = lower(f, node.left);
  if (isConstant(value)) return value.value === null || value.value === undefined ? lower(f, node.right) : value;
  if (value.kind !== 'view') return value;
  const { yes, no } = nullTest(f, value);
  f.resume(no);
  const present = no === undefined ? [] : takeOutcomes(f, { ...value, nullable: false });
  return joinValues(f, node, [...present, ...outcomesOf(f, yes, node.right)]);
}

function lowerLogical(f: FunctionLowering, node: ts.BinaryExpression): Value {
  const type = f.unit.checker.getTypeAtLocation(node);
  if (type.flags & ts.TypeFlags.BooleanLike) return conditionValue(f, lowerCondition(f, node));
  const left = lower(f, node.left);
  if (isConstant(left)) {
    const takesRight = node.operatorToken.kind === ts.SyntaxKind.AmpersandAmpersandToken ? left.value : !left.value;
    return takesRight ? lower(f, node.right) : left;
  }
  return f.fail(node.operatorToken, say.logicalValue(node.operatorToken.getText()));
}

// Values of the build ------------------------------------------------------------------------------------------------

function buildTimeObject(f: FunctionLowering, node: ts.ObjectLiteralExpression): Value {
  const object: Record<string, unknown> = {};
  for (const property of node.properties) {
    if (ts.isSpreadAssignment(property)) {
      Object.assign(object, atBuildTime(f, node, lower(f, property.expression)));
    } else if (ts.isShorthandPropertyAssignment(property)) {
      object[property.name.text] = atBuildTime(f, node, lower(f, property.name));
    } else if (ts.isPropertyAssignment(property) && !ts.isComputedPropertyName(property.name)) {
      object[property.name.text] = atBuildTime(f, node, lower(f, property.initializer));
    } else {
      return f.fail(property, say.objectLiteral());
    }
  }
  return constant(object);
}

function atBuildTime(f: FunctionLowering, node: ts.Node, value: Value): unknown {
  return isConstant(value) ? value.value : f.fail(node, say.objectLiteral());
}

function buildTimeArray(f: FunctionLowering, node: ts.ArrayLiteralExpression): Value {
  const values = node.elements.flatMap((element) =>
    ts.isSpreadElement(element) ? lowerSpread(f, element) : [lower(f, element)],
  );
  return constant(values.map((value) => (isConstant(value) ? value.value : f.fail(node, say.arrayLiteral()))));
}

function buildTimeTemplate(f: FunctionLowering, node: ts.TemplateExpression): Value {
  let text = node.head.text;
  for (const span of node.templateSpans) {
    const value = lower(f, span.expression);
    if (!isConstant(value)) return f.fail(node, say.string());
    text += `${value.value}${span.literal.text}`;
  }
  return constant(text);
}
