/**
 * Functions that the kernel calls back: bodies of `loop()`, and timer callbacks. Each becomes an IR function of its own.
 */
import type ts from 'typescript';
import { MAP_HELPERS, MAX_ROUNDS } from '../../language/helper.ts';
import { CompileError, diagnosticAt, placeOf, SilentError, say } from '../diagnostics.ts';
import { Captures, captureOperand } from './captures.ts';
import { bindParameters } from './declare.ts';
import { lower } from './expressions.ts';
import type { Frame } from './frame.ts';
import { FunctionLowering } from './function.ts';
import { fit, type Numeric, operandOf } from './operand.ts';
import { BOOLEAN, contains, range, showRange, U32, UNKNOWN, unseen } from './range.ts';
import { lowerBody } from './statements.ts';
import { uniqueName } from './unit.ts';
import { isConstant, UNDEFINED, type Value } from './value.ts';

/** `loop()` in Node stops there too. */
const MOST_ROUNDS = BigInt(MAX_ROUNDS);

interface CallbackFunction {
  readonly node: ts.FunctionLikeDeclaration;
  readonly lexical: Frame | undefined;
  readonly scope: Frame['scope'];
}

/** `loop(count, (i) => ...)`. */
export function lowerLoop(f: FunctionLowering, node: ts.CallExpression): Value {
  const [countNode, bodyNode] = node.arguments;
  const count = fit(f, countNode!, 'the number of rounds', 'u32', lower(f, countNode!));
  const body = callbackOf(f, bodyNode!, lower(f, bodyNode!));
  f.settle();
  if (!f.isReachable) return UNDEFINED;
  const most = f.boundsOf(count).range.hi;
  const child = new FunctionLowering(f.program, uniqueName(f.program, `${f.name}_loop`), 'callback', body.node, f);
  const index = child.newRegister(unseen(UNKNOWN), 'index');
  const captures = new Captures(child.newRegister(undefined, 'captured'));
  child.params.push(index, captures.pointer);
  child.captures = captures;
  // The verifier takes the index for any 64 bits.
  const counter = child.newRegister({ range: range(0n, most === 0n ? 0n : most - 1n), known: U32 });
  child.emit({ op: 'extend', dst: counter, src: index, bits: 32, signed: false });
  lowerCallback(child, f, body, node, [{ kind: 'number', reg: counter }], (value, at) => {
    const result = child.boundsOf(value).range;
    if (!contains(BOOLEAN, result)) child.fail(at, say.loopResult(showRange(result)));
    child.return(operandOf(value));
  });
  refuseStaleCaptures(child, captures);
  callLoop(f, child, captures, count, most);
  if (child.moves) f.packetMoved();
  return UNDEFINED;
}

/** Fills the context slot, calls the helper, and reads back what the body may have assigned. */
function callLoop(
  f: FunctionLowering,
  child: FunctionLowering,
  captures: Captures,
  count: Numeric,
  most: bigint,
): void {
  const rounds = most > MOST_ROUNDS ? atMost(f, count, MOST_ROUNDS) : count;
  const { list } = captures;
  const operands = list.map((one) => captureOperand(f, one));
  const slot = list.length === 0 ? undefined : f.newScratch(list.length * 8);
  list.forEach(({ offset }, index) => {
    f.emit({ op: 'store', size: 8, base: { slot: slot! }, offset, src: operands[index]! });
  });
  const context = slot === undefined ? ({ imm: 0n } as const) : { reg: f.newRegister() };
  if (slot !== undefined && 'reg' in context) f.emit({ op: 'slotAddress', dst: context.reg, slot, offset: 0 });
  const callback = f.newRegister();
  f.emit({ op: 'functionAddress', dst: callback, name: child.name });
  const result = f.newRegister();
  f.emit({
    op: 'call',
    helper: MAP_HELPERS.loop,
    name: 'loop',
    dst: result,
    args: [operandOf(rounds), { reg: callback }, context, { imm: 0n }],
  });
  f.flow?.loaded.clear();
  for (const { outer, inner, offset } of list) {
    if (outer.kind !== 'variable' || inner.kind !== 'cell') continue;
    f.emit({ op: 'load', dst: outer.reg, size: 8, base: { slot: slot! }, offset });
    f.setBounds(outer.reg, f.ownBounds(outer.reg));
    f.setMaybeNull(outer.reg);
  }
}

function atMost(f: FunctionLowering, count: Numeric, most: bigint): Numeric {
  if (isConstant(count)) return { kind: 'constant', value: Number(most) };
  const clamped = f.scalar('number', unseen(range(0n, most)));
  f.emit({ op: 'move', dst: clamped.reg, src: (count as { reg: number }).reg });
  const branches = f.branch('gt', 64, { reg: clamped.reg }, { imm: most });
  const beyond = f.within(branches?.yes, () => f.emit({ op: 'const', dst: clamped.reg, value: most }));
  f.resume(f.join([beyond, branches?.no]));
  return clamped;
}

/** A later round would use a packet pointer from before an earlier round's move. */
function refuseStaleCaptures(child: FunctionLowering, captures: Captures): void {
  if (!child.moves) return;
  for (const { inner, node } of captures.list) {
    if (inner.kind !== 'value' || !('base' in inner.value) || !('reg' in inner.value.base)) continue;
    if (child.packetBases.has(inner.value.base.reg)) child.unit.report(diagnosticAt(placeOf(node), say.staleView()));
  }
}

/** The address of a timer callback `(map, key, value) => 0`. */
export function timerCallback(
  f: FunctionLowering,
  node: ts.Node,
  value: Value,
  timer: Value | undefined,
): { reg: number } {
  if (timer?.kind !== 'timer' || timer.owner.memory !== 'map') return f.fail(node, say.timerOwner());
  const callback = callbackOf(f, node, value);
  if (callback.lexical !== undefined) return f.fail(node, say.callbackFunction());
  let name = f.program.callbacks.get(callback.node);
  if (name === undefined) {
    const named = callback.node.name?.getText() ?? 'timer';
    name = uniqueName(f.program, named);
    f.program.callbacks.set(callback.node, name);
    const child = new FunctionLowering(f.program, name, 'callback', callback.node);
    const [map, key, element] = [
      child.newRegister(undefined, 'map'),
      child.newRegister(undefined, 'key'),
      child.newRegister(undefined, 'value'),
    ];
    child.params.push(map, key, element);
    child.setNonNull(element);
    const number = child.scalar('number', { range: U32, known: U32 });
    child.emit({ op: 'load', dst: number.reg, size: 4, base: { reg: key }, offset: 0 });
    const { struct } = timer.owner;
    const values: Value[] = [
      { kind: 'mapPointer', reg: map },
      number,
      { kind: 'view', struct, base: { reg: element }, offset: 0, memory: 'map', nullable: false },
    ];
    lowerCallback(child, f, callback, node, values, (result, at) => {
      const bounds = child.boundsOf(result).range;
      if (bounds.lo !== 0n || bounds.hi !== 0n) child.fail(at, say.timerResult());
      child.return({ imm: 0n });
    });
  }
  const dst = f.newRegister();
  f.emit({ op: 'functionAddress', dst, name });
  return { reg: dst };
}

function callbackOf(f: FunctionLowering, node: ts.Node, value: Value): CallbackFunction {
  if (value.kind === 'poison') throw new SilentError();
  if (value.kind === 'closure') return { node: value.node, lexical: value.frame, scope: undefined };
  const known = isConstant(value) ? f.unit.buildTime.functionOf(value.value) : undefined;
  if (known === undefined) return f.fail(node, say.callbackFunction());
  return { node: known.node, lexical: undefined, scope: known.scope };
}

function lowerCallback(
  child: FunctionLowering,
  parent: FunctionLowering,
  callback: CallbackFunction,
  callSite: ts.Node,
  values: readonly Value[],
  onResult: (value: Numeric, at: ts.Node) => void,
): void {
  for (let frame: Frame | undefined = parent.frame; frame !== undefined; frame = frame.caller) {
    if (frame.node === callback.node)
      throw new CompileError(diagnosticAt(placeOf(callSite), say.recursion('a callback')));
  }
  child.frame = {
    owner: child,
    node: callback.node,
    lexical: callback.lexical,
    caller: parent.frame,
    callSite,
    scope: callback.scope,
    bindings: new Map(),
    thisValue: undefined,
    jumps: [],
    onReturn: (expression, statement) => {
      const value = expression === undefined ? UNDEFINED : lower(child, expression);
      if (isConstant(value) && value.value === undefined) return onResult({ kind: 'constant', value: 0 }, statement);
      onResult(fit(child, expression ?? statement, 'the result', 'i32', value), expression ?? statement);
    },
  };
  bindParameters(child, child.frame, values, callSite);
  lowerBody(child, child.frame);
  if (child.isReachable) child.return({ imm: 0n });
  if (child.unit.diagnostics.length === 0) child.program.functions.push(child.finish());
}
