/**
 * What was computed already is not computed again: arithmetic on the same operands, and fields of the context, above all
 * `data` and `data_end`, which every `skb.header()` asks for.
 *
 * Only between calls. A value kept across one needs one of four registers or a place on the stack, and a helper that is
 * given the context may change it.
 */
import type { Instruction, Register } from '../ir.ts';
import { BitSet } from './bit-set.ts';
import { type Body, definitionCounts } from './body.ts';
import { predecessors } from './control-flow.ts';
import { definedBy, isRegister } from './instruction.ts';

interface Candidate {
  readonly one: Instruction;
  readonly dst: Register;
  readonly key: string;
}

export function shareCommon(body: Body): void {
  const counts = definitionCounts(body);
  const candidates: Candidate[] = [];
  const idOf = new Map<Instruction, number>();
  const byKey = new Map<string, number[]>();
  for (const { instructions } of body.blocks) {
    for (const one of instructions) {
      const dst = definedBy(one);
      const key = dst === undefined || counts[dst] !== 1 ? undefined : keyOf(one, body, (reg) => counts[reg] === 1);
      if (key === undefined) continue;
      const id = candidates.push({ one, dst: dst!, key }) - 1;
      idOf.set(one, id);
      byKey.set(key, [...(byKey.get(key) ?? []), id]);
    }
  }
  const available = availableAtStart(body, idOf, candidates.length);
  for (const block of body.blocks) {
    const now = available[block.id]!.clone();
    block.instructions.forEach((one, index) => {
      const id = idOf.get(one);
      if (id !== undefined) {
        const known = byKey.get(candidates[id]!.key)!.find((other) => other !== id && now.has(other));
        if (known !== undefined) {
          block.instructions[index] = { op: 'move', dst: candidates[id]!.dst, src: candidates[known]!.dst, at: one.at };
        }
        now.add(id);
      }
      if (forgets(one, body)) now.words.fill(0);
    });
  }
}

/** Equal keys, equal values; undefined for what is not shared. Operands must stand for one value each. */
function keyOf(one: Instruction, { packet, source }: Body, isStable: (reg: Register) => boolean): string | undefined {
  switch (one.op) {
    case 'load': {
      const context = packet?.context ?? (source.kind === 'entry' ? source.params[0] : undefined);
      if (!('reg' in one.base) || one.base.reg !== context || !isStable(context)) return undefined;
      return `load ${one.size} ${one.signed === true} ${one.offset}`;
    }
    case 'binary': {
      const sides = [one.a, one.b];
      if (!sides.every((side) => !isRegister(side) || isStable(side.reg))) return undefined;
      return `${one.kind} ${one.width} ${sides.map((side) => (isRegister(side) ? `r${side.reg}` : side.imm)).join(' ')}`;
    }
    case 'extend':
      return isStable(one.src) ? `extend ${one.bits} ${one.signed} ${one.src}` : undefined;
    case 'swap':
      return isStable(one.src) ? `swap ${one.bits} ${one.src}` : undefined;
    default:
      return undefined;
  }
}

function forgets(one: Instruction, { source }: Body): boolean {
  if (one.op === 'call' || one.op === 'callFunction') return true;
  return one.op === 'store' && 'reg' in one.base && one.base.reg === source.params[0];
}

/** What every way to the start of a block has computed since its last call. */
function availableAtStart(body: Body, idOf: ReadonlyMap<Instruction, number>, count: number): BitSet[] {
  const all = new BitSet(count);
  for (let id = 0; id < count; id++) all.add(id);
  const computed = body.blocks.map(({ instructions }) => {
    const set = new BitSet(count);
    let forgot = false;
    for (const one of instructions) {
      const id = idOf.get(one);
      if (id !== undefined) set.add(id);
      if (!forgets(one, body)) continue;
      set.words.fill(0);
      forgot = true;
    }
    return { set, forgot };
  });
  const before = predecessors(body.blocks);
  const start = body.blocks.map((_, id) => (id === 0 ? new BitSet(count) : all.clone()));
  for (let changed = true; changed; ) {
    changed = false;
    for (const { id } of body.blocks) {
      if (id === 0) continue;
      const now = start[id]!;
      for (const from of before[id]!) {
        const { set, forgot } = computed[from]!;
        for (let word = 0; word < now.words.length; word++) {
          const left = set.words[word]! | (forgot ? 0 : start[from]!.words[word]!);
          const both = (now.words[word]! & left) >>> 0;
          if (both === now.words[word]) continue;
          now.words[word] = both;
          changed = true;
        }
      }
    }
  }
  return start;
}
