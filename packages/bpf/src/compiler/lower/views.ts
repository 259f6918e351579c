/**
 * Views: reading and writing the fields of a struct wherever its bytes are, and what whole structs can do.
 */
import ts from 'typescript';
import type { Scalar } from '../../language/scalar.ts';
import type { ArrayField, Field, Fields, Layout, Struct } from '../../language/struct.ts';
import { SilentError, say } from '../diagnostics.ts';
import type { Operand, Register } from '../ir.ts';
import { binary, powerOfTwo } from './arithmetic.ts';
import { type Branches, compareNumbers } from './conditions.ts';
import { lower } from './expressions.ts';
import type { Flow } from './flow.ts';
import type { FunctionLowering } from './function.ts';
import { fit, inRegister, type Numeric, numeric, operandOf } from './operand.ts';
import { boundsOf, contains, exactly, range, SCALAR_RANGES, seen, showRange } from './range.ts';
import {
  describe,
  isConstant,
  isStruct,
  kindOfScalar,
  type Location,
  type ScalarValue,
  type Value,
  type ViewValue,
} from './value.ts';

/** Refuses views that may be null or stale here. Every access goes through it. */
export function usable<V extends Location>(
  f: FunctionLowering,
  node: ts.Node,
  view: V & { readonly nullable?: boolean },
): V {
  if ('slot' in view.base) return view;
  const { reg } = view.base;
  if (view.nullable === true) {
    if (f.isPending(reg)) f.settle();
    if (!f.isNonNull(view.base)) return f.fail(node, say.maybeNull());
  }
  f.noteUse(reg, node);
  const moved = f.staleSince(reg);
  if (moved !== undefined) return f.fail(node, say.staleView(), [{ at: moved, text: 'the packet may have moved at' }]);
  return view;
}

export function fieldOf(f: FunctionLowering, node: ts.Node, view: ViewValue, name: string): Value {
  const layout = layoutOf(f, node, view.struct, name);
  const at = within(usable(f, node, view), layout.offset);
  const { field } = layout;
  switch (field.kind) {
    case 'scalar':
      return load(f, field, at);
    case 'struct':
      return { kind: 'view', struct: field, nullable: false, ...at };
    case 'array':
      return { kind: 'elements', field, ...at };
    case 'opaque':
      if (field.name !== 'bpf_timer') return f.fail(node, say.notMember(name, describe(view)));
      return { kind: 'timer', owner: view, ...at };
  }
}

function layoutOf(f: FunctionLowering, node: ts.Node, struct: Struct<Fields>, name: string): Layout {
  const layout = struct.layout.find((l) => l.name === name);
  return layout ?? f.fail(node, say.notMember(name, `a view of "${struct.name}"`));
}

const within = ({ base, offset, memory }: Location, by: number): Location => ({ base, offset: offset + by, memory });

export function load(f: FunctionLowering, { scalar, size, signed }: Scalar<unknown>, at: Location): ScalarValue {
  const value = f.scalar(kindOfScalar(scalar), seen(SCALAR_RANGES[scalar]));
  f.emit({ op: 'load', dst: value.reg, size, ...(signed ? { signed } : {}), base: at.base, offset: at.offset });
  return value;
}

/** What an error points at: about the place, or about the value. */
export interface StoreNodes {
  readonly target: ts.Node;
  readonly value: ts.Node;
}

export function storeField(f: FunctionLowering, nodes: StoreNodes, view: ViewValue, name: string, value: Value): void {
  const { field, offset } = layoutOf(f, nodes.target, view.struct, name);
  if (field.kind !== 'scalar') f.fail(nodes.target, say.readOnlyField(name));
  const fitting = fit(f, nodes.value, `field "${name}"`, field.scalar, value);
  store(f, field.size, within(usable(f, nodes.target, view), offset), operandOf(fitting));
}

function store(f: FunctionLowering, size: 1 | 2 | 4 | 8, { base, offset }: Location, src: Operand): void {
  f.emit({ op: 'store', size, base, offset, src });
}

/** The address of a location in a register, for helpers. */
export function addressOf(f: FunctionLowering, { base, offset }: Location): Operand {
  if ('slot' in base) {
    const dst = f.newRegister();
    f.emit({ op: 'slotAddress', dst, slot: base.slot, offset });
    return { reg: dst };
  }
  if (offset === 0) return { reg: base.reg };
  const dst = f.newRegister();
  f.emit({ op: 'binary', kind: 'add', width: 64, dst, a: { reg: base.reg }, b: { imm: BigInt(offset) } });
  return { reg: dst };
}

// Arrays -------------------------------------------------------------------------------------------------------------

export interface Elements extends Location {
  readonly field: ArrayField<Field>;
}

/** `a.get(i)` and `a.at(i)`. */
export function elementOf(f: FunctionLowering, node: ts.Node, elements: Elements, index: Value): Value {
  const { element } = elements.field;
  const at = locate(f, node, elements, index);
  if (element.kind === 'scalar') return load(f, element, at);
  if (element.kind === 'struct') return { kind: 'view', struct: element, nullable: false, ...at };
  if (element.kind === 'array') return { kind: 'elements', field: element, ...at };
  return f.fail(node, say.notMember('at', 'an array of timers'));
}

/** `a.set(i, value)`. */
export function storeElement(f: FunctionLowering, node: ts.Node, elements: Elements, index: Value, value: Value): void {
  const { element } = elements.field;
  if (element.kind !== 'scalar') f.fail(node, say.notMember('set', 'an array of structs'));
  const fitting = fit(f, node, 'an element', element.scalar, value);
  store(f, element.size, locate(f, node, elements, index), operandOf(fitting));
}

function locate(f: FunctionLowering, node: ts.Node, elements: Elements, index: Value): Location {
  const { element, length } = elements.field;
  const number = numeric(f, node, index);
  const bounds = f.boundsOf(number);
  if (!contains(range(0n, BigInt(length - 1)), bounds.range)) {
    return f.fail(node, say.elementIndex(showRange(bounds.range), length));
  }
  usable(f, node, elements);
  if (number.kind === 'constant') return within(elements, Number(number.value) * element.size);
  if (elements.memory === 'packet') return f.fail(node, say.packetElement());
  // The verifier must see the bound as well as we do.
  const bounded = provable(f, number, BigInt(length - 1));
  const size = BigInt(element.size);
  const power = powerOfTwo(size);
  const scaled =
    power === undefined
      ? binary(f, 'mul', 64, operandOf(bounded), { imm: size }, boundsOf('*', f.boundsOf(bounded), seen(exactly(size))))
      : power === 0n
        ? bounded
        : binary(
            f,
            'shl',
            64,
            operandOf(bounded),
            { imm: power },
            boundsOf('<<', f.boundsOf(bounded), seen(exactly(power))),
          );
  const base: Register =
    'reg' in elements.base ? elements.base.reg : inRegister(f, addressOf(f, { ...elements, offset: 0 }));
  const reg = f.newRegister();
  f.emit({ op: 'binary', kind: 'add', width: 64, dst: reg, a: { reg: base }, b: operandOf(scaled) });
  f.inherit(reg, base);
  return { base: { reg }, offset: elements.offset, memory: elements.memory };
}

/**
 * The same number, which the verifier knows to be within 0..most. Where it cannot know (after a division, from a helper,
 * in a bpf_loop) a test that never fails tells it.
 */
export function provable(f: FunctionLowering, number: Numeric, most: bigint): Numeric {
  if (number.kind === 'constant') return number;
  f.settle();
  const bounds = f.boundsOf(number);
  const limit = range(0n, most);
  if (contains(limit, bounds.known)) return number;
  const proven = f.scalar(number.kind, { range: bounds.range, known: limit });
  f.emit({ op: 'move', dst: proven.reg, src: number.reg });
  const branches = f.branch('gt', 64, { reg: proven.reg }, { imm: most });
  if (branches === undefined) return number;
  const beyond = f.within(branches.yes, () => f.emit({ op: 'const', dst: proven.reg, value: 0n }));
  f.resume(f.join([beyond, branches.no]));
  return proven;
}

// Whole structs ------------------------------------------------------------------------------------------------------

/** `stack(S)` and `stack(S, { ... })`: a zeroed slot, but for the bytes that the initialiser stores anyway. */
export function stackView(f: FunctionLowering, node: ts.CallExpression): ViewValue {
  const struct = lower(f, node.arguments[0]!);
  if (struct.kind !== 'constant' || !isStruct(struct.value))
    return f.fail(node, say.notCallable('stack() without a struct'));
  const initial = initialValues(f, node.arguments[1]);
  const type = struct.value;
  const slot = f.newSlot(type.size, node);
  const view: ViewValue = { kind: 'view', struct: type, base: { slot }, offset: 0, memory: 'stack', nullable: false };
  const stored = new Uint8Array(Math.ceil(type.size / 8) * 8);
  for (const { name, node: at } of initial) {
    const { field, offset } = layoutOf(f, at, type, name);
    if (field.kind !== 'scalar') return f.fail(at, say.zeroOnlyInit());
    stored.fill(1, offset, offset + field.size);
  }
  zero(f, view, stored);
  for (const { name, value, node: at } of initial) storeField(f, { target: at, value: at }, view, name, value);
  return view;
}

interface InitialValue {
  readonly name: string;
  readonly value: Value;
  readonly node: ts.Node;
}

function initialValues(f: FunctionLowering, node: ts.Expression | undefined): InitialValue[] {
  if (node === undefined) return [];
  if (!ts.isObjectLiteralExpression(node)) {
    const value = lower(f, node);
    if (!isConstant(value) || typeof value.value !== 'object' || value.value === null)
      return f.fail(node, say.objectLiteral());
    return Object.entries(value.value).map(([name, v]) => ({ name, value: { kind: 'constant', value: v }, node }));
  }
  return node.properties.map((property) => {
    if (ts.isShorthandPropertyAssignment(property)) {
      return { name: property.name.text, value: f.stable(lower(f, property.name)), node: property };
    }
    if (!ts.isPropertyAssignment(property)) return f.fail(property, say.unsupportedSyntax('this in an initialiser'));
    const name = ts.isComputedPropertyName(property.name) ? f.fail(property, say.fieldName()) : property.name.text;
    return { name, value: f.stable(lower(f, property.initializer)), node: property.initializer };
  });
}

/** Zeros in the widest stores; words that `stored` covers are left out. */
function zero(f: FunctionLowering, view: Location, stored: Uint8Array): void {
  const covered = (from: number, size: number): boolean =>
    stored.subarray(from, from + size).every((byte) => byte === 1);
  for (let at = 0; at < stored.length; at += 8) {
    if (covered(at, 8)) continue;
    if (covered(at, 4)) store(f, 4, within(view, at + 4), { imm: 0n });
    else if (covered(at + 4, 4)) store(f, 4, within(view, at), { imm: 0n });
    else store(f, 8, within(view, at), { imm: 0n });
  }
}

/** `clear(view)`. */
export function clear(f: FunctionLowering, node: ts.Node, view: ViewValue): void {
  usable(f, node, view);
  for (const { at, size } of chunks(view.struct.size, [view])) store(f, size, within(view, at), { imm: 0n });
}

/** `assign(to, from)`: the bytes of a struct in the widest loads and stores that both sides allow. */
export function assign(f: FunctionLowering, node: ts.Node, to: ViewValue, from: ViewValue): void {
  copy(f, node, usable(f, node, to), usable(f, node, from), sameStruct(f, node, to, from).size);
}

export function copy(f: FunctionLowering, node: ts.Node, to: ViewValue, from: ViewValue, bytes: number): void {
  if (bytes > 512) f.fail(node, say.copySize(bytes));
  for (const { at, size } of chunks(bytes, [to, from])) {
    const dst = f.newRegister();
    f.emit({ op: 'load', dst, size, base: from.base, offset: from.offset + at });
    store(f, size, within(to, at), { reg: dst });
  }
}

/** `same(a, b)`, leaving at the first difference. */
export function same(f: FunctionLowering, node: ts.Node, a: ViewValue, b: ViewValue): Branches {
  usable(f, node, a);
  usable(f, node, b);
  const differ: (Flow | undefined)[] = [];
  for (const { at, size } of chunks(sameStruct(f, node, a, b).size, [a, b])) {
    const word = size === 8 ? SCALAR_RANGES.u64 : range(0n, (1n << BigInt(size * 8)) - 1n);
    const [left, right] = [a, b].map((side) => {
      const value = f.scalar('bigint', seen(word));
      f.emit({ op: 'load', dst: value.reg, size, base: side.base, offset: side.offset + at });
      return value;
    }) as [ScalarValue, ScalarValue];
    const { yes, no } = compareNumbers(f, node, '===', left, right);
    differ.push(no);
    f.resume(yes);
  }
  return { yes: f.takeFlow(), no: f.join(differ) };
}

function sameStruct(f: FunctionLowering, node: ts.Node, a: ViewValue, b: ViewValue): Struct<Fields> {
  if (a.struct.size !== b.struct.size) return f.fail(node, say.differentStructs(a.struct.name, b.struct.name));
  return a.struct;
}

interface Chunk {
  readonly at: number;
  readonly size: 1 | 2 | 4 | 8;
}

/**
 * Pieces of `bytes`. The stack and the context want natural alignment; packets and map values may be read at any address on
 * the machines we run on, but 8 bytes at a time only where the offset says that they are aligned.
 */
function chunks(bytes: number, sides: readonly ViewValue[]): Chunk[] {
  const result: Chunk[] = [];
  for (let at = 0; at < bytes; ) {
    const size = ([8, 4, 2, 1] as const).find((n) => n <= bytes - at && sides.every((side) => allows(side, at, n)))!;
    result.push({ at, size });
    at += size;
  }
  return result;
}

function allows(side: ViewValue, at: number, size: number): boolean {
  const aligned = (side.offset + at) % size === 0;
  if (side.memory === 'packet' || side.memory === 'map') return aligned || size < 8;
  // Of a pointer into the stack only the struct's own alignment is known.
  return aligned && ('slot' in side.base || side.memory === 'context' || size <= side.struct.align);
}

/** Any view; nulls and other values are refused. */
export function viewOf(f: FunctionLowering, node: ts.Node, value: Value): ViewValue {
  if (value.kind === 'view') return usable(f, node, value);
  if (value.kind === 'poison') throw new SilentError();
  return f.fail(
    node,
    isConstant(value) && value.value === null ? say.maybeNull() : say.notMember('a field', describe(value)),
  );
}
