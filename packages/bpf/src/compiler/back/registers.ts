/**
 * Every virtual register gets a machine register, or a home on the stack and short-lived registers around its uses.
 *
 * Each round colours the code; who found no colour moves to the stack and the round is repeated from the original code.
 */
import { colour } from './colouring.ts';
import { backwards, interferenceOf, machineLiveOut } from './interference.ts';
import {
  definesOf,
  type MachineFunction,
  mapEndRegisters,
  mapRegisters,
  moveOf,
  usesOf,
  usesOfEnd,
  VIRTUAL,
} from './machine.ts';
import { dropDeadHomeStores, Homes, spill } from './spill.ts';

export interface Allocated {
  readonly machine: MachineFunction;
  /** For each home of 8 bytes on the stack, the homes in use at the same time. */
  readonly homes: readonly ReadonlySet<number>[];
}

const MAX_ROUNDS = 100;

export function assignRegisters(original: MachineFunction): Allocated {
  const homes = new Homes(original);
  for (let round = 0; round < MAX_ROUNDS; round++) {
    const machine = spill(original, homes);
    const { colours, spilled } = colour(interferenceOf(machine), {
      costs: costsOf(machine, homes),
      preferred: new Map(original.source.kind === 'entry' ? [[VIRTUAL + original.source.params[0]!, 6]] : []),
    });
    if (spilled.length === 0) return { machine: placed(machine, colours), homes: conflictsOf(original, homes) };
    homes.add(spilled);
  }
  throw new Error(`Cannot give registers to ${original.source.name}: still short of them after ${MAX_ROUNDS} rounds`);
}

/** Uses and definitions, by how often they run; for each register that spilling makes itself, what it says. */
function costsOf(machine: MachineFunction, homes: Homes): number[] {
  const costs = new Array<number>(machine.registerCount).fill(0);
  for (const { code, end, frequency } of machine.blocks) {
    for (const one of code) for (const reg of [...usesOf(one), ...definesOf(one)]) costs[reg]! += frequency;
    for (const reg of usesOfEnd(end)) costs[reg]! += frequency;
  }
  return costs.map((cost, reg) => homes.cost(reg, cost));
}

/** With machine registers throughout; copies to itself are gone, and so are stores to homes that are not read again. */
function placed(machine: MachineFunction, colours: readonly number[]): MachineFunction {
  const to = (reg: number): number => (reg < VIRTUAL ? reg : colours[reg]!);
  const blocks = machine.blocks.map(({ code, end, frequency }) => ({
    code: code
      .map((one) => mapRegisters(one, to))
      .filter((one) => {
        const copy = moveOf(one);
        return copy === undefined || copy.dst !== copy.src;
      }),
    end: mapEndRegisters(end, to),
    frequency,
  }));
  return dropDeadHomeStores({ ...machine, blocks });
}

/** Homes are alive as the registers were that live there now. */
function conflictsOf(original: MachineFunction, homes: Homes): Set<number>[] {
  const conflicts = Array.from({ length: homes.count }, () => new Set<number>());
  if (homes.count === 0) return conflicts;
  backwards(original, machineLiveOut(original), (one, live) => {
    for (const reg of definesOf(one)) {
      const home = homes.of(reg);
      if (home === undefined) continue;
      live.forEach((other) => {
        const neighbour = homes.of(other);
        if (neighbour === undefined || neighbour === home) return;
        conflicts[home]!.add(neighbour);
        conflicts[neighbour]!.add(home);
      });
    }
  });
  return conflicts;
}
