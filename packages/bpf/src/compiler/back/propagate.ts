/**
 * Copies and constants reach their uses, instructions are simplified with what is known of their operands, and constant
 * offsets go into the loads and stores.
 */
import type { Base, Instruction, Operand, Register } from '../ir.ts';
import { type Body, definitionCounts, singleDefinitions } from './body.ts';
import { definedBy, isRegister, mapEndUses, mapUses, usedBy, usedByEnd } from './instruction.ts';
import { factsOf } from './ranges.ts';
import { type Knowledge, simplify, simplifyEnd } from './simplify.ts';

export function propagate(body: Body): void {
  const known = knowledgeOf(body);
  for (const block of body.blocks) {
    const local = new LocalCopies(known);
    block.instructions = block.instructions.flatMap((one) => {
      const read = mapUses(one, local.current);
      if (isEmptyLoop(read) && read.dst === undefined) return [];
      const better = isEmptyLoop(read) ? noRounds(read) : foldAddress(simplify(read, known), known);
      local.define(better);
      return [better];
    });
    block.end = simplifyEnd(mapEndUses(block.end, local.current), known);
  }
}

function knowledgeOf(body: Body): Knowledge {
  const definitions = singleDefinitions(body);
  const counts = definitionCounts(body);
  const uses = new Array<number>(body.registerCount).fill(0);
  for (const { instructions, end } of body.blocks) {
    for (const one of instructions) for (const reg of usedBy(one)) uses[reg]!++;
    for (const reg of usedByEnd(end)) uses[reg]!++;
  }
  return {
    ...factsOf(body),
    definition: (reg) => definitions[reg],
    isStable: (operand) => !isRegister(operand) || counts[operand.reg] === 1,
    useCount: (reg) => uses[reg]!,
  };
}

/** What registers are copies of at one point of a block: anywhere for registers defined once, until a change for others. */
class LocalCopies {
  readonly #known: Knowledge;
  readonly #copies = new Map<Register, Operand>();

  constructor(known: Knowledge) {
    this.#known = known;
  }

  readonly current = (reg: Register): Operand => {
    const here = this.#copies.get(reg);
    if (here !== undefined) return here;
    const definition = this.#known.definition(reg);
    if (definition?.op === 'const') return { imm: definition.value };
    if (definition?.op === 'move' && this.#known.isStable({ reg: definition.src })) return this.current(definition.src);
    return { reg };
  };

  define(one: Instruction): void {
    const dst = definedBy(one);
    if (dst === undefined) return;
    this.#copies.delete(dst);
    for (const [copy, of] of this.#copies) if (isRegister(of) && of.reg === dst) this.#copies.delete(copy);
    if (one.op === 'const') this.#copies.set(dst, { imm: one.value });
    if (one.op === 'move' && one.src !== dst) this.#copies.set(dst, { reg: one.src });
  }
}

const BPF_LOOP = 181;
type Call = Extract<Instruction, { op: 'call' }>;

/**
 * A loop of no rounds. The verifier would drop its callback as dead code and then fail to find what the callback's address
 * points to ("No program to jit").
 */
function isEmptyLoop(one: Instruction): one is Call {
  if (one.op !== 'call' || one.helper !== BPF_LOOP) return false;
  const rounds = one.args[0];
  return rounds !== undefined && !isRegister(rounds) && BigInt.asUintN(32, rounds.imm) === 0n;
}

function noRounds({ dst, at }: Call): Instruction {
  return { op: 'const', dst: dst!, value: 0n, at };
}

/** `p = q + 14; load [p + 2]` becomes `load [q + 16]`: p often dies of it, and a checked packet pointer stays the one. */
function foldAddress(one: Instruction, known: Knowledge): Instruction {
  if (one.op !== 'load' && one.op !== 'store' && one.op !== 'atomic') return one;
  let { base, offset }: { base: Base; offset: number } = one;
  while ('reg' in base) {
    const definition = known.definition(base.reg);
    if (definition?.op === 'slotAddress') {
      offset += definition.offset;
      base = { slot: definition.slot };
      break;
    }
    if (definition?.op !== 'binary' || definition.kind !== 'add' || definition.width !== 64) break;
    if (!isRegister(definition.a) || isRegister(definition.b) || !known.isStable(definition.a)) break;
    const further = offset + Number(definition.b.imm);
    if (further < -0x8000 || further > 0x7fff) break;
    offset = further;
    base = definition.a;
  }
  return { ...one, base, offset };
}
