/**
 * Which slots of the stack an instruction may touch: by name, through a register that a slot's address has gone into, or
 * through an address that lies in a slot, as when a loop's callback is given views of the function around it.
 */
import type { Base, Instruction, Register } from '../ir.ts';
import type { Body } from './body.ts';
import { definedBy, isRegister, usedBy } from './instruction.ts';

export interface PointsTo {
  /** The slots whose address may be in a register. */
  readonly of: (reg: Register) => ReadonlySet<number>;
  /** Slots whose address lies in memory that is not the stack: anything may touch them at any time. */
  readonly escaped: ReadonlySet<number>;
  /** Slots that an instruction may touch, the escaped ones aside. */
  readonly touched: (one: Instruction) => ReadonlySet<number>;
}

export function pointsTo(body: Body): PointsTo {
  const inRegister = Array.from({ length: body.registerCount }, () => new Set<number>());
  const inSlot = body.source.slots.map(() => new Set<number>());
  const escaped = new Set<number>();
  const places = (base: Base): Iterable<number> => ('slot' in base ? [base.slot] : inRegister[base.reg]!);
  const flow = (into: Set<number>, slots: Iterable<number>): boolean => {
    const before = into.size;
    for (const slot of slots) into.add(slot);
    return into.size > before;
  };
  const follow = (one: Instruction): boolean => {
    switch (one.op) {
      case 'slotAddress':
        return flow(inRegister[one.dst]!, [one.slot]);
      case 'move':
        return flow(inRegister[one.dst]!, inRegister[one.src]!);
      case 'binary': {
        let changed = false;
        for (const side of [one.a, one.b]) {
          if (isRegister(side) && flow(inRegister[one.dst]!, inRegister[side.reg]!)) changed = true;
        }
        return changed;
      }
      case 'load': {
        let changed = false;
        for (const slot of [...places(one.base)]) if (flow(inRegister[one.dst]!, inSlot[slot]!)) changed = true;
        return changed;
      }
      case 'store': {
        if (!isRegister(one.src)) return false;
        const addresses = inRegister[one.src.reg]!;
        const into = [...places(one.base)];
        if (into.length === 0) return flow(escaped, addresses);
        let changed = false;
        for (const slot of into) if (flow(inSlot[slot]!, addresses)) changed = true;
        return changed;
      }
      default:
        return false;
    }
  };
  for (let changed = true; changed; ) {
    changed = false;
    for (const { instructions } of body.blocks) for (const one of instructions) if (follow(one)) changed = true;
  }
  const touched = (one: Instruction): ReadonlySet<number> => {
    const slots = new Set<number>();
    if (one.op === 'slotAddress') slots.add(one.slot);
    if ((one.op === 'load' || one.op === 'store' || one.op === 'atomic') && 'slot' in one.base)
      slots.add(one.base.slot);
    for (const reg of usedBy(one)) for (const slot of inRegister[reg]!) slots.add(slot);
    const dst = definedBy(one);
    if (dst !== undefined) for (const slot of inRegister[dst]!) slots.add(slot);
    // Who is given a slot is given what it points to; a set grows while it is walked.
    for (const slot of slots) for (const further of inSlot[slot]!) slots.add(further);
    return slots;
  };
  return { of: (reg) => inRegister[reg]!, escaped, touched };
}
