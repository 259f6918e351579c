/**
 * What every pass asks of an instruction: which registers it reads, which one it writes, whether it may be dropped.
 *
 * `IrFunction` belongs to lowering; the back end works on a `Body`, its own copy, whose blocks it splits, copies and drops.
 */

import type { Base, Block, Instruction, IrFunction, Operand, Register, Terminator } from '../ir.ts';
import { retarget, successors } from './control-flow.ts';

export interface Body {
  readonly source: IrFunction;
  /** Context loads that give packet pointers: their offset within the context, by its register. */
  readonly packet: PacketFields | undefined;
  registerCount: number;
  blocks: Block[];
}

/** Where `data` and `data_end` lie in the context of this program type. */
export interface PacketFields {
  readonly context: Register;
  readonly data: number;
  readonly end: number;
}

export function bodyOf(source: IrFunction, packet: PacketFields | undefined): Body {
  // Nothing jumps to block 0: it is where the arguments arrive.
  const shift = source.blocks.some(({ end }) => successors(end).includes(0)) ? 1 : 0;
  const blocks = source.blocks.map(({ id, instructions, end }) => ({
    id: id + shift,
    instructions: [...instructions],
    end: retarget(end, (to) => to + shift),
  }));
  if (shift === 1) blocks.unshift({ id: 0, instructions: [], end: { op: 'goto', to: 1, at: source.at } });
  return { source, packet, registerCount: source.registerCount, blocks };
}

export function isRegister(operand: Operand): operand is { readonly reg: Register } {
  return 'reg' in operand;
}

export function definedBy(one: Instruction): Register | undefined {
  switch (one.op) {
    case 'store':
      return undefined;
    case 'atomic':
      return one.old;
    default:
      return one.dst;
  }
}

export function usedBy(one: Instruction): Register[] {
  const used: Register[] = [];
  mapUses(one, (reg) => {
    used.push(reg);
    return { reg };
  });
  return used;
}

export function usedByEnd(end: Terminator): Register[] {
  const operands = end.op === 'if' ? [end.a, end.b] : end.op === 'return' ? [end.value] : [];
  return operands.filter(isRegister).map(({ reg }) => reg);
}

/** Whether nothing is lost when nobody wants its result. */
export function isPure(one: Instruction): boolean {
  return !(one.op === 'store' || one.op === 'atomic' || one.op === 'call' || one.op === 'callFunction');
}

/**
 * The same instruction with every register it reads replaced. Where only a register can stand (a base, the source of an
 * extension), a constant answer is ignored.
 */
export function mapUses(one: Instruction, replace: (reg: Register) => Operand): Instruction {
  const operand = (old: Operand): Operand => (isRegister(old) ? replace(old.reg) : old);
  const register = (old: Register): Register => {
    const to = replace(old);
    return isRegister(to) ? to.reg : old;
  };
  const base = (old: Base): Base => ('reg' in old ? { reg: register(old.reg) } : old);
  switch (one.op) {
    case 'move': {
      const src = replace(one.src);
      if (isRegister(src)) return { ...one, src: src.reg };
      return { op: 'const', dst: one.dst, value: src.imm, at: one.at };
    }
    case 'binary':
      return { ...one, a: operand(one.a), b: operand(one.b) };
    case 'extend':
    case 'swap':
      return { ...one, src: register(one.src) };
    case 'load':
      return { ...one, base: base(one.base) };
    case 'store':
      return { ...one, base: base(one.base), src: operand(one.src) };
    case 'atomic': {
      const expected = one.expected === undefined ? {} : { expected: operand(one.expected) };
      return { ...one, base: base(one.base), src: operand(one.src), ...expected };
    }
    case 'call':
    case 'callFunction':
      return { ...one, args: one.args.map(operand) };
    default:
      return one;
  }
}

export function mapEndUses(end: Terminator, replace: (reg: Register) => Operand): Terminator {
  const operand = (old: Operand): Operand => (isRegister(old) ? replace(old.reg) : old);
  if (end.op === 'if') return { ...end, a: operand(end.a), b: operand(end.b) };
  if (end.op === 'return') return { ...end, value: operand(end.value) };
  return end;
}

export function withDefinition(one: Instruction, dst: Register): Instruction {
  if (one.op === 'store') return one;
  if (one.op === 'atomic') return { ...one, old: dst };
  return { ...one, dst };
}

/** Instruction for instruction in all blocks; an array answer takes its place. */
export function rewrite(
  body: Body,
  change: (one: Instruction, block: Block) => Instruction | readonly Instruction[],
): void {
  for (const block of body.blocks) {
    const changed = block.instructions.flatMap((one) => change(one, block));
    block.instructions.splice(0, block.instructions.length, ...changed);
  }
}

/** The one instruction that defines each register; undefined for those defined more than once, or by the caller. */
export function singleDefinitions(body: Body): (Instruction | undefined)[] {
  const found: (Instruction | undefined)[] = new Array<undefined>(body.registerCount).fill(undefined);
  const counts = definitionCounts(body);
  for (const block of body.blocks) {
    for (const one of block.instructions) {
      const dst = definedBy(one);
      if (dst !== undefined && counts[dst] === 1) found[dst] = one;
    }
  }
  return found;
}

/** How often each register is defined; being a parameter counts. */
export function definitionCounts(body: Body): number[] {
  const counts = new Array<number>(body.registerCount).fill(0);
  for (const param of body.source.params) counts[param]!++;
  for (const block of body.blocks) {
    for (const one of block.instructions) {
      const dst = definedBy(one);
      if (dst !== undefined) counts[dst]!++;
    }
  }
  return counts;
}
