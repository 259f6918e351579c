/**
 * What was computed already is not computed again: arithmetic on the same operands, fields of the context (above all
 * `data` and `data_end`, which every `skb.header()` asks for), and bytes that nobody can have changed in between.
 *
 * Only between calls. A value kept across one needs one of four registers or a place on the stack, and a helper may
 * change what is behind a pointer.
 */
import type { Instruction, Register } from '../ir.ts';
import { BitSet } from './bit-set.ts';
import { type Body, definitionCounts } from './body.ts';
import { predecessors } from './control-flow.ts';
import { definedBy, isRegister } from './instruction.ts';
import { type PointsTo, pointsTo } from './points-to.ts';

/** What a value depends on beside its operands. */
type Source = 'operands' | 'context' | 'memory';

interface Candidate {
  readonly dst: Register;
  readonly key: string;
  readonly source: Source;
}

export function shareCommon(body: Body): void {
  const common = new Common(body);
  const available = availableAtStart(body, common);
  for (const block of body.blocks) {
    const now = available[block.id]!.clone();
    block.instructions = block.instructions.map((one) => {
      const id = common.idOf.get(one);
      const known = id === undefined ? undefined : common.equals(id).find((other) => other !== id && now.has(other));
      common.step(one, now);
      if (id === undefined || known === undefined) return one;
      return { op: 'move', dst: common.candidates[id]!.dst, src: common.candidates[known]!.dst, at: one.at };
    });
  }
}

class Common {
  readonly candidates: Candidate[] = [];
  readonly idOf = new Map<Instruction, number>();
  readonly #context: Register | undefined;
  readonly #isStable: (reg: Register) => boolean;
  readonly #slots: PointsTo;
  readonly #byKey = new Map<string, number[]>();
  readonly #from: Readonly<Record<Exclude<Source, 'operands'>, BitSet>>;

  constructor(body: Body) {
    const counts = definitionCounts(body);
    this.#isStable = (reg) => counts[reg] === 1;
    this.#context = body.source.kind === 'entry' ? body.source.params[0] : undefined;
    this.#slots = pointsTo(body);
    for (const { instructions } of body.blocks) {
      for (const one of instructions) {
        const dst = definedBy(one);
        const found = dst === undefined || counts[dst] !== 1 ? undefined : this.#value(one);
        if (found === undefined) continue;
        const id = this.candidates.push({ dst: dst!, ...found }) - 1;
        this.idOf.set(one, id);
        this.#byKey.set(found.key, [...(this.#byKey.get(found.key) ?? []), id]);
      }
    }
    const having = (wanted: Source): BitSet => {
      const set = new BitSet(this.candidates.length);
      this.candidates.forEach(({ source }, id) => {
        if (source === wanted) set.add(id);
      });
      return set;
    };
    this.#from = { context: having('context'), memory: having('memory') };
  }

  /** All that compute the same, itself included. */
  equals(id: number): readonly number[] {
    return this.#byKey.get(this.candidates[id]!.key)!;
  }

  /** What is available after an instruction. */
  step(one: Instruction, available: BitSet): void {
    const id = this.idOf.get(one);
    if (id !== undefined) available.add(id);
    if (one.op === 'call' || one.op === 'callFunction') available.words.fill(0);
    // What is behind other pointers cannot lie in a slot, nor the other way round: see `#value`.
    if ((one.op !== 'store' && one.op !== 'atomic') || !('reg' in one.base)) return;
    available.removeAll(this.#from[one.base.reg === this.#context ? 'context' : 'memory']);
  }

  /** Equal keys, equal values; undefined for what is not shared. Operands must stand for one value each. */
  #value(one: Instruction): Omit<Candidate, 'dst'> | undefined {
    const pure = (key: string): Omit<Candidate, 'dst'> => ({ key, source: 'operands' });
    switch (one.op) {
      case 'load': {
        if (!('reg' in one.base) || !this.#isStable(one.base.reg) || this.#slots.of(one.base.reg).size > 0)
          return undefined;
        const source = one.base.reg === this.#context ? 'context' : 'memory';
        return { key: `load ${one.size} ${one.signed === true} ${one.base.reg} ${one.offset}`, source };
      }
      case 'binary': {
        const sides = [one.a, one.b];
        if (!sides.every((side) => !isRegister(side) || this.#isStable(side.reg))) return undefined;
        return pure(
          `${one.kind} ${one.width} ${sides.map((side) => (isRegister(side) ? `r${side.reg}` : side.imm)).join(' ')}`,
        );
      }
      case 'extend':
        return this.#isStable(one.src) ? pure(`extend ${one.bits} ${one.signed} ${one.src}`) : undefined;
      case 'swap':
        return this.#isStable(one.src) ? pure(`swap ${one.bits} ${one.src}`) : undefined;
      default:
        return undefined;
    }
  }
}

/** What every way to the start of a block has computed and nothing has spoiled since. */
function availableAtStart(body: Body, common: Common): BitSet[] {
  const count = common.candidates.length;
  const all = new BitSet(count);
  for (let id = 0; id < count; id++) all.add(id);
  const effect = (id: number, start: BitSet): BitSet => {
    const set = start.clone();
    for (const one of body.blocks[id]!.instructions) common.step(one, set);
    return set;
  };
  // What a block makes available by itself, and what it lets through.
  const made = body.blocks.map(({ id }) => effect(id, new BitSet(count)));
  const passed = body.blocks.map(({ id }) => effect(id, all));
  const before = predecessors(body.blocks);
  const start = body.blocks.map(({ id }) => (id === 0 ? new BitSet(count) : all.clone()));
  for (let changed = true; changed; ) {
    changed = false;
    for (const { id } of body.blocks) {
      for (const from of before[id]!) {
        if (start[id]!.keepFlow(start[from]!, passed[from]!, made[from]!)) changed = true;
      }
    }
  }
  return start;
}
