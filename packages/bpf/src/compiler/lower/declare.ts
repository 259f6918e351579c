/** Declarations: names of parameters, `const` and `let` and what they stand for in a frame. */
import ts from 'typescript';
import { SilentError, say } from '../diagnostics.ts';
import { assignVariable, checkVariable } from './assignments.ts';
import { cellRange } from './captures.ts';
import { lower, propertyOf } from './expressions.ts';
import type { Frame, VariableType } from './frame.ts';
import type { FunctionLowering } from './function.ts';
import { fit } from './operand.ts';
import { UNKNOWN, unseen } from './range.ts';
import { assignmentsIn } from './scope-scan.ts';
import { scalarOfAnnotation, variableType } from './types.ts';
import { constant, describe, isConstant, isScalar, type Value } from './value.ts';

/** Binds the parameters of an inlined call, or of a function of its own, to what they are given at `callSite`. */
export function bindParameters(f: FunctionLowering, frame: Frame, values: readonly Value[], callSite: ts.Node): void {
  const places = ts.isCallExpression(callSite) ? callSite.arguments : [];
  for (const [index, parameter] of parametersOf(frame.node).entries()) {
    if (parameter.dotDotDotToken !== undefined) f.fail(parameter, say.unsupportedSyntax('rest parameters'));
    const given = values[index] ?? constant(undefined);
    const missing = isConstant(given) && given.value === undefined;
    const value = missing && parameter.initializer !== undefined ? lower(f, parameter.initializer) : given;
    const name = parameter.name.getText();
    if (!missing) checkAnnotation(f, places[index] ?? callSite, `parameter "${name}"`, parameter.type, value);
    bind(f, frame, parameter, parameter.name, value);
  }
}

/** Those that are passed: `this` is only a type. */
export const parametersOf = (node: ts.FunctionLikeDeclaration): ts.ParameterDeclaration[] =>
  node.parameters.filter(({ name }) => !(ts.isIdentifier(name) && name.text === 'this'));

/** `const x = ...`, `let x: u32 = ...`, also by destructuring. */
export function declare(f: FunctionLowering, node: ts.VariableDeclaration): void {
  const { initializer } = node;
  const isConst = (ts.getCombinedNodeFlags(node) & ts.NodeFlags.Const) !== 0;
  if (initializer === undefined) {
    declareVariable(f, f.frame, node, node.name as ts.Identifier, undefined);
    return;
  }
  const value = lower(f, initializer);
  if (isConst) checkAnnotation(f, initializer, `"${node.name.getText()}"`, node.type, value);
  bind(f, f.frame, node, node.name, value);
}

/** After an error in a declaration: its names mean nothing more to complain about. */
export function poison(f: FunctionLowering, name: ts.BindingName): void {
  if (ts.isIdentifier(name)) {
    const symbol = f.unit.checker.getSymbolAtLocation(name);
    if (symbol !== undefined) f.frame.bindings.set(symbol, { kind: 'value', value: { kind: 'poison' } });
    return;
  }
  for (const element of name.elements) if (ts.isBindingElement(element)) poison(f, element.name);
}

/** A value given an integer type must fit it; the value's own range is kept, it is narrower. */
export function checkAnnotation(
  f: FunctionLowering,
  node: ts.Node,
  what: string,
  type: ts.TypeNode | undefined,
  value: Value,
): void {
  const scalar = scalarOfAnnotation(f.unit, type);
  if (scalar !== undefined && (isScalar(value) || isConstant(value))) fit(f, node, what, scalar, value);
}

function bind(
  f: FunctionLowering,
  frame: Frame,
  owner: ts.VariableDeclaration | ts.ParameterDeclaration,
  name: ts.BindingName,
  value: Value,
): void {
  if (value.kind === 'poison') throw new SilentError();
  if (ts.isObjectBindingPattern(name)) bindObject(f, frame, owner, name, value);
  else if (ts.isArrayBindingPattern(name)) bindArray(f, frame, owner, name, value);
  else bindName(f, frame, owner, name, value);
}

function bindName(
  f: FunctionLowering,
  frame: Frame,
  owner: ts.VariableDeclaration | ts.ParameterDeclaration,
  name: ts.Identifier,
  value: Value,
): void {
  const symbol = f.unit.checker.getSymbolAtLocation(name)!;
  refuseAny(f, name, value);
  if (assignmentsIn(f.unit, frame.node).assigned.has(symbol)) {
    declareVariable(f, frame, owner, name, value);
    return;
  }
  const kept = f.stable(value, name.text);
  if ('reg' in kept) f.nameRegister(kept.reg, name.text);
  if (kept.kind === 'view' && 'reg' in kept.base) f.nameRegister(kept.base.reg, name.text);
  frame.bindings.set(symbol, { kind: 'value', value: kept });
}

function bindObject(
  f: FunctionLowering,
  frame: Frame,
  owner: ts.VariableDeclaration | ts.ParameterDeclaration,
  pattern: ts.ObjectBindingPattern,
  value: Value,
): void {
  for (const element of pattern.elements) {
    if (element.dotDotDotToken !== undefined) f.fail(element, say.spread());
    const key = element.propertyName ?? element.name;
    if (!ts.isIdentifier(key) && !ts.isStringLiteral(key)) f.fail(element, say.fieldName());
    bind(f, frame, owner, element.name, withDefault(f, element, propertyOf(f, element, value, key.text)));
  }
}

function bindArray(
  f: FunctionLowering,
  frame: Frame,
  owner: ts.VariableDeclaration | ts.ParameterDeclaration,
  pattern: ts.ArrayBindingPattern,
  value: Value,
): void {
  if (!isConstant(value) || !Array.isArray(value.value)) f.fail(pattern, say.notMember('elements', describe(value)));
  const array: readonly unknown[] = value.value;
  for (const [index, element] of pattern.elements.entries()) {
    if (!ts.isBindingElement(element)) continue;
    const rest = element.dotDotDotToken !== undefined;
    const part = rest ? constant(array.slice(index)) : withDefault(f, element, constant(array[index]));
    bind(f, frame, owner, element.name, part);
  }
}

function withDefault(f: FunctionLowering, element: ts.BindingElement, value: Value): Value {
  if (element.initializer === undefined || !isConstant(value) || value.value !== undefined) return value;
  return lower(f, element.initializer);
}

/** A variable that is assigned again: a register of its own, of its declared type. */
function declareVariable(
  f: FunctionLowering,
  frame: Frame,
  owner: ts.VariableDeclaration | ts.ParameterDeclaration,
  name: ts.Identifier,
  value: Value | undefined,
): void {
  const symbol = f.unit.checker.getSymbolAtLocation(name)!;
  const type = owner.name === name ? variableType(f.unit, owner) : undefined;
  if (type === undefined) f.fail(name, say.needsAnnotation(name.text));
  const shared = assignmentsIn(f.unit, frame.node).shared.has(symbol);
  makeVariable(f, frame, symbol, name, type, value, shared);
}

export function makeVariable(
  f: FunctionLowering,
  frame: Frame,
  symbol: ts.Symbol,
  name: ts.Identifier,
  type: VariableType,
  value: Value | undefined,
  shared: boolean,
): void {
  const reg = f.newRegister(type.kind === 'view' ? undefined : unseen(cellRange(type)), name.text);
  if (value !== undefined && type.kind !== 'view') checkVariable(f, name, name.text, type, value);
  // Until it is known what it holds, a helper that moves the packet takes it along.
  if (type.kind === 'view' && type.struct === undefined) f.packetBases.add(reg);
  f.mutable.add(reg);
  if (shared) f.shared.add(reg);
  const binding = { kind: 'variable', name: name.text, reg, type, shared } as const;
  frame.bindings.set(symbol, binding);
  if (value !== undefined) {
    assignVariable(f, name, binding, value);
    return;
  }
  // TypeScript proves it assigned before it is used; the verifier would not.
  f.emit({ op: 'const', dst: reg, value: 0n });
  if (type.kind !== 'view') f.setBounds(reg, { range: cellRange(type), known: UNKNOWN });
}

function refuseAny(f: FunctionLowering, name: ts.Identifier, value: Value): void {
  if (isConstant(value)) return;
  const type = f.unit.checker.getTypeAtLocation(name);
  if (type.flags & ts.TypeFlags.Any) f.fail(name, say.anyType(`"${name.text}"`));
}
