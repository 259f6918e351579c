/**
 * Which bytes of the stack's slots matter where: those that something can still read before they are written again.
 *
 * A store of bytes that do not matter is left out. A slot takes room only from the first instruction that touches it to the
 * last that can read it, so what is written while another slot matters must not lie where that other lies. The front end
 * gives every struct a slot of its own and zeroes it, which is what frees the bytes above.
 */
import type { Instruction } from '../ir.ts';
import { BitSet } from './bit-set.ts';
import type { Body } from './body.ts';
import { predecessors, successors } from './control-flow.ts';
import { flowBlock, liveOut } from './liveness.ts';
import { pointsTo } from './points-to.ts';

export interface SlotConflicts {
  /** For each slot those that must lie elsewhere. */
  readonly conflicts: readonly ReadonlySet<number>[];
  readonly used: ReadonlySet<number>;
}

/** `stack(S, { ... })` zeroes the struct and then fills most of it, sometimes much later. */
export function dropDeadStores(body: Body): void {
  const bytes = new SlotBytes(body);
  const dead = new Set<Instruction>();
  body.blocks.forEach((_, id) => {
    bytes.backwards(id, (one, live) => {
      const written = bytes.written(one);
      if (written.length > 0 && !written.some((byte) => live.has(byte))) dead.add(one);
    });
  });
  for (const block of body.blocks) block.instructions = block.instructions.filter((one) => !dead.has(one));
}

export function slotConflicts(body: Body): SlotConflicts {
  const bytes = new SlotBytes(body);
  const before = touchedBefore(body, bytes);
  const conflicts = body.source.slots.map(() => new Set<number>());
  const used = new Set<number>();
  const apart = (a: number, b: number): void => {
    if (a === b) return;
    conflicts[a]!.add(b);
    conflicts[b]!.add(a);
  };
  body.blocks.forEach(({ instructions }, id) => {
    const firstHere = new Map<number, number>();
    instructions.forEach((one, index) => {
      for (const slot of bytes.touched(one)) if (!firstHere.has(slot)) firstHere.set(slot, index);
    });
    bytes.backwards(id, (one, live, index) => {
      const { reads, writes } = bytes.accessOf(one);
      for (const slot of bytes.touched(one)) used.add(slot);
      if (writes.length === 0) return;
      const known = (slot: number): boolean =>
        before[id]!.has(slot) || firstHere.get(slot)! <= index || bytes.isEscaped(slot);
      const alive = bytes.slotsOf(live).filter(known);
      for (const slot of writes) {
        // A call may write to the one and still read the other.
        for (const other of [...alive, ...reads, ...writes]) apart(slot, other);
      }
    });
  });
  return { conflicts, used };
}

interface Access {
  readonly reads: readonly number[];
  readonly writes: readonly number[];
}

const NONE: Access = { reads: [], writes: [] };

class SlotBytes {
  readonly #body: Body;
  /** Number of the first byte of each slot. */
  readonly #start: number[] = [];
  readonly #slotOf: number[] = [];
  readonly #accesses = new Map<Instruction, Access>();
  readonly #escaped: ReadonlySet<number>;
  readonly #out: readonly BitSet[];

  constructor(body: Body) {
    this.#body = body;
    body.source.slots.forEach(({ size }, slot) => {
      this.#start.push(this.#slotOf.length);
      for (let byte = 0; byte < size; byte++) this.#slotOf.push(slot);
    });
    const { escaped, touched } = pointsTo(body);
    this.#escaped = escaped;
    for (const { instructions } of body.blocks) {
      for (const one of instructions) {
        const access = accessOf(one, () => [...touched(one)]);
        if (access !== NONE) this.#accesses.set(one, access);
      }
    }
    this.#out = this.#liveOut();
  }

  accessOf(one: Instruction): Access {
    return this.#accesses.get(one) ?? NONE;
  }

  touched(one: Instruction): readonly number[] {
    const { reads, writes } = this.accessOf(one);
    return reads === writes ? reads : [...reads, ...writes];
  }

  isEscaped(slot: number): boolean {
    return this.#escaped.has(slot);
  }

  /** The bytes that a store by name overwrites for certain; none of what anything may read at any time. */
  written(one: Instruction): number[] {
    if (one.op !== 'store' || !('slot' in one.base) || this.isEscaped(one.base.slot)) return [];
    return this.#bytes(one.base.slot, one.offset, one.size);
  }

  slotsOf(bytes: BitSet): number[] {
    const slots = new Set<number>(this.#escaped);
    bytes.forEach((byte) => {
      slots.add(this.#slotOf[byte]!);
    });
    return [...slots];
  }

  /** Visits a block's instructions, last to first, with the bytes that matter after each. */
  backwards(id: number, visit: (one: Instruction, live: BitSet, index: number) => void): void {
    const live = this.#out[id]!.clone();
    const { instructions } = this.#body.blocks[id]!;
    for (let index = instructions.length - 1; index >= 0; index--) {
      const one = instructions[index]!;
      visit(one, live, index);
      for (const byte of this.written(one)) live.delete(byte);
      for (const byte of this.#read(one)) live.add(byte);
    }
  }

  #liveOut(): BitSet[] {
    const count = this.#slotOf.length;
    const flow = this.#body.blocks.map(({ instructions, end }) => {
      const steps = instructions.map((one) => ({ uses: this.#read(one), defines: this.written(one) }));
      const block = flowBlock(steps, successors(end), count);
      // Scratch slots are used within one block.
      this.#body.source.slots.forEach(({ scratch, size }, slot) => {
        if (scratch) for (const byte of this.#bytes(slot, 0, size)) block.used.delete(byte);
      });
      return block;
    });
    return liveOut(flow, count);
  }

  #read(one: Instruction): number[] {
    if (one.op === 'load' && 'slot' in one.base) return this.#bytes(one.base.slot, one.offset, one.size);
    return this.accessOf(one).reads.flatMap((slot) => this.#bytes(slot, 0, this.#body.source.slots[slot]!.size));
  }

  #bytes(slot: number, offset: number, size: number): number[] {
    return Array.from({ length: size }, (_, byte) => this.#start[slot]! + offset + byte);
  }
}

/** The slots that something may have touched before the start of each block. */
function touchedBefore(body: Body, bytes: SlotBytes): BitSet[] {
  const count = body.source.slots.length;
  const here = body.blocks.map(({ instructions }) => {
    const set = new BitSet(count);
    for (const one of instructions) for (const slot of bytes.touched(one)) set.add(slot);
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
