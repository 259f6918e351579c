/**
 * What a loop body shares with the function around it.
 *
 * The kernel hands the body one pointer. The function around puts all that the body mentions into one stack slot, 8 bytes
 * each, in the order it is first mentioned; the body loads what never changes on entry, and reaches what it assigns through
 * the pointer each time (`cell`). Afterwards the function around reads the cells back.
 */
import type ts from 'typescript';
import { SilentError, say } from '../diagnostics.ts';
import type { Operand, Register } from '../ir.ts';
import { checkVariable, learnView, nullablePointer } from './assignments.ts';
import type { Binding, VariableType } from './frame.ts';
import type { FunctionLowering } from './function.ts';
import { scalarOperand } from './operand.ts';
import { BOOLEAN, type Bounds, type Range, SCALAR_RANGES, unseen } from './range.ts';
import { describe, isConstant, isNull, isScalar, type Location, type Value } from './value.ts';
import { addressOf } from './views.ts';

type Cell = Extract<Binding, { kind: 'cell' }>;
type Variable = Extract<Binding, { kind: 'variable' }>;

export interface Capture {
  /** In the function around. */
  readonly outer: Binding;
  /** In the body. */
  readonly inner: Binding;
  readonly offset: number;
  readonly node: ts.Node;
}

/** The captures of one loop body. */
export class Captures {
  readonly pointer: Register;
  readonly list: Capture[] = [];
  constructor(pointer: Register) {
    this.pointer = pointer;
  }
}

/** `binding` of an enclosing function as `f` sees it. */
export function capture(f: FunctionLowering, node: ts.Node, binding: Binding, owner: FunctionLowering): Binding {
  const { parent, captures } = f;
  if (parent === undefined || captures === undefined) return f.fail(node, say.callbackFunction());
  const outer = parent === owner ? binding : capture(parent, node, binding, owner);
  if (outer.kind === 'value' && (isConstant(outer.value) || outer.value.kind === 'closure')) return outer;
  if (outer.kind === 'value' && outer.value.kind === 'poison') throw new SilentError();
  const known = captures.list.find((c) => c.outer === outer);
  if (known !== undefined) return known.inner;
  const offset = captures.list.length * 8;
  const inner = received(f, parent, captures, node, outer, offset);
  captures.list.push({ outer, inner, offset, node });
  return inner;
}

/** How the body has what was captured, with a load on entry where it never changes. */
function received(
  f: FunctionLowering,
  parent: FunctionLowering,
  captures: Captures,
  node: ts.Node,
  outer: Binding,
  offset: number,
): Binding {
  const loaded = (bounds?: Bounds): Register => {
    const reg = f.newRegister(bounds);
    f.emitPrologue({ op: 'load', dst: reg, size: 8, base: { reg: captures.pointer }, offset });
    return reg;
  };
  if (outer.kind === 'cell') return { ...outer, pointer: loaded() };
  if (outer.kind === 'variable') {
    if (outer.shared) return { kind: 'cell', name: outer.name, pointer: captures.pointer, offset, type: outer.type };
    return { kind: 'value', value: receivedVariable(f, parent, node, outer, loaded) };
  }
  const { value } = outer;
  if (isScalar(value)) {
    const { range } = parent.boundsOf(value);
    return { kind: 'value', value: { kind: value.kind, reg: loaded(unseen(range)) } };
  }
  if (value.kind === 'skb' || value.kind === 'mapPointer') return { kind: 'value', value: { ...value, reg: loaded() } };
  if (value.kind === 'view') {
    const nullable = value.nullable && !parent.isNonNull(value.base);
    return { kind: 'value', value: { ...value, nullable, ...pointerIn(f, parent, node, value, loaded()) } };
  }
  if (value.kind === 'elements')
    return { kind: 'value', value: { ...value, ...pointerIn(f, parent, node, value, loaded()) } };
  return f.fail(node, say.mutableCapture(describe(value)));
}

function receivedVariable(
  f: FunctionLowering,
  parent: FunctionLowering,
  node: ts.Node,
  { name, reg, type }: Variable,
  loaded: (bounds?: Bounds) => Register,
): Value {
  if (type.kind !== 'view') return { kind: type.kind, reg: loaded(unseen(parent.boundsOfRegister(reg).range)) };
  if (type.struct === undefined) return f.fail(node, say.unknownStruct(name));
  const memory = type.memory ?? 'any';
  const at = pointerIn(f, parent, node, { base: { reg }, offset: 0, memory }, loaded());
  return { kind: 'view', struct: type.struct, ...at, nullable: !parent.isNonNull({ reg }) };
}

/** A captured pointer is passed as an address: its constant offset is already in it, unless it may be null. */
function pointerIn(
  f: FunctionLowering,
  parent: FunctionLowering,
  node: ts.Node,
  view: Location,
  reg: Register,
): Location {
  const { base, offset, memory } = view;
  if ('slot' in base) return { base: { reg }, offset: 0, memory };
  const moved = parent.staleSince(base.reg);
  if (moved !== undefined) return f.fail(node, say.staleView(), [{ at: moved, text: 'the packet may have moved at' }]);
  if (parent.packetBases.has(base.reg)) f.packetBases.add(reg);
  return { base: { reg }, offset, memory };
}

/** What the function around puts into the context slot: pointers by their base, so that null stays 0. */
export function captureOperand(parent: FunctionLowering, { outer, node }: Capture): Operand {
  if (outer.kind === 'cell') return { reg: outer.pointer };
  if (outer.kind === 'variable') return { reg: outer.reg };
  const { value } = outer;
  if (value.kind === 'view' || value.kind === 'elements') {
    return 'slot' in value.base ? addressOf(parent, value) : { reg: value.base.reg };
  }
  if (value.kind === 'skb' || value.kind === 'mapPointer') return { reg: value.reg };
  return scalarOperand(parent, node, value);
}

const CELL_RANGES: Readonly<Record<'bigint' | 'boolean' | 'be16' | 'be32', Range>> = {
  bigint: SCALAR_RANGES.u64,
  boolean: BOOLEAN,
  be16: SCALAR_RANGES.be16,
  be32: SCALAR_RANGES.be32,
};

export function cellRange(type: Exclude<VariableType, { kind: 'view' }>): Range {
  return type.kind === 'number' ? type.range : CELL_RANGES[type.kind];
}

/** What was read is good until the next assignment, and so is what tests have shown of it. */
export function loadCell(f: FunctionLowering, node: ts.Node, cell: Cell): Value {
  const { name, pointer, offset, type } = cell;
  // Nobody tells whether what lies in the slot was made before the packet moved.
  if (type.kind === 'view' && type.memory === 'packet' && f.moves) return f.fail(node, say.staleView());
  f.settle();
  let reg = f.flow?.loaded.get(cell);
  if (reg === undefined) {
    reg = f.newRegister(type.kind === 'view' ? undefined : unseen(cellRange(type)), name);
    f.emit({ op: 'load', dst: reg, size: 8, base: { reg: pointer }, offset });
    f.flow?.loaded.set(cell, reg);
    if (type.kind === 'view' && type.memory === 'packet') f.packetBases.add(reg);
  }
  if (type.kind !== 'view') return { kind: type.kind, reg };
  const { struct, memory = 'any' } = type;
  if (struct === undefined) return f.fail(node, say.unknownStruct(name));
  return { kind: 'view', struct, base: { reg }, offset: 0, memory, nullable: true };
}

export function storeCell(f: FunctionLowering, node: ts.Node, cell: Cell, value: Value): void {
  const { name, pointer, offset, type } = cell;
  f.flow?.loaded.delete(cell);
  if (type.kind === 'view') {
    if (value.kind !== 'view' && !isNull(value)) f.fail(node, say.mutableCapture(name));
    if (value.kind === 'view') learnView(f, node, type, value);
    const src = value.kind === 'view' ? { reg: nullablePointer(f, value) } : { imm: 0n };
    f.emit({ op: 'store', size: 8, base: { reg: pointer }, offset, src });
    return;
  }
  checkVariable(f, node, name, type, value);
  const src = scalarOperand(f, node, value);
  f.emit({ op: 'store', size: 8, base: { reg: pointer }, offset, src });
  // The next reader need not load what is at hand.
  if ('reg' in src && !f.mutable.has(src.reg)) f.flow?.loaded.set(cell, src.reg);
}
