/**
 * One register per value: a variable that is assigned twice, with no use that both reach, becomes two registers.
 *
 * Lowering maps each TypeScript variable to one register. Apart, most are defined once, which is what copy propagation,
 * constants and ranges can reason about without asking where they are.
 */
import type { Register } from '../ir.ts';
import { BitSet } from './bit-set.ts';
import { type Body, definitionCounts } from './body.ts';
import { successors } from './control-flow.ts';
import { definedBy, mapEndUses, mapUses, usedBy, usedByEnd, withDefinition } from './instruction.ts';

interface Definition {
  readonly register: Register;
  /** The next definition that shares a use with this one. */
  parent: number;
}

export function splitWebs(body: Body): void {
  const counts = definitionCounts(body);
  const often = (reg: Register | undefined): reg is Register => reg !== undefined && counts[reg]! > 1;
  const definitions: Definition[] = [];
  const byRegister = new Map<Register, number[]>();
  const define = (register: Register): number => {
    const id = definitions.push({ register, parent: definitions.length }) - 1;
    byRegister.set(register, [...(byRegister.get(register) ?? []), id]);
    return id;
  };
  const entry = body.source.params.filter(often).map(define);
  // Definitions of a block in the order of its instructions.
  const inBlock = body.blocks.map(({ instructions }) =>
    instructions.flatMap((one) => (often(definedBy(one)) ? [define(definedBy(one)!)] : [])),
  );
  if (definitions.length === entry.length) return;

  const reaching = reachingDefinitions(body, definitions, byRegister, entry, inBlock);
  const find = (id: number): number => {
    let root = id;
    while (definitions[root]!.parent !== root) root = definitions[root]!.parent;
    definitions[id]!.parent = root;
    return root;
  };

  // Definitions that reach one use belong together.
  const walk = (visit: (reg: Register, reached: readonly number[]) => void): void => {
    for (const block of body.blocks) {
      const now = new Map<Register, number[]>();
      const reached = (reg: Register): number[] =>
        now.get(reg) ?? byRegister.get(reg)!.filter((id) => reaching[block.id]!.has(id));
      let next = 0;
      for (const one of block.instructions) {
        for (const reg of usedBy(one)) if (often(reg)) visit(reg, reached(reg));
        const dst = definedBy(one);
        if (often(dst)) now.set(dst, [inBlock[block.id]![next++]!]);
      }
      for (const reg of usedByEnd(block.end)) if (often(reg)) visit(reg, reached(reg));
    }
  };
  walk((_, reached) => {
    for (const id of reached) definitions[find(id)]!.parent = find(reached[0]!);
  });
  rename(body, { definitions, byRegister, inBlock, entry, reaching, find, often });
}

interface Webs {
  readonly definitions: readonly Definition[];
  readonly byRegister: ReadonlyMap<Register, readonly number[]>;
  readonly inBlock: readonly (readonly number[])[];
  readonly entry: readonly number[];
  readonly reaching: readonly BitSet[];
  readonly find: (id: number) => number;
  readonly often: (reg: Register | undefined) => reg is Register;
}

/** The first web of a register keeps its number (a parameter's must), the others get new ones. */
function rename(body: Body, { definitions, byRegister, inBlock, reaching, find, often }: Webs): void {
  const nameOf = new Map<number, Register>();
  const taken = new Set<Register>();
  definitions.forEach(({ register }, id) => {
    const root = find(id);
    if (nameOf.has(root)) return;
    if (taken.has(register)) {
      const fresh = body.registerCount++;
      nameOf.set(root, fresh);
      const name = body.names.get(register);
      if (name !== undefined) body.names.set(fresh, name);
    } else {
      taken.add(register);
      nameOf.set(root, register);
    }
  });
  for (const block of body.blocks) {
    const now = new Map<Register, Register>();
    const current = (reg: Register): Register => {
      if (!often(reg)) return reg;
      const here = now.get(reg);
      if (here !== undefined) return here;
      const reached = byRegister.get(reg)!.find((id) => reaching[block.id]!.has(id));
      return reached === undefined ? reg : nameOf.get(find(reached))!;
    };
    let next = 0;
    block.instructions.forEach((one, index) => {
      const read = mapUses(one, (reg) => ({ reg: current(reg) }));
      const dst = definedBy(one);
      if (!often(dst)) {
        block.instructions[index] = read;
        return;
      }
      const name = nameOf.get(find(inBlock[block.id]![next++]!))!;
      now.set(dst, name);
      block.instructions[index] = withDefinition(read, name);
    });
    block.end = mapEndUses(block.end, (reg) => ({ reg: current(reg) }));
  }
}

/** The definitions that may have made a register's value at the start of each block. */
function reachingDefinitions(
  body: Body,
  definitions: readonly Definition[],
  byRegister: ReadonlyMap<Register, readonly number[]>,
  entry: readonly number[],
  inBlock: readonly (readonly number[])[],
): BitSet[] {
  const size = definitions.length;
  const made = inBlock.map((ids) => {
    const last = new Map(ids.map((id) => [definitions[id]!.register, id]));
    const set = new BitSet(size);
    for (const id of last.values()) set.add(id);
    return set;
  });
  const killed = inBlock.map((ids) => {
    const set = new BitSet(size);
    for (const id of ids) for (const other of byRegister.get(definitions[id]!.register)!) set.add(other);
    return set;
  });
  const reaching = body.blocks.map(() => new BitSet(size));
  for (const id of entry) reaching[0]!.add(id);
  for (let changed = true; changed; ) {
    changed = false;
    for (const { id, end } of body.blocks) {
      const out = made[id]!.clone();
      out.addAll(reaching[id]!, killed[id]);
      for (const next of successors(end)) if (reaching[next]!.addAll(out)) changed = true;
    }
  }
  return reaching;
}
