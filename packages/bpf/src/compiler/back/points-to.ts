/**
 * Which slots of the stack an instruction may touch: by name, or through a register that a slot's address has gone into.
 */
import type { Instruction, Register } from '../ir.ts';
import type { Body } from './body.ts';
import { definedBy, isRegister, usedBy } from './instruction.ts';

export interface PointsTo {
  /** The slots whose address may be in a register. */
  readonly of: (reg: Register) => ReadonlySet<number>;
  /** Slots whose address lies in memory: anything may touch them at any time. */
  readonly escaped: ReadonlySet<number>;
  /** Slots that an instruction touches, the escaped ones aside. */
  readonly touched: (one: Instruction) => ReadonlySet<number>;
}

export function pointsTo(body: Body): PointsTo {
  const slotsOf = Array.from({ length: body.registerCount }, () => new Set<number>());
  const flow = (dst: Register, slots: Iterable<number>): boolean => {
    const before = slotsOf[dst]!.size;
    for (const slot of slots) slotsOf[dst]!.add(slot);
    return slotsOf[dst]!.size > before;
  };
  for (let changed = true; changed; ) {
    changed = false;
    for (const { instructions } of body.blocks) {
      for (const one of instructions) {
        if (one.op === 'slotAddress') changed = flow(one.dst, [one.slot]) || changed;
        if (one.op === 'move') changed = flow(one.dst, slotsOf[one.src]!) || changed;
        if (one.op !== 'binary') continue;
        for (const side of [one.a, one.b]) if (isRegister(side)) changed = flow(one.dst, slotsOf[side.reg]!) || changed;
      }
    }
  }
  const escaped = new Set<number>();
  for (const { instructions } of body.blocks) {
    for (const one of instructions) {
      if (one.op === 'store' && isRegister(one.src)) for (const slot of slotsOf[one.src.reg]!) escaped.add(slot);
    }
  }
  const touched = (one: Instruction): ReadonlySet<number> => {
    const slots = new Set<number>();
    if (one.op === 'slotAddress') slots.add(one.slot);
    if ((one.op === 'load' || one.op === 'store' || one.op === 'atomic') && 'slot' in one.base)
      slots.add(one.base.slot);
    for (const reg of usedBy(one)) for (const slot of slotsOf[reg]!) slots.add(slot);
    const dst = definedBy(one);
    if (dst !== undefined) for (const slot of slotsOf[dst]!) slots.add(slot);
    return slots;
  };
  return { of: (reg) => slotsOf[reg]!, escaped, touched };
}
