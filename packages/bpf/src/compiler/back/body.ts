/** `IrFunction` belongs to lowering; the back end works on a `Body`, its own copy, whose blocks it splits, copies and drops. */
import type { Instruction, IrFunction, Register, Terminator } from '../ir.ts';
import { retarget, successors } from './control-flow.ts';
import { definedBy } from './instruction.ts';

export interface Body {
  readonly source: IrFunction;
  /** Context loads that give packet pointers: their offset within the context, by its register. */
  readonly packet: PacketFields | undefined;
  /** The TypeScript names that registers stand for. */
  readonly names: Map<Register, string>;
  registerCount: number;
  blocks: BodyBlock[];
}

/** A block whose contents passes replace. */
export interface BodyBlock {
  readonly id: number;
  instructions: Instruction[];
  end: Terminator;
}

/** Where `data` and `data_end` lie in the context of this program type. */
export interface PacketFields {
  readonly context: Register;
  readonly data: number;
  readonly end: number;
}

export function bodyOf(source: IrFunction, packet: PacketFields | undefined): Body {
  // Nothing jumps to block 0: it is where the arguments arrive.
  const shift = source.blocks.some(({ end }) => successors(end).includes(0)) ? 1 : 0;
  const blocks = source.blocks.map(({ id, instructions, end }) => ({
    id: id + shift,
    instructions: [...instructions],
    end: retarget(end, (to) => to + shift),
  }));
  if (shift === 1) blocks.unshift({ id: 0, instructions: [], end: { op: 'goto', to: 1, at: source.at } });
  const names = new Map(source.registerNames);
  return { source, packet, names, registerCount: source.registerCount, blocks };
}

/** Instruction for instruction in all blocks; an array answer takes its place. */
export function rewrite(
  body: Body,
  change: (one: Instruction, block: BodyBlock) => Instruction | readonly Instruction[],
): void {
  for (const block of body.blocks) {
    block.instructions = block.instructions.flatMap((one) => change(one, block));
  }
}

/** The one instruction that defines each register; undefined for those defined more than once, or by the caller. */
export function singleDefinitions(body: Body): (Instruction | undefined)[] {
  const found: (Instruction | undefined)[] = new Array<undefined>(body.registerCount).fill(undefined);
  const counts = definitionCounts(body);
  for (const block of body.blocks) {
    for (const one of block.instructions) {
      const dst = definedBy(one);
      if (dst !== undefined && counts[dst] === 1) found[dst] = one;
    }
  }
  return found;
}

/** How often each register is defined; being a parameter counts. */
export function definitionCounts(body: Body): number[] {
  const counts = new Array<number>(body.registerCount).fill(0);
  for (const param of body.source.params) counts[param]!++;
  for (const block of body.blocks) {
    for (const one of block.instructions) {
      const dst = definedBy(one);
      if (dst !== undefined) counts[dst]!++;
    }
  }
  return counts;
}
