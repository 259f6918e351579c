/**
 * Where branches meet with a value each: the results of `?:`, `??` and of inlined calls with several returns.
 *
 * Nullable views are kept apart: all flows with a null meet in one, all flows with a view in another, and the two stay apart
 * until a null test takes them (see `FunctionLowering`), so a test right after an inlined call costs nothing.
 */
import type ts from 'typescript';
import { SilentError, say } from '../diagnostics.ts';
import { nullTest } from './conditions.ts';
import type { Flow } from './flow.ts';
import type { FunctionLowering } from './function.ts';
import { scalarOperand } from './operand.ts';
import { type Bounds, unionBounds } from './range.ts';
import { orderOf } from './types.ts';
import {
  isConstant,
  isNull,
  isScalar,
  type Memory,
  NULL,
  type ScalarKind,
  type Value,
  type ViewValue,
} from './value.ts';

export interface Outcome {
  readonly flow: Flow;
  readonly value: Value;
}

/** Ends the current flow with `value`: one outcome, or two where a null test of the value is still open. */
export function takeOutcomes(f: FunctionLowering, value: Value): Outcome[] {
  if (value.kind === 'view' && 'reg' in value.base) {
    const nullFlow = f.takePending(value.base.reg);
    if (nullFlow !== undefined) {
      const flow = f.takeFlow();
      const view: Outcome[] = flow === undefined ? [] : [{ flow, value: { ...value, nullable: false } }];
      return [...view, { flow: nullFlow, value: NULL }];
    }
  }
  const flow = f.takeFlow();
  return flow === undefined ? [] : [{ flow, value }];
}

/** Goes on where any of the outcomes did; gives the value that all of them have there. */
export function joinValues(f: FunctionLowering, node: ts.Node, outcomes: readonly Outcome[]): Value {
  const [first, ...rest] = outcomes;
  if (first === undefined) {
    f.resume(undefined);
    return { kind: 'poison' };
  }
  if (rest.length === 0) {
    f.resume(first.flow);
    return first.value;
  }
  const values = outcomes.map(({ value }) => value);
  if (values.some(({ kind }) => kind === 'poison')) throw new SilentError();
  if (values.every((value) => isSame(value, first.value))) {
    f.resume(f.join(outcomes.map(({ flow }) => flow)));
    return first.value;
  }
  if (values.some(({ kind }) => kind === 'view')) return joinViews(f, node, outcomes);
  return joinScalars(f, node, outcomes);
}

function isSame(a: Value, b: Value): boolean {
  if (isConstant(a) && isConstant(b)) return Object.is(a.value, b.value);
  if (isScalar(a) && isScalar(b)) return a.kind === b.kind && a.reg === b.reg;
  return a.kind === 'skb' && b.kind === 'skb' && a.reg === b.reg;
}

function joinScalars(f: FunctionLowering, node: ts.Node, outcomes: readonly Outcome[]): Value {
  const kind = scalarKind(f, node, outcomes);
  const reg = f.newRegister();
  const flows: Flow[] = [];
  let bounds: Bounds | undefined;
  for (const { flow, value } of outcomes) {
    f.resume(flow);
    const operand = scalarOperand(f, node, value);
    const one = f.boundsOf(value as never);
    bounds = bounds === undefined ? one : unionBounds(bounds, one);
    if ('imm' in operand) f.emit({ op: 'const', dst: reg, value: operand.imm });
    else f.emit({ op: 'move', dst: reg, src: operand.reg });
    flows.push(f.takeFlow()!);
  }
  f.resume(f.join(flows));
  f.setOwnBounds(reg, bounds!);
  return { kind, reg };
}

function scalarKind(f: FunctionLowering, node: ts.Node, outcomes: readonly Outcome[]): ScalarKind {
  const scalar = outcomes.map(({ value }) => value).find(isScalar);
  if (scalar !== undefined) return scalar.kind;
  const types = new Set(outcomes.map(({ value }) => (isConstant(value) ? typeof value.value : value.kind)));
  const [type] = [...types];
  if (types.size === 1 && type === 'boolean') return 'boolean';
  if (types.size === 1 && type === 'bigint') return 'bigint';
  if (types.size === 1 && type === 'number') return orderOf(f.unit, f.unit.checker.getTypeAtLocation(node)) ?? 'number';
  return f.fail(node, say.buildTimeChoice());
}

function joinViews(f: FunctionLowering, node: ts.Node, outcomes: readonly Outcome[]): Value {
  const nulls: Flow[] = [];
  const views: { flow: Flow; value: ViewValue }[] = [];
  for (const { flow, value } of outcomes) {
    if (isNull(value)) nulls.push(flow);
    else if (value.kind !== 'view') return f.fail(node, say.branchOnView());
    else {
      f.resume(flow);
      const { yes, no } = nullTest(f, value);
      if (yes !== undefined) nulls.push(yes);
      if (no !== undefined) views.push({ flow: no, value });
    }
  }
  const first = views[0]?.value;
  if (first === undefined) {
    f.resume(f.join(nulls));
    return NULL;
  }
  const other = views.find(({ value }) => value.struct !== first.struct);
  if (other !== undefined) return f.fail(node, say.differentStructs(other.value.struct.name, first.struct.name));
  const memory: Memory = views.every(({ value }) => value.memory === first.memory) ? first.memory : 'any';
  const offset = views.every(({ value }) => value.offset === first.offset && 'reg' in value.base) ? first.offset : 0;
  const reg = f.newRegister();
  const flows = views.map(({ flow, value }) =>
    f.within(flow, () => {
      if ('slot' in value.base) f.emit({ op: 'slotAddress', dst: reg, slot: value.base.slot, offset: value.offset });
      else if (value.offset === offset) f.emit({ op: 'move', dst: reg, src: value.base.reg });
      else
        f.emit({
          op: 'binary',
          kind: 'add',
          width: 64,
          dst: reg,
          a: { reg: value.base.reg },
          b: { imm: BigInt(value.offset - offset) },
        });
      if ('reg' in value.base) f.inherit(reg, value.base.reg);
      f.setNonNull(reg);
    }),
  );
  f.resume(f.join(flows));
  const nullFlow = f.join(nulls);
  if (nullFlow !== undefined) f.setPending(reg, nullFlow);
  return { kind: 'view', struct: first.struct, base: { reg }, offset, memory, nullable: nullFlow !== undefined };
}
