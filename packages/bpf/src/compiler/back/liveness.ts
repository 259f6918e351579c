/** Which registers still matter at the end of each block. Shared by the IR and by machine code: it sees only sets. */
import { BitSet } from './bit-set.ts';

export interface FlowBlock {
  /** Read before written in this block. */
  readonly used: BitSet;
  /** Written in this block. */
  readonly defined: BitSet;
  readonly successors: readonly number[];
}

export interface Step {
  readonly uses: readonly number[];
  readonly defines: readonly number[];
}

export function flowBlock(steps: readonly Step[], successors: readonly number[], registers: number): FlowBlock {
  const used = new BitSet(registers);
  const defined = new BitSet(registers);
  for (const { uses, defines } of steps) {
    for (const reg of uses) if (!defined.has(reg)) used.add(reg);
    for (const reg of defines) defined.add(reg);
  }
  return { used, defined, successors };
}

/** The registers live at the end of each block. */
export function liveOut(blocks: readonly FlowBlock[], registers: number): BitSet[] {
  const out = blocks.map(() => new BitSet(registers));
  const into = blocks.map(({ used }) => used.clone());
  for (let changed = true; changed; ) {
    changed = false;
    // Blocks lie roughly in the order of control, so going backwards settles most of it in one round.
    for (let id = blocks.length - 1; id >= 0; id--) {
      for (const next of blocks[id]!.successors) out[id]!.addAll(into[next]!);
      if (into[id]!.addAll(out[id]!, blocks[id]!.defined)) changed = true;
    }
  }
  return out;
}
