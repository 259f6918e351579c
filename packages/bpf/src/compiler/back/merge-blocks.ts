/**
 * Equal endings become one: twenty inlined copies of "count the reason, return" end alike, registers and all.
 *
 * Only blocks that leave the function, and of frequent ones only those that are there many times over: they pay for the
 * room they save with a jump.
 */
import type { MachineBlock, MachineEnd, MachineFunction, MachineInstruction } from './machine.ts';
import { retargetMachine } from './machine.ts';

const RARE = 0.1;
const MANY = 3;

/** Block numbers stay; those that nobody goes to any more are dropped by emission. */
export function mergeEndings(machine: MachineFunction): MachineFunction {
  let blocks = machine.blocks;
  for (;;) {
    const equal = new Map<string, number[]>();
    blocks.forEach((block, id) => {
      if (leaves(blocks, block.end)) equal.set(keyOf(block), [...(equal.get(keyOf(block)) ?? []), id]);
    });
    const instead = new Map<number, number>();
    for (const [first, ...others] of equal.values()) {
      const copies = others.length + 1;
      for (const other of others) if (copies >= MANY || blocks[other]!.frequency <= RARE) instead.set(other, first!);
    }
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
function keyOf({ code, end }: MachineBlock): string {
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
