/**
 * Equal endings become one: twenty inlined copies of "count the reason, return" end alike, registers and all.
 *
 * Only rare blocks that leave the function: a frequent one would pay for the room it saves with a jump.
 */
import type { MachineBlock, MachineEnd, MachineFunction, MachineInstruction } from './machine.ts';
import { retargetMachine } from './machine.ts';

const RARE = 0.1;

/** Block numbers stay; those that nobody goes to any more are dropped by emission. */
export function mergeEndings(machine: MachineFunction): MachineFunction {
  let blocks = machine.blocks;
  for (;;) {
    const first = new Map<string, number>();
    const instead = new Map<number, number>();
    blocks.forEach((block, id) => {
      const key = keyOf(blocks, block);
      if (key === undefined) return;
      const known = first.get(key);
      if (known === undefined) first.set(key, id);
      else instead.set(id, known);
    });
    const merged = blocks.map((block) => ({
      ...block,
      end: retargetMachine(block.end, (to) => instead.get(to) ?? to),
    }));
    const changed = merged.some(({ end }, id) => !sameTargets(end, blocks[id]!.end));
    blocks = merged;
    if (!changed) return { ...machine, blocks };
  }
}

/** Equal keys, equal code. A block that goes on may be merged once what follows it has been. */
function keyOf(blocks: readonly MachineBlock[], { code, end, frequency }: MachineBlock): string | undefined {
  if (frequency > RARE || !leaves(blocks, end)) return undefined;
  const text = code.map((one) => JSON.stringify(withoutPosition(one), bigintAsText)).join();
  return `${text} ${JSON.stringify(withoutPosition(end))}`;
}

function leaves(blocks: readonly MachineBlock[], end: MachineEnd): boolean {
  if (end.op === 'exit') return true;
  return end.op === 'goto' && blocks[end.to]!.end.op === 'exit';
}

function withoutPosition(one: MachineInstruction | MachineEnd): object {
  const { at: _, ...rest } = one;
  return rest;
}

const bigintAsText = (_: string, value: unknown): unknown => (typeof value === 'bigint' ? `${value}n` : value);

function sameTargets(a: MachineEnd, b: MachineEnd): boolean {
  if (a.op === 'goto') return b.op === 'goto' && a.to === b.to;
  return a.op !== 'if' || (b.op === 'if' && a.then === b.then && a.else === b.else);
}
