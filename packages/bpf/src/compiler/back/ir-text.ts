/**
 * IR as text, for dumps and for messages of failing tests. Registers carry the TypeScript name they stand for.
 *
 *     b3:  from b1 b2
 *       ip.5 = add data.3, 14
 *       r6 = load2 [ip.5 + 6]
 *       if r6 ne 0 (32) goto b4 else b5
 */
import type { Base, Block, Instruction, IrFunction, Operand, Position, Register, Terminator } from '../ir.ts';
import { predecessors } from './control-flow.ts';

/** What is printed of a function: as lowering made it, or as the back end's body. */
export interface Printable {
  readonly source: Pick<IrFunction, 'name' | 'kind' | 'params' | 'slots'>;
  readonly names: ReadonlyMap<Register, string>;
  readonly blocks: readonly Block[];
}

export interface IrTextOptions {
  /** Lines to print before what comes from this place; called whenever the place changes. */
  readonly before?: (at: Position) => readonly string[];
}

export function printable(source: IrFunction): Printable {
  return { source, names: source.registerNames, blocks: source.blocks };
}

export function irText({ source, names, blocks }: Printable, options: IrTextOptions = {}): string {
  const name = nameWith(names);
  const lines = [`${source.kind} ${source.name}(${source.params.map(name).join(', ')})`];
  source.slots.forEach(({ size, align, scratch }, id) => {
    lines.push(`  s${id}: ${size} bytes, aligned to ${align}${scratch ? ', scratch' : ''}`);
  });
  const before = predecessors(blocks);
  let last: Position | undefined;
  const place = (at: Position): void => {
    if (last?.file === at.file && last.line === at.line) return;
    last = at;
    lines.push(...(options.before?.(at) ?? []));
  };
  for (const { id, instructions, end } of blocks) {
    const from = before[id]!.map((other) => `b${other}`).join(' ');
    lines.push(`b${id}:${from === '' ? '' : `  from ${from}`}`);
    for (const one of instructions) {
      place(one.at);
      lines.push(`  ${instructionText(one, name)}`);
    }
    place(end.at);
    lines.push(`  ${endText(end, name)}`);
  }
  return lines.join('\n');
}

type Name = (reg: Register) => string;

function nameWith(names: ReadonlyMap<Register, string>): Name {
  return (reg) => {
    const name = names.get(reg);
    return name === undefined ? `r${reg}` : `${name}.${reg}`;
  };
}

export function instructionText(one: Instruction, name: Name = nameWith(new Map())): string {
  const show = (operand: Operand): string => ('reg' in operand ? name(operand.reg) : constantText(operand.imm));
  const into = (dst: Register | undefined, text: string): string =>
    dst === undefined ? text : `${name(dst)} = ${text}`;
  const at = (base: Base, offset: number): string => {
    const start = 'reg' in base ? name(base.reg) : `s${base.slot}`;
    return offset === 0 ? `[${start}]` : `[${start} ${offset < 0 ? '-' : '+'} ${Math.abs(offset)}]`;
  };
  const narrow = (width: 32 | 64): string => (width === 32 ? '32' : '');
  switch (one.op) {
    case 'const':
      return into(one.dst, constantText(one.value));
    case 'move':
      return into(one.dst, name(one.src));
    case 'binary':
      return into(one.dst, `${one.kind}${narrow(one.width)} ${show(one.a)}, ${show(one.b)}`);
    case 'extend':
      return into(one.dst, `${one.signed ? 'sign' : 'zero'}${one.bits} ${name(one.src)}`);
    case 'swap':
      return into(one.dst, `swap${one.bits} ${name(one.src)}`);
    case 'load':
      return into(one.dst, `load${one.size}${one.signed === true ? 's' : ''} ${at(one.base, one.offset)}`);
    case 'store':
      return `store${one.size} ${at(one.base, one.offset)}, ${show(one.src)}`;
    case 'atomic': {
      const expected = one.expected === undefined ? '' : ` if ${show(one.expected)}`;
      return into(one.old, `atomic ${one.kind}${one.size} ${at(one.base, one.offset)}, ${show(one.src)}${expected}`);
    }
    case 'slotAddress':
      return into(one.dst, `address s${one.slot}${one.offset === 0 ? '' : ` + ${one.offset}`}`);
    case 'mapAddress':
      return into(one.dst, `map ${one.map}`);
    case 'mapValueAddress':
      return into(one.dst, `value of ${one.map} + ${one.offset}`);
    case 'functionAddress':
      return into(one.dst, `function ${one.name}`);
    case 'call':
    case 'callFunction':
      return into(one.dst, `${one.op === 'call' ? '' : 'function '}${one.name}(${one.args.map(show).join(', ')})`);
  }
}

export function endText(end: Terminator, name: Name = nameWith(new Map())): string {
  const show = (operand: Operand): string => ('reg' in operand ? name(operand.reg) : constantText(operand.imm));
  if (end.op === 'goto') return `goto b${end.to}`;
  if (end.op === 'return') return `return ${show(end.value)}`;
  const width = end.width === 32 ? ' (32)' : '';
  return `if ${show(end.a)} ${end.condition} ${show(end.b)}${width} goto b${end.then} else b${end.else}`;
}

/** Small numbers in decimal, bit patterns in hexadecimal. */
function constantText(value: bigint): string {
  return value >= -9999n && value <= 9999n ? `${value}` : `0x${BigInt.asUintN(64, value).toString(16)}`;
}
