/**
 * `@subprog` functions: compiled once as BPF functions of their own, and called.
 *
 * Scalars and views go in registers, at most five. Values of the build (structs, tables, functions) cannot: for each
 * combination of them the function is compiled anew under another name.
 *
 * The verifier walks through a subprogram at each call, knowing what the caller knows. `@subprog alone`, for functions of scalars and the packet, has it
 * walk through once: for what is called from many places and branches much. Its result can then be anything of its type.
 */
import ts from 'typescript';
import { SilentError, say } from '../diagnostics.ts';
import type { Operand } from '../ir.ts';
import { nullablePointer } from './assignments.ts';
import { nameOf, type ProgramFunction, refuseRecursion } from './calls.ts';
import { bindParameters, checkAnnotation, parametersOf } from './declare.ts';
import { lower } from './expressions.ts';
import { FunctionLowering } from './function.ts';
import { inRegister, scalarOperand } from './operand.ts';
import { type Bounds, type Range, SCALAR_RANGES, UNKNOWN, union, unseen } from './range.ts';
import { lowerBody } from './statements.ts';
import { orderOf, scalarOfAnnotation } from './types.ts';
import { type ProgramContext, uniqueName } from './unit.ts';
import {
  describe,
  isConstant,
  isScalar,
  kindOfScalar,
  NULL,
  type ScalarKind,
  type ScalarValue,
  UNDEFINED,
  type Value,
  type ViewValue,
} from './value.ts';

export interface Subprogram {
  readonly name: string;
  readonly moves: boolean;
  readonly result: Result;
}

type Result =
  | { readonly kind: 'nothing' }
  | { readonly kind: 'null' }
  | { readonly kind: 'scalar'; readonly type: ScalarKind; readonly range: Range }
  | { readonly kind: 'view'; readonly view: ViewValue };

export const isSubprogram = (node: ts.FunctionLikeDeclaration): boolean => tagOf(node) !== undefined;

function tagOf(node: ts.FunctionLikeDeclaration): ts.JSDocTag | undefined {
  const holder = ts.isVariableDeclaration(node.parent) ? node.parent.parent.parent : node;
  return ts.getJSDocTags(holder).find((tag) => tag.tagName.text === 'subprog');
}

/** Whether it is to be verified by itself. */
const isAlone = (node: ts.FunctionLikeDeclaration): boolean =>
  ts.getTextOfJSDocComment(tagOf(node)?.comment)?.startsWith('alone') === true;

export function callSubprogram(
  f: FunctionLowering,
  node: ts.CallExpression,
  target: ProgramFunction,
  args: readonly Value[],
): Value {
  if (target.lexical !== undefined) return f.fail(node, say.callbackFunction());
  f.settle();
  const parameters = parametersOf(target.node);
  const passed = args.map((value, index) => pass(f, node.arguments[index] ?? node, parameters[index], value));
  const operands = passed.flatMap(({ operand }) => (operand === undefined ? [] : [operand]));
  if (operands.length > 5) return f.fail(node, say.argumentCount(nameOf(target.node), operands.length));
  const key = [target.node.pos, target.node.getSourceFile().fileName, ...passed.map((p) => p.key(f.program))].join(' ');
  const known = f.program.subprograms.get(key);
  const subprogram = known ?? compileSubprogram(f, node, target, passed);
  f.program.subprograms.set(key, subprogram);
  const result = resultValue(f, subprogram.result);
  const dst = isScalar(result)
    ? result.reg
    : result.kind === 'view' && 'reg' in result.base
      ? result.base.reg
      : f.newRegister();
  f.emit({ op: 'callFunction', name: subprogram.name, dst, args: operands });
  if (subprogram.moves) f.packetMoved();
  if (result.kind === 'view' && !result.nullable) f.setNonNull(dst);
  return result;
}

interface Passed {
  readonly operand: Operand | undefined;
  /** That is an address, and not the context's. */
  readonly pointer?: true;
  /** What makes two calls share one compiled function. */
  readonly key: (program: ProgramContext) => string;
  /** The parameter inside. */
  readonly receive: (f: FunctionLowering) => Value;
}

function pass(
  f: FunctionLowering,
  node: ts.Node,
  parameter: ts.ParameterDeclaration | undefined,
  value: Value,
): Passed {
  if (value.kind === 'poison') throw new SilentError();
  const scalar = scalarOfAnnotation(f.unit, parameter?.type);
  if (isScalar(value) || (isConstant(value) && scalar !== undefined)) {
    if (scalar === undefined && value.kind === 'number') {
      return f.fail(node, say.parameterAnnotation(parameter?.name.getText() ?? '?'));
    }
    checkAnnotation(f, node, `parameter "${parameter?.name.getText()}"`, parameter?.type, value);
    const kind = scalar === undefined ? (value.kind as ScalarKind) : kindOfScalar(scalar);
    const range = scalar === undefined ? SCALAR_RANGES.u32 : SCALAR_RANGES[scalar];
    return {
      operand: { reg: inRegister(f, scalarOperand(f, node, value)) },
      key: () => kind,
      receive: (child) => ({ kind, reg: parameterRegister(child, unseen(range)) }),
    };
  }
  if (isConstant(value)) {
    return { operand: undefined, key: (program) => `#${identityOf(program, value.value)}`, receive: () => value };
  }
  if (value.kind === 'skb') {
    return {
      operand: { reg: value.reg },
      key: () => 'skb',
      receive: (child) => {
        child.context = parameterRegister(child);
        return { kind: 'skb', reg: child.context };
      },
    };
  }
  if (value.kind !== 'view') return f.fail(node, say.subprogramValue(describe(value)));
  return passView(f, node, value);
}

/** A view is passed by its address; of the context only the pointer itself can be passed, and the offset is compiled in. */
function passView(f: FunctionLowering, node: ts.Node, value: ViewValue): Passed {
  const nullable = value.nullable && !f.isNonNull(value.base);
  if ('reg' in value.base) {
    const moved = f.staleSince(value.base.reg);
    if (moved !== undefined)
      return f.fail(node, say.staleView(), [{ at: moved, text: 'the packet may have moved at' }]);
  }
  const isContext = value.memory === 'context' && 'reg' in value.base;
  const operand = isContext ? value.base : { reg: nullablePointer(f, value) };
  const offset = isContext ? value.offset : 0;
  const { struct, memory } = value;
  return {
    operand: operand as Operand,
    pointer: true,
    key: (program) => `view ${identityOf(program, struct)} ${memory} ${nullable} ${offset}`,
    receive: (child) => {
      const reg = parameterRegister(child);
      if (memory === 'packet' || memory === 'any') child.packetBases.add(reg);
      return { kind: 'view', struct, base: { reg }, offset, memory, nullable };
    },
  };
}

function parameterRegister(child: FunctionLowering, bounds: Bounds = { range: UNKNOWN, known: UNKNOWN }): number {
  const reg = child.newRegister(bounds);
  child.params.push(reg);
  return reg;
}

function identityOf(program: ProgramContext, value: unknown): number {
  const known = program.identities.get(value);
  if (known !== undefined) return known;
  program.identities.set(value, program.identities.size);
  return program.identities.size - 1;
}

function compileSubprogram(
  f: FunctionLowering,
  callSite: ts.Node,
  target: ProgramFunction,
  passed: readonly Passed[],
): Subprogram {
  const { node } = target;
  refuseRecursion(f, callSite, node);
  const name = uniqueName(f.program, nameOf(node));
  const alone = isAlone(node);
  if (alone && passed.some(({ pointer }) => pointer === true)) f.fail(callSite, say.aloneValue('it is passed a view'));
  const child = new FunctionLowering(f.program, name, alone ? 'alone' : 'subprogram', node);
  const values = passed.map(({ receive }) => receive(child));
  let result: Result | undefined;
  child.frame = {
    owner: child,
    node,
    lexical: undefined,
    caller: f.frame,
    callSite,
    scope: target.scope,
    bindings: new Map(),
    thisValue: target.thisValue,
    jumps: [],
    onReturn: (expression, statement) => {
      const value = expression === undefined ? UNDEFINED : lower(child, expression);
      if (expression !== undefined) checkAnnotation(child, expression, 'the result', node.type, value);
      result = giveBack(child, expression ?? statement, value, result);
    },
  };
  bindParameters(child, child.frame, values, callSite);
  lowerBody(child, child.frame);
  if (child.isReachable) child.return({ imm: 0n });
  if (alone && (result?.kind === 'view' || result?.kind === 'null'))
    f.fail(callSite, say.aloneValue('its result is a view'));
  if (f.unit.diagnostics.length === 0) f.program.functions.push(child.finish());
  return { name, moves: child.moves, result: alone ? widest(result) : (result ?? { kind: 'nothing' }) };
}

/** What the verifier does not know of a result, nobody may build on. A boolean is only asked for being 0. */
function widest(result: Result | undefined): Result {
  if (result?.kind !== 'scalar' || result.type === 'boolean') return result ?? { kind: 'nothing' };
  return { ...result, range: union(result.range, SCALAR_RANGES[result.type === 'bigint' ? 'u64' : 'u32']) };
}

/** Emits the return and gives what the function's results have in common so far. */
function giveBack(f: FunctionLowering, node: ts.Node, value: Value, before: Result | undefined): Result {
  const now = emitReturn(f, node, value);
  if (before === undefined || before.kind === 'nothing') return now;
  if (now.kind === 'view' && before.kind === 'view') {
    const [one, other] = [now.view, before.view];
    if (one.struct !== other.struct) return f.fail(node, say.differentStructs(one.struct.name, other.struct.name));
    const memory = one.memory === other.memory ? one.memory : 'any';
    return { kind: 'view', view: { ...one, memory, nullable: one.nullable || other.nullable } };
  }
  if (now.kind === 'scalar' && before.kind === 'scalar') {
    const range = union(now.range, before.range);
    // A constant's own kind is only a number.
    return { kind: 'scalar', type: now.type === 'number' ? before.type : now.type, range };
  }
  const view = now.kind === 'view' ? now.view : before.kind === 'view' ? before.view : undefined;
  return view === undefined ? now : { kind: 'view', view: { ...view, nullable: true } };
}

function emitReturn(f: FunctionLowering, node: ts.Node, value: Value): Result {
  if (isConstant(value) && (value.value === undefined || value.value === null)) {
    f.return({ imm: 0n });
    return value.value === null ? { kind: 'null' } : { kind: 'nothing' };
  }
  if (value.kind === 'view') {
    if (value.memory === 'stack') return f.fail(node, say.subprogramResult());
    const pointer = nullablePointer(f, value);
    f.return({ reg: pointer });
    return { kind: 'view', view: { ...value, base: { reg: pointer }, offset: 0 } };
  }
  const operand = scalarOperand(f, node, value);
  const { range } = f.boundsOf(value as ScalarValue);
  f.return(operand);
  return { kind: 'scalar', type: isScalar(value) ? value.kind : constantKind(f, node, value), range };
}

function constantKind(f: FunctionLowering, node: ts.Node, value: Value): ScalarKind {
  if (isConstant(value) && typeof value.value === 'boolean') return 'boolean';
  if (isConstant(value) && typeof value.value === 'bigint') return 'bigint';
  return orderOf(f.unit, f.unit.checker.getTypeAtLocation(node)) ?? 'number';
}

function resultValue(f: FunctionLowering, result: Result): Value {
  if (result.kind === 'nothing') return UNDEFINED;
  if (result.kind === 'null') return NULL;
  if (result.kind === 'scalar') return f.scalar(result.type, unseen(result.range));
  const reg = f.newRegister();
  if (result.view.memory === 'packet' || result.view.memory === 'any') f.packetBases.add(reg);
  f.setFresh(reg);
  return { ...result.view, base: { reg }, offset: 0, nullable: true };
}
