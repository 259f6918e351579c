/** Drops instructions whose results nobody wants, and stores to the stack that are overwritten before anyone reads them. */
import type { Instruction, Register } from '../ir.ts';
import type { Body } from './body.ts';
import { definedBy, isPure, usedBy, usedByEnd } from './instruction.ts';
import { pointsTo } from './points-to.ts';

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

/**
 * `stack(Key, { ... })` zeroes the struct and then fills most of it. Backwards through each block, a byte of a slot that
 * will be overwritten before anything can read it needs no store.
 */
export function dropDeadStores(body: Body): void {
  const { escaped, touched } = pointsTo(body);
  for (const block of body.blocks) {
    const covered = new Map<number, Set<number>>();
    const kept: Instruction[] = [];
    for (const one of [...block.instructions].reverse()) {
      if (one.op === 'store' && 'slot' in one.base) {
        const bytes = covered.get(one.base.slot) ?? new Set<number>();
        covered.set(one.base.slot, bytes);
        const mine = Array.from({ length: one.size }, (_, i) => one.offset + i);
        if (mine.every((byte) => bytes.has(byte))) continue;
        for (const byte of mine) bytes.add(byte);
      } else if (one.op !== 'slotAddress') {
        for (const slot of touched(one)) covered.delete(slot);
        // Through a pointer that came from memory, or in another function.
        if (mayReadAnything(one)) for (const slot of escaped) covered.delete(slot);
      }
      kept.push(one);
    }
    block.instructions = kept.reverse();
  }
}

function mayReadAnything(one: Instruction): boolean {
  if (one.op === 'call' || one.op === 'callFunction') return true;
  return (one.op === 'load' || one.op === 'atomic') && 'reg' in one.base;
}
