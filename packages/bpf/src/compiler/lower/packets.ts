/**
 * The packet: fields of its context and bounds-checked headers.
 *
 * `data` and `data_end` are read from the context for each header, since helpers move them. The checked pointer is kept as
 * it was checked: a view is (base, constant offset), and the offset goes into each load.
 */
import type ts from 'typescript';
import { SKB_FIELDS } from '../../language/skb.ts';
import { say } from '../diagnostics.ts';
import type { Register } from '../ir.ts';
import type { FunctionLowering } from './function.ts';
import { fit, inRegister, numeric, operandOf } from './operand.ts';
import { contains, range, seen, showRange, U16, U32 } from './range.ts';
import { describe, isConstant, isStruct, type SkbValue, type Value } from './value.ts';
import { provable, type StoreNodes } from './views.ts';

/** Of `struct __sk_buff`. */
const DATA = 76;
const DATA_END = 80;
const MOST_OFFSET = 0x7fffn;

interface SkbField {
  readonly offset: number;
  readonly writable: boolean;
  readonly be16?: boolean;
}

const fieldNamed = (name: string): SkbField | undefined =>
  Object.hasOwn(SKB_FIELDS, name) ? (SKB_FIELDS as Record<string, SkbField>)[name] : undefined;

export function skbField(f: FunctionLowering, node: ts.Node, skb: SkbValue, name: string): Value {
  const field = fieldNamed(name) ?? f.fail(node, say.notMember(name, 'the packet'));
  const kind = field.be16 === true ? 'be16' : 'number';
  const value = f.scalar(kind, kind === 'be16' ? { range: U16, known: U32 } : seen(U32));
  f.emit({ op: 'load', dst: value.reg, size: 4, base: { reg: skb.reg }, offset: field.offset });
  return value;
}

/** Stores to the context come from registers: immediates are refused before Linux 6.4. */
export function assignSkbField(
  f: FunctionLowering,
  nodes: StoreNodes,
  skb: SkbValue,
  name: string,
  value: Value,
): void {
  const field = fieldNamed(name) ?? f.fail(nodes.target, say.notMember(name, 'the packet'));
  if (!field.writable) f.fail(nodes.target, say.readOnlyField(name));
  const src = inRegister(f, operandOf(fit(f, nodes.value, `skb.${name}`, 'u32', value)));
  f.emit({ op: 'store', size: 4, base: { reg: skb.reg }, offset: field.offset, src: { reg: src } });
}

/** `skb.header(S, offset)`: the current flow goes on where the header is there, the other waits for its null test. */
export function headerView(f: FunctionLowering, node: ts.CallExpression, skb: SkbValue, args: readonly Value[]): Value {
  const [type, at] = args;
  if (type === undefined || at === undefined || !isConstant(type) || !isStruct(type.value)) {
    return f.fail(node, say.notMember('header', describe(type ?? skb)));
  }
  const struct = type.value;
  const number = numeric(f, node.arguments[1]!, at);
  const bounds = f.boundsOf(number);
  if (!contains(range(0n, MOST_OFFSET), bounds.range)) {
    return f.fail(node.arguments[1]!, say.headerOffset(showRange(bounds.range)));
  }
  const offset = provable(f, number, MOST_OFFSET);
  const data = packetPointer(f, skb, DATA);
  const end = packetPointer(f, skb, DATA_END);
  const fixed = offset.kind === 'constant' ? Number(offset.value) : 0;
  let base = data;
  if (offset.kind !== 'constant') {
    base = f.newRegister();
    f.emit({ op: 'binary', kind: 'add', width: 64, dst: base, a: { reg: data }, b: operandOf(offset) });
  }
  const beyond = f.newRegister();
  f.emit({
    op: 'binary',
    kind: 'add',
    width: 64,
    dst: beyond,
    a: { reg: base },
    b: { imm: BigInt(fixed + struct.size) },
  });
  f.packetBases.add(base);
  const branches = f.branch('gt', 64, { reg: beyond }, { reg: end });
  if (branches !== undefined) {
    f.resume(branches.no);
    f.setFresh(base);
    f.setPending(base, branches.yes);
  }
  return { kind: 'view', struct, base: { reg: base }, offset: fixed, memory: 'packet', nullable: true };
}

function packetPointer(f: FunctionLowering, skb: SkbValue, offset: number): Register {
  const dst = f.newRegister();
  f.emit({ op: 'load', dst, size: 4, base: { reg: skb.reg }, offset });
  return dst;
}
