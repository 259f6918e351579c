/**
 * Which registers are alive at the same time and so need different places; the copies that would like the same one.
 */
import type { BitSet } from './bit-set.ts';
import { type FlowBlock, flowBlock, liveOut } from './liveness.ts';
import {
  definesOf,
  type MachineFunction,
  type MachineInstruction,
  machineSuccessors,
  moveOf,
  usesOf,
  usesOfEnd,
} from './machine.ts';

export interface Copy {
  readonly dst: number;
  readonly src: number;
  /** How often it runs, roughly. */
  readonly weight: number;
}

export interface Interference {
  readonly neighbours: readonly Set<number>[];
  readonly copies: readonly Copy[];
}

export function machineLiveOut({ blocks, registerCount }: MachineFunction): BitSet[] {
  const flow = blocks.map(({ code, end }): FlowBlock => {
    const steps = code.map((one) => ({ uses: usesOf(one), defines: definesOf(one) }));
    return flowBlock([...steps, { uses: usesOfEnd(end), defines: [] }], machineSuccessors(end), registerCount);
  });
  return liveOut(flow, registerCount);
}

/** Visits each instruction, last to first, with what is live after it. */
export function backwards(
  { blocks }: MachineFunction,
  out: readonly BitSet[],
  visit: (one: MachineInstruction, live: BitSet, block: number) => void,
): void {
  blocks.forEach(({ code, end }, id) => {
    const live = out[id]!.clone();
    for (const reg of usesOfEnd(end)) live.add(reg);
    for (let i = code.length - 1; i >= 0; i--) {
      const one = code[i]!;
      visit(one, live, id);
      for (const reg of definesOf(one)) live.delete(reg);
      for (const reg of usesOf(one)) live.add(reg);
    }
  });
}

export function interferenceOf(machine: MachineFunction): Interference {
  const neighbours = Array.from({ length: machine.registerCount }, () => new Set<number>());
  const copies: Copy[] = [];
  const connect = (a: number, b: number): void => {
    if (a === b) return;
    neighbours[a]!.add(b);
    neighbours[b]!.add(a);
  };
  backwards(machine, machineLiveOut(machine), (one, live, block) => {
    const copy = moveOf(one);
    if (copy !== undefined) copies.push({ ...copy, weight: machine.blocks[block]!.frequency });
    const defined = definesOf(one);
    for (const reg of defined) {
      for (const other of defined) connect(reg, other);
      live.forEach((other) => {
        // A copy's source holds the same value: that alone is no reason to keep them apart.
        if (other !== copy?.src) connect(reg, other);
      });
    }
  });
  return { neighbours, copies };
}
