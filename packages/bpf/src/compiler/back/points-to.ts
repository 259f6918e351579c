/**
 * Which slots of the stack an instruction may touch: by name, through a register that a slot's address has gone into, or
 * through an address that lies in a slot, as when a loop's callback is given views of the function around it.
 */
import type { Instruction, Register } from '../ir.ts';
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
  const inSlot = body.source.slots.map(() => new Contents());
  const escaped = new Set<number>();
  const follow = (one: Instruction): boolean => {
    switch (one.op) {
      case 'slotAddress':
        return addAll(inRegister[one.dst]!, [one.slot]);
      case 'move':
        return addAll(inRegister[one.dst]!, inRegister[one.src]!);
      case 'binary': {
        const sides = [one.a, one.b].filter(isRegister);
        return addAll(
          inRegister[one.dst]!,
          sides.flatMap(({ reg }) => [...inRegister[reg]!]),
        );
      }
      case 'load': {
        // Only eight bytes hold an address.
        if (one.size !== 8) return false;
        const loaded =
          'slot' in one.base
            ? inSlot[one.base.slot]!.at(one.offset)
            : [...inRegister[one.base.reg]!].flatMap((slot) => inSlot[slot]!.all());
        return addAll(inRegister[one.dst]!, loaded);
      }
      case 'store': {
        if (one.size !== 8 || !isRegister(one.src)) return false;
        const addresses = inRegister[one.src.reg]!;
        if ('slot' in one.base) return inSlot[one.base.slot]!.put(one.offset, addresses);
        const into = [...inRegister[one.base.reg]!];
        if (into.length === 0) return addAll(escaped, addresses);
        return into.map((slot) => inSlot[slot]!.put(ANYWHERE, addresses)).includes(true);
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
    for (const slot of slots) for (const further of inSlot[slot]!.all()) slots.add(further);
    return slots;
  };
  return { of: (reg) => inRegister[reg]!, escaped, touched };
}

/** Stored through a pointer, which does not tell where in the slot. */
const ANYWHERE = -1;

/** The slots whose addresses may lie in one slot, by offset: beside captured views lie captured numbers. */
class Contents {
  readonly #byOffset = new Map<number, Set<number>>();

  put(offset: number, slots: ReadonlySet<number>): boolean {
    if (slots.size === 0) return false;
    const here = this.#byOffset.get(offset) ?? new Set<number>();
    this.#byOffset.set(offset, here);
    return addAll(here, slots);
  }

  at(offset: number): number[] {
    return [...(this.#byOffset.get(offset) ?? []), ...(this.#byOffset.get(ANYWHERE) ?? [])];
  }

  all(): number[] {
    return [...this.#byOffset.values()].flatMap((slots) => [...slots]);
  }
}

/** Whether anything was new. */
function addAll(into: Set<number>, slots: Iterable<number>): boolean {
  const before = into.size;
  for (const slot of slots) into.add(slot);
  return into.size > before;
}
