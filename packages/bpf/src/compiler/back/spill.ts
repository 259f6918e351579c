/**
 * Registers that live on the stack: stored where they are defined, loaded where they are used.
 *
 * A value is loaded once per *run*, the code up to the next call, and every use in the run reads that register. Where
 * even that is too much pressure, each use loads for itself. Constants and addresses are not stored at all but made anew;
 * pointers into the packet never are, for a pointer computed again has not been checked.
 */

import type { Position } from '../ir.ts';
import { NEVER } from './colouring.ts';
import { flowBlock, liveOut } from './liveness.ts';
import {
  definesOf,
  type MachineBlock,
  type MachineFunction,
  type MachineInstruction,
  machineSuccessors,
  mapEndRegisters,
  mapRegisters,
  moveOf,
  usesOf,
  usesOfEnd,
  VIRTUAL,
} from './machine.ts';

/** Made anew instead of stored and loaded. */
const CHEAP = 0.3;

export class Homes {
  readonly #original: MachineFunction;
  readonly #homeOf = new Map<number, number>();
  /** Homes whose uses each load for themselves. */
  readonly #impatient = new Set<number>();
  /** Registers made by the last `spill`, and whose value they hold. */
  readonly temporaries = new Map<number, number>();
  readonly #remakes = new Map<number, MachineInstruction>();
  readonly #remakeable: ReadonlyMap<number, MachineInstruction>;
  count = 0;

  constructor(original: MachineFunction) {
    this.#original = original;
    this.#remakeable = remakeable(this.#original);
  }

  /** The home of a register, undefined where it has none. */
  of(reg: number): number | undefined {
    return this.#homeOf.get(reg);
  }

  isImpatient(home: number): boolean {
    return this.#impatient.has(home);
  }

  /** How to make the value anew; undefined where it must be stored. */
  remake(home: number): MachineInstruction | undefined {
    return this.#remakes.get(home);
  }

  /** What each use loads for itself lives too short for anything to be won by spilling it. */
  cost(reg: number, uses: number): number {
    const home = this.temporaries.get(reg);
    if (home !== undefined) return this.isImpatient(home) ? NEVER : uses * 2;
    return this.#remakeable.has(reg) ? uses * CHEAP : uses;
  }

  /** Groups of registers, joined by copies, that one round of colouring found no machine register for. */
  add(spilled: readonly (readonly number[])[]): void {
    // One home may have failed in several places, which all count as before this round.
    const impatient = new Set(this.#impatient);
    for (const joined of spilled) {
      const eager = joined.flatMap((reg) => this.temporaries.get(reg) ?? []).filter((home) => !impatient.has(home));
      const fresh = joined.filter((reg) => !this.temporaries.has(reg));
      if (fresh.length === 0 && eager.length === 0) {
        throw new Error(`Cannot spill a register twice in ${this.#original.source.name}`);
      }
      for (const home of eager) this.#impatient.add(home);
      if (fresh.length > 0) this.#settle(fresh);
    }
  }

  /** Joined registers hold one value at a time: they share a home, and the copies between them vanish. */
  #settle(joined: readonly number[]): void {
    const home = this.count++;
    for (const reg of joined) this.#homeOf.set(reg, home);
    const made = joined.length === 1 ? this.#remakeable.get(joined[0]!) : undefined;
    if (made !== undefined) this.#remakes.set(home, made);
  }
}

/** The code with loads and stores around the uses of registers that have a home. */
export function spill(original: MachineFunction, homes: Homes): MachineFunction {
  homes.temporaries.clear();
  const machine: MachineFunction = { ...original, blocks: [] };
  const before = original.blocks.map((): number[] => []);
  original.blocks.forEach(({ end }, id) => {
    for (const next of machineSuccessors(end)) before[next]!.push(id);
  });
  const left: Map<number, number>[] = [];
  original.blocks.forEach((block, id) => {
    // What one block has loaded the next may use, where no other way leads there.
    const only = before[id]!.length === 1 ? left[before[id]![0]!] : undefined;
    const run = new Run(machine, homes, new Map(only));
    machine.blocks.push(run.block(block));
    left[id] = run.loaded;
  });
  return machine;
}

class Run {
  readonly loaded: Map<number, number>;
  readonly #machine: MachineFunction;
  readonly #homes: Homes;
  readonly #code: MachineInstruction[] = [];

  constructor(machine: MachineFunction, homes: Homes, loaded: Map<number, number>) {
    this.#machine = machine;
    this.#homes = homes;
    this.loaded = loaded;
  }

  block(block: MachineBlock): MachineBlock {
    for (const one of block.code) this.#instruction(one);
    const names = this.#load(usesOfEnd(block.end), block.end.at);
    const end = mapEndRegisters(block.end, (reg) => names.get(reg) ?? reg);
    return { code: this.#code, end, frequency: block.frequency };
  }

  #instruction(one: MachineInstruction): void {
    const copy = moveOf(one);
    const dstHome = definesOf(one).length === 1 ? this.#homes.of(definesOf(one)[0]!) : undefined;
    if (dstHome !== undefined && this.#homes.remake(dstHome) !== undefined) return;
    if (copy !== undefined && dstHome !== undefined && dstHome === this.#homes.of(copy.src)) return;

    if (dstHome !== undefined && one.op === 'alu' && one.kind === 'mov' && one.width === 64 && 'imm' in one.src) {
      // A constant goes straight to its home.
      this.#code.push({ op: 'store', size: 8, base: { home: dstHome }, offset: 0, src: one.src, at: one.at });
      this.loaded.delete(dstHome);
      return;
    }
    const names = this.#load(usesOf(one), one.at);
    if (dstHome !== undefined) {
      const dst = definesOf(one)[0]!;
      // What is written in place was loaded just now; a register that others may still read as the old value is not reused.
      if (!names.has(dst)) names.set(dst, this.#temporary(dstHome));
    }
    this.#code.push(mapRegisters(one, (reg) => names.get(reg) ?? reg));
    if (one.op === 'call' || one.op === 'callFunction') this.loaded.clear();
    if (dstHome === undefined) return;
    const src = { reg: names.get(definesOf(one)[0]!)! };
    this.#code.push({ op: 'store', size: 8, base: { home: dstHome }, offset: 0, src, at: one.at });
    if (this.#homes.isImpatient(dstHome)) this.loaded.delete(dstHome);
    else this.loaded.set(dstHome, src.reg);
  }

  /** Registers that hold the values of those used here that have a home. */
  #load(used: readonly number[], at: Position): Map<number, number> {
    const names = new Map<number, number>();
    for (const reg of used) {
      const home = this.#homes.of(reg);
      if (home === undefined || names.has(reg)) continue;
      const known = this.loaded.get(home);
      if (known !== undefined) {
        names.set(reg, known);
        continue;
      }
      const dst = this.#temporary(home);
      const made = this.#homes.remake(home);
      if (made !== undefined) this.#code.push({ ...mapRegisters(made, () => dst), at });
      else this.#code.push({ op: 'load', size: 8, dst, base: { home }, offset: 0, at });
      if (!this.#homes.isImpatient(home)) this.loaded.set(home, dst);
      names.set(reg, dst);
    }
    return names;
  }

  #temporary(home: number): number {
    const reg = this.#machine.registerCount++;
    this.#homes.temporaries.set(reg, home);
    return reg;
  }
}

/** Registers with one definition, by an instruction that reads nothing and always gives the same. */
function remakeable({ blocks }: MachineFunction): Map<number, MachineInstruction> {
  const found = new Map<number, MachineInstruction>();
  const often = new Set<number>();
  for (const { code } of blocks) {
    for (const one of code) {
      for (const reg of definesOf(one)) {
        if (reg < VIRTUAL || often.has(reg)) continue;
        if (found.has(reg) || !isConstant(one)) {
          often.add(reg);
          found.delete(reg);
        } else {
          found.set(reg, one);
        }
      }
    }
  }
  return found;
}

function isConstant(one: MachineInstruction): boolean {
  if (one.op === 'alu') return one.kind === 'mov' && 'imm' in one.src;
  return one.op === 'constant' || one.op.endsWith('Address');
}

/** Arithmetic in place stores each step; only what a later load can see is needed. */
export function dropDeadHomeStores(machine: MachineFunction): MachineFunction {
  const homeOf = (one: MachineInstruction, op: 'load' | 'store'): number[] =>
    one.op === op && 'home' in one.base ? [one.base.home] : [];
  const count =
    1 +
    Math.max(
      -1,
      ...machine.blocks.flatMap(({ code }) => code.flatMap((one) => [...homeOf(one, 'load'), ...homeOf(one, 'store')])),
    );
  const flow = machine.blocks.map(({ code, end }) =>
    flowBlock(
      code.map((one) => ({ uses: homeOf(one, 'load'), defines: homeOf(one, 'store') })),
      machineSuccessors(end),
      count,
    ),
  );
  const out = liveOut(flow, count);
  const blocks = machine.blocks.map((block, id) => {
    const live = out[id]!;
    const kept: MachineInstruction[] = [];
    for (const one of [...block.code].reverse()) {
      const [stored] = homeOf(one, 'store');
      if (stored !== undefined && !live.has(stored)) continue;
      if (stored !== undefined) live.delete(stored);
      for (const home of homeOf(one, 'load')) live.add(home);
      kept.push(one);
    }
    return { ...block, code: kept.reverse() };
  });
  return { ...machine, blocks };
}
