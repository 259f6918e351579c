/**
 * When the bytes of a stack slot matter: from the stores that fill it to the last instruction that can read it.
 *
 * The front end gives one slot to variables of several scopes and of several inlined functions, each of which fills it
 * anew; so a slot is free above stores that cover all of it, and before anything has touched it. What is written while
 * another slot matters must not lie where that other lies.
 */
import type { Instruction } from '../ir.ts';
import { BitSet } from './bit-set.ts';
import type { Body } from './body.ts';
import { predecessors, successors } from './control-flow.ts';
import { pointsTo } from './points-to.ts';

export interface SlotConflicts {
  /** For each slot those that must lie elsewhere. */
  readonly conflicts: readonly ReadonlySet<number>[];
  readonly used: ReadonlySet<number>;
}

export function slotConflicts(body: Body): SlotConflicts {
  const count = body.source.slots.length;
  const conflicts = Array.from({ length: count }, () => new Set<number>());
  const used = new Set<number>();
  const accesses = new Accesses(body);
  const apart = (a: number, b: number): void => {
    if (a === b) return;
    conflicts[a]!.add(b);
    conflicts[b]!.add(a);
  };
  const out = liveSlots(body, accesses);
  const before = touchedBefore(body, accesses);
  body.blocks.forEach(({ instructions }, id) => {
    const firstHere = new Map<number, number>();
    instructions.forEach((one, index) => {
      const { reads, writes } = accesses.of(one);
      for (const slot of [...reads, ...writes]) if (!firstHere.has(slot)) firstHere.set(slot, index);
    });
    accesses.backwards(id, out[id]!, (one, live, index) => {
      const { reads, writes } = accesses.of(one);
      for (const slot of [...reads, ...writes]) used.add(slot);
      for (const slot of writes) {
        live.forEach((other) => {
          if (before[id]!.has(other) || firstHere.get(other)! <= index || accesses.escaped.has(other))
            apart(slot, other);
        });
        // A call may write to the one and still read the other.
        for (const other of [...reads, ...writes]) apart(slot, other);
      }
    });
  });
  return { conflicts, used };
}

/** The slots that something may have touched before the start of each block. */
function touchedBefore(body: Body, accesses: Accesses): BitSet[] {
  const count = body.source.slots.length;
  const here = body.blocks.map(({ instructions }) => {
    const set = new BitSet(count);
    for (const one of instructions) {
      const { reads, writes } = accesses.of(one);
      for (const slot of [...reads, ...writes]) set.add(slot);
    }
    return set;
  });
  const before = body.blocks.map(() => new BitSet(count));
  const preceding = predecessors(body.blocks);
  for (let changed = true; changed; ) {
    changed = false;
    for (const { id } of body.blocks) {
      for (const from of preceding[id]!) {
        if (before[id]!.addAll(before[from]!)) changed = true;
        if (before[id]!.addAll(here[from]!)) changed = true;
      }
    }
  }
  return before;
}

/** The slots that matter at the end of each block. */
function liveSlots(body: Body, accesses: Accesses): BitSet[] {
  const count = body.source.slots.length;
  const all = new BitSet(count);
  for (let slot = 0; slot < count; slot++) if (!body.source.slots[slot]!.scratch) all.add(slot);
  // What a block needs by itself, and what it lets through from below.
  const needed = body.blocks.map((_, id) => accesses.backwards(id, accesses.escaped));
  const passed = body.blocks.map((_, id) => accesses.backwards(id, all));
  const out = body.blocks.map(() => accesses.escaped.clone());
  const into = needed.map((set) => set.clone());
  for (let changed = true; changed; ) {
    changed = false;
    for (let id = body.blocks.length - 1; id >= 0; id--) {
      for (const next of successors(body.blocks[id]!.end)) {
        // Scratch slots are used within one block.
        into[next]!.forEach((slot) => {
          if (all.has(slot)) out[id]!.add(slot);
        });
      }
      const through = out[id]!.clone();
      through.keepAll(passed[id]!);
      if (into[id]!.addAll(through)) changed = true;
    }
  }
  return out;
}

interface Access {
  readonly reads: readonly number[];
  readonly writes: readonly number[];
}

const NONE: Access = { reads: [], writes: [] };

class Accesses {
  readonly escaped: BitSet;
  readonly #body: Body;
  readonly #of = new Map<Instruction, Access>();

  constructor(body: Body) {
    this.#body = body;
    const { escaped, touched } = pointsTo(body);
    this.escaped = new BitSet(body.source.slots.length);
    for (const slot of escaped) this.escaped.add(slot);
    for (const { instructions } of body.blocks) {
      for (const one of instructions) {
        const access = accessOf(one, () => [...touched(one)]);
        if (access !== NONE) this.#of.set(one, access);
      }
    }
  }

  of(one: Instruction): Access {
    return this.#of.get(one) ?? NONE;
  }

  /** Visits a block's instructions, last to first, with the slots that matter after each; gives those at its start. */
  backwards(id: number, out: BitSet, visit?: (one: Instruction, live: BitSet, index: number) => void): BitSet {
    const live = out.clone();
    const covered = new Map<number, Set<number>>();
    const { instructions } = this.#body.blocks[id]!;
    for (let i = instructions.length - 1; i >= 0; i--) {
      const one = instructions[i]!;
      const { reads } = this.of(one);
      visit?.(one, live, i);
      if (one.op === 'store' && 'slot' in one.base) {
        const { slot } = one.base;
        const bytes = covered.get(slot) ?? new Set<number>();
        covered.set(slot, bytes);
        for (let byte = 0; byte < one.size; byte++) bytes.add(one.offset + byte);
        if (bytes.size >= this.#body.source.slots[slot]!.size && !this.escaped.has(slot)) live.delete(slot);
      }
      for (const slot of reads) {
        live.add(slot);
        covered.delete(slot);
      }
    }
    return live;
  }
}

function accessOf(one: Instruction, touched: () => readonly number[]): Access {
  switch (one.op) {
    case 'load': {
      // Not the slots that the loaded address may lead to.
      const reads = 'slot' in one.base ? [one.base.slot] : touched();
      return reads.length === 0 ? NONE : { reads, writes: [] };
    }
    case 'store': {
      const writes = 'slot' in one.base ? [one.base.slot] : touched();
      return writes.length === 0 ? NONE : { reads: [], writes };
    }
    case 'atomic':
    case 'call':
    case 'callFunction': {
      const slots = touched();
      return slots.length === 0 ? NONE : { reads: slots, writes: slots };
    }
    default:
      return NONE;
  }
}
