/**
 * Calls. The callee is a value of the build: one of the language's own functions, a function of the program, or a library
 * function that is only called on values of the build.
 *
 * Functions of the program are inlined: parameters become names for the caller's values, so a struct, a table or a function
 * passed down is as known inside as it was outside. A `@subprog` function becomes a BPF function of its own.
 */
import ts from 'typescript';
import * as language from '../../language/index.ts';
import { SilentError, say } from '../diagnostics.ts';
import { type Branches, lowerCondition, test } from './conditions.ts';
import { bindParameters, checkAnnotation } from './declare.ts';
import { lower, mayChangeVariables, propertyOf, unwrap } from './expressions.ts';
import type { Flow } from './flow.ts';
import type { Frame } from './frame.ts';
import type { FunctionLowering } from './function.ts';
import { callHelper, HELPER_NAMES } from './helpers.ts';
import { INTRINSICS, LANGUAGE_FUNCTIONS } from './intrinsics.ts';
import { joinValues, type Outcome, takeOutcomes } from './join-values.ts';
import { callMapMethod, isMapMethod } from './maps.ts';
import { headerView } from './packets.ts';
import { lowerBody } from './statements.ts';
import { callSubprogram, isSubprogram } from './subprogram.ts';
import { constant, describe, isConstant, isMap, UNDEFINED, type Value } from './value.ts';
import { elementOf, same, storeElement, viewOf } from './views.ts';

/** A function of the program and what surrounds it. */
export interface ProgramFunction {
  readonly node: ts.FunctionLikeDeclaration;
  readonly lexical: Frame | undefined;
  readonly scope: Frame['scope'];
  readonly thisValue: Value | undefined;
}

/** The callee, and for methods what they belong to, evaluated. */
type Callee =
  | { readonly kind: 'method'; readonly receiver: Value; readonly name: string }
  | { readonly kind: 'value'; readonly value: Value; readonly thisValue: Value | undefined };

export function lowerCall(f: FunctionLowering, node: ts.CallExpression): Value {
  const callee = calleeOf(f, node);
  if (callee === undefined) return UNDEFINED;
  if (callee.kind === 'method') return callMethod(f, node, callee.receiver, callee.name);
  const { value, thisValue } = callee;
  const target = programFunction(f, value, thisValue);
  if (target !== undefined) {
    const args = lowerArguments(f, node);
    return isSubprogram(target.node) ? callSubprogram(f, node, target, args) : inline(f, node, target, args);
  }
  return callKnown(f, node, value, thisValue);
}

/** A call as a condition: each return of an inlined function jumps straight to where the condition leads. */
export function inlineCondition(f: FunctionLowering, node: ts.CallExpression): Branches | undefined {
  const callee = calleeOf(f, node);
  if (callee === undefined) return test(f, node, UNDEFINED);
  if (callee.kind === 'method') return test(f, node, callMethod(f, node, callee.receiver, callee.name));
  const { value, thisValue } = callee;
  if (isConstant(value) && value.value === language.same) {
    const [a, b] = lowerArguments(f, node);
    return same(f, node, viewOf(f, node, a ?? UNDEFINED), viewOf(f, node, b ?? UNDEFINED));
  }
  const target = programFunction(f, value, thisValue);
  if (target === undefined) return test(f, node, callKnown(f, node, value, thisValue));
  const args = lowerArguments(f, node);
  if (isSubprogram(target.node)) return test(f, node, callSubprogram(f, node, target, args));
  const yes: (Flow | undefined)[] = [];
  const no: (Flow | undefined)[] = [];
  const { failures } = f.unit;
  enter(f, node, target, args, (expression, statement) => {
    if (expression === undefined) return f.fail(statement, say.missingReturn(nameOf(target.node)));
    const branches = lowerCondition(f, expression);
    yes.push(branches.yes);
    no.push(branches.no);
  });
  if (f.unit.failures > failures) throw new SilentError();
  if (f.isReachable) return f.fail(node, say.missingReturn(nameOf(target.node)));
  return { yes: f.join(yes), no: f.join(no) };
}

function calleeOf(f: FunctionLowering, node: ts.CallExpression): Callee | undefined {
  const callee = withoutNonNull(node.expression);
  if (!ts.isPropertyAccessExpression(callee) && !ts.isElementAccessExpression(callee)) {
    return { kind: 'value', value: lower(f, callee), thisValue: undefined };
  }
  const receiver = lower(f, callee.expression);
  const name = ts.isPropertyAccessExpression(callee) ? callee.name.text : elementName(f, callee);
  if (receiver.kind === 'poison') throw new SilentError();
  const isMethod = receiver.kind === 'skb' || receiver.kind === 'elements';
  if (isMethod || (isConstant(receiver) && isMap(receiver.value) && isMapMethod(receiver.value, name))) {
    return { kind: 'method', receiver, name };
  }
  const optional = callee.questionDotToken !== undefined || node.questionDotToken !== undefined;
  if (optional && isConstant(receiver) && (receiver.value === undefined || receiver.value === null)) return undefined;
  if (receiver.kind === 'view') return f.fail(callee, say.notCallable(`"${name}" of ${describe(receiver)}`));
  const value = propertyOf(f, callee, receiver, name);
  if (optional && isConstant(value) && value.value === undefined) return undefined;
  return { kind: 'value', value, thisValue: receiver };
}

function withoutNonNull(expression: ts.Expression): ts.Expression {
  const node = unwrap(expression);
  return ts.isNonNullExpression(node) ? withoutNonNull(node.expression) : node;
}

function elementName(f: FunctionLowering, callee: ts.ElementAccessExpression): string {
  const index = lower(f, callee.argumentExpression);
  return isConstant(index) ? String(index.value) : f.fail(callee, say.fieldName());
}

/** Arguments in order; what a later one may change is kept apart. */
export function lowerArguments(f: FunctionLowering, node: ts.CallExpression): Value[] {
  return node.arguments.flatMap((argument, index) => {
    if (ts.isSpreadElement(argument)) return lowerSpread(f, argument);
    const value = lower(f, argument);
    return node.arguments.slice(index + 1).some(mayChangeVariables) ? f.stable(value) : value;
  });
}

/** `...ARRAY` of the build. */
export function lowerSpread(f: FunctionLowering, node: ts.SpreadElement): Value[] {
  const value = lower(f, node.expression);
  if (!isConstant(value) || !Array.isArray(value.value)) return f.fail(node, say.spread());
  return value.value.map(constant);
}

function callMethod(f: FunctionLowering, node: ts.CallExpression, receiver: Value, name: string): Value {
  const args = lowerArguments(f, node);
  if (isConstant(receiver) && isMap(receiver.value)) return callMapMethod(f, node, receiver.value, name, args);
  if (receiver.kind === 'skb' && name === 'header') return headerView(f, node, receiver, args);
  const [index, value] = args;
  if (receiver.kind === 'elements' && index !== undefined) {
    if (name === 'get' || name === 'at') return elementOf(f, node, receiver, index);
    if (name === 'set' && value !== undefined) {
      storeElement(f, node, receiver, index, value);
      return UNDEFINED;
    }
  }
  return f.fail(node, say.notMember(name, describe(receiver)));
}

function programFunction(f: FunctionLowering, value: Value, thisValue: Value | undefined): ProgramFunction | undefined {
  if (value.kind === 'closure') return { node: value.node, lexical: value.frame, scope: undefined, thisValue };
  const known = isConstant(value) ? f.unit.buildTime.functionOf(value.value) : undefined;
  return known === undefined ? undefined : { node: known.node, lexical: undefined, scope: known.scope, thisValue };
}

/** Functions that are not the program's: the language's, and those of the library. */
function callKnown(f: FunctionLowering, node: ts.CallExpression, value: Value, thisValue: Value | undefined): Value {
  if (value.kind === 'poison') throw new SilentError();
  if (!isConstant(value) || typeof value.value !== 'function')
    return f.fail(node.expression, say.notCallable(describe(value)));
  const intrinsic = INTRINSICS.get(value.value);
  if (intrinsic !== undefined) return intrinsic(f, node);
  const helper = HELPER_NAMES.get(value.value);
  if (helper !== undefined) return callHelper(f, node, helper, lowerArguments(f, node));
  const name = node.expression.getText();
  if (LANGUAGE_FUNCTIONS.has(value.value)) return f.fail(node, say.mapElsewhere(`${name}()`));
  const args = lowerArguments(f, node);
  const receiver = thisValue ?? UNDEFINED;
  if (!isConstant(receiver) || !args.every(isConstant)) return f.fail(node.expression, say.foreignFunction(name));
  const plain = args.map((argument) => (isConstant(argument) ? argument.value : undefined));
  return constant(Reflect.apply(value.value, receiver.value, plain));
}

// Inlining -----------------------------------------------------------------------------------------------------------

function inline(f: FunctionLowering, node: ts.Node, target: ProgramFunction, args: readonly Value[]): Value {
  const outcomes: Outcome[] = [];
  const { failures } = f.unit;
  enter(f, node, target, args, (expression) => {
    const value = expression === undefined ? UNDEFINED : f.stable(lower(f, expression));
    if (expression !== undefined) checkAnnotation(f, expression, 'the result', target.node.type, value);
    outcomes.push(...takeOutcomes(f, value));
  });
  outcomes.push(...takeOutcomes(f, UNDEFINED));
  // What a function with an error in it gives means nothing; whoever uses it has nothing more to complain about.
  if (f.unit.failures > failures) {
    f.resume(f.join(outcomes.map(({ flow }) => flow)));
    return { kind: 'poison' };
  }
  return joinValues(f, node, outcomes);
}

/** Lowers the body in a frame of its own. */
function enter(
  f: FunctionLowering,
  callSite: ts.Node,
  { node, lexical, scope, thisValue }: ProgramFunction,
  args: readonly Value[],
  onReturn: Frame['onReturn'],
): void {
  refuseRecursion(f, callSite, node);
  const caller = f.frame;
  const frame: Frame = {
    owner: f,
    node,
    lexical,
    caller,
    callSite,
    scope,
    bindings: new Map(),
    thisValue,
    jumps: [],
    onReturn,
  };
  f.frame = frame;
  try {
    bindParameters(f, frame, args, callSite);
    lowerBody(f, frame);
  } finally {
    f.frame = caller;
  }
}

export function refuseRecursion(f: FunctionLowering, callSite: ts.Node, node: ts.FunctionLikeDeclaration): void {
  for (let frame: Frame | undefined = f.frame; frame !== undefined; frame = frame.caller) {
    if (frame.node === node) f.fail(callSite, say.recursion(nameOf(node)));
  }
}

export function nameOf(node: ts.FunctionLikeDeclaration): string {
  if (node.name !== undefined) return node.name.getText();
  const { parent } = node;
  if ((ts.isVariableDeclaration(parent) || ts.isPropertyAssignment(parent)) && ts.isIdentifier(parent.name))
    return parent.name.text;
  return 'function';
}
