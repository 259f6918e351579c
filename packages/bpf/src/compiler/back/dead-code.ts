/** Drops instructions whose results nobody wants. */
import type { Instruction, Register } from '../ir.ts';
import type { Body } from './body.ts';
import { definedBy, isPure, usedBy, usedByEnd } from './instruction.ts';

/** Marks from what has an effect towards what it needs; a counter that only counts itself falls with it. */
export function dropDeadCode(body: Body): void {
  const definitions = new Map<Register, Instruction[]>();
  const wanted = new Set<Register>();
  const open: Register[] = [];
  const want = (regs: readonly Register[]): void => {
    for (const reg of regs) {
      if (wanted.has(reg)) continue;
      wanted.add(reg);
      open.push(reg);
    }
  };
  for (const { instructions, end } of body.blocks) {
    want(usedByEnd(end));
    for (const one of instructions) {
      const dst = definedBy(one);
      if (dst !== undefined) definitions.set(dst, [...(definitions.get(dst) ?? []), one]);
      if (!isPure(one)) want(usedBy(one));
    }
  }
  for (let reg = open.pop(); reg !== undefined; reg = open.pop()) {
    for (const one of definitions.get(reg) ?? []) want(usedBy(one));
  }
  for (const block of body.blocks) {
    block.instructions = block.instructions
      .filter((one) => !isPure(one) || wanted.has(definedBy(one)!))
      .filter((one) => !(one.op === 'move' && one.src === one.dst))
      .map((one) => withoutResult(one, wanted));
  }
}

/** A call whose result is not wanted, an atomic whose old value is not: no register is spent on it. */
function withoutResult(one: Instruction, wanted: ReadonlySet<Register>): Instruction {
  if ((one.op === 'call' || one.op === 'callFunction') && one.dst !== undefined && !wanted.has(one.dst)) {
    const { dst: _, ...rest } = one;
    return rest;
  }
  if (one.op === 'atomic' && one.old !== undefined && !wanted.has(one.old)) {
    if (one.kind === 'exchange' || one.kind === 'compareExchange') return one;
    const { old: _, ...rest } = one;
    return rest;
  }
  return one;
}
