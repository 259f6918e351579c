/**
 * Jumps past tests whose outcome is known from where one comes.
 *
 * An inlined function leaves `pointer or 0` in a register, and its caller tests it; a comparison in a variable is 0 or 1,
 * and is tested. From the block that just put 0 there the test goes one way, so that block jumps there at once, taking
 * along copies of the few instructions in between:
 *
 *     B: r = 0             B: r = 0; r' = r; goto none
 *        goto J       =>
 *     J: r' = r            J: (for the others, or dropped)
 *        if r' == 0 goto none else found
 *
 * It spares instructions, and it spares the verifier a state in which the pointer may be null and may be not.
 */
import type { Block, Instruction, Operand, Register, Terminator } from '../ir.ts';
import type { Body } from './body.ts';
import { predecessors, successors } from './control-flow.ts';
import { compare, evaluate, extend, swap, unsigned } from './evaluate.ts';
import { definedBy, isPure, isRegister } from './instruction.ts';
import { type Facts, factsOf } from './ranges.ts';

/** Instructions copied to get past one test. More would cost more than the test does. */
const MAX_COPIED = 6;
const MAX_BLOCKS = 12;
/** How far back to look for where a value comes from. */
const MAX_DEPTH = 40;

/** A constant, or some constants that it is not. */
type Known = { readonly value: bigint } | { readonly not: readonly Exclusion[] };

/** A width of 32 says it of the low half. */
interface Exclusion {
  readonly value: bigint;
  readonly width: 32 | 64;
}

const UNKNOWN: Known = { not: [] };
const NONZERO: Known = { not: [{ value: 0n, width: 64 }] };

type Edge = 'to' | 'then' | 'else';

/** Whether anything changed. */
export function threadJumps(body: Body): boolean {
  const threading = new Threading(body);
  let changed = false;
  for (const block of [...body.blocks]) {
    for (const edge of edgesOf(block.end)) if (threading.redirect(block, edge)) changed = true;
  }
  return changed;
}

class Threading {
  readonly #body: Body;
  readonly #facts: Facts;
  readonly #before: number[][];
  /** Each test that is passed by may be copied into many predecessors: the sum is kept in proportion to the function. */
  #budget: number;

  constructor(body: Body) {
    this.#body = body;
    this.#facts = factsOf(body);
    this.#before = predecessors(body.blocks);
    this.#budget = 100 + body.blocks.length * 2;
  }

  redirect(from: Block, edge: Edge): boolean {
    const found = this.#walk(from, edge);
    if (found === undefined || found.copied.length > this.#budget) return false;
    this.#budget -= found.copied.length;
    let target = found.target;
    if (found.copied.length > 0) {
      target = this.#body.blocks.length;
      this.#body.blocks.push({
        id: target,
        instructions: found.copied,
        end: { op: 'goto', to: found.target, at: found.at },
      });
      this.#before.push([]);
      this.#before[found.target]!.push(target);
    }
    for (const next of successors(from.end)) this.#before[next] = this.#before[next]!.filter((id) => id !== from.id);
    from.end = { ...from.end, [edge]: target } as Terminator;
    for (const next of successors(from.end)) this.#before[next]!.push(from.id);
    return true;
  }

  /** Follows control from an edge as far as it is certain and cheap; the place behind the last test that was decided. */
  #walk(from: Block, edge: Edge): { copied: Instruction[]; target: number; at: Terminator['at'] } | undefined {
    const here = new Map<Register, Known>();
    const know = (operand: Operand): Known => {
      if (!isRegister(operand)) return { value: operand.imm };
      const held = here.get(operand.reg);
      if (held !== undefined) return held;
      const known = this.#facts.isPointer(operand) ? NONZERO : this.#atEdge(from, edge, operand.reg, MAX_DEPTH);
      here.set(operand.reg, known);
      return known;
    };
    const copied: Instruction[] = [];
    const seen = new Set<number>();
    let best: { copied: Instruction[]; target: number; at: Terminator['at'] } | undefined;
    for (let at = targetOf(from.end, edge); seen.size < MAX_BLOCKS && !seen.has(at); ) {
      seen.add(at);
      const { instructions, end } = this.#body.blocks[at]!;
      if (copied.length + instructions.length > MAX_COPIED || !instructions.every(isPure)) break;
      for (const one of instructions) {
        copied.push(one);
        const dst = definedBy(one)!;
        here.set(dst, this.#facts.isPointer({ reg: dst }) ? NONZERO : result(one, know));
      }
      if (end.op === 'return') break;
      if (end.op === 'if') {
        const outcome = decide(end, know);
        if (outcome === undefined) break;
        at = outcome ? end.then : end.else;
        best = { copied: [...copied], target: at, at: end.at };
      } else {
        at = end.to;
      }
    }
    return best;
  }

  /** What is known of a register when control leaves a block by this edge. */
  #atEdge(block: Block, edge: Edge | undefined, reg: Register, depth: number): Known {
    const tested = edge === undefined ? UNKNOWN : learnt(block.end, edge, reg);
    if (isValue(tested)) return tested;
    const earlier = this.#atEnd(block, reg, depth);
    return isValue(earlier) ? earlier : { not: [...tested.not, ...earlier.not] };
  }

  /** Before a block's own test. */
  #atEnd(block: Block, reg: Register, depth: number): Known {
    for (let i = block.instructions.length - 1; i >= 0; i--) {
      const one = block.instructions[i]!;
      if (definedBy(one) !== reg) continue;
      if (one.op === 'const') return { value: one.value };
      if (this.#facts.isPointer({ reg })) return NONZERO;
      if (one.op !== 'move' || depth === 0) return UNKNOWN;
      return this.#atEnd({ ...block, instructions: block.instructions.slice(0, i) }, one.src, depth - 1);
    }
    return this.#atStart(block, reg, depth);
  }

  #atStart(block: Block, reg: Register, depth: number): Known {
    const before = this.#before[block.id] ?? [];
    if (before.length !== 1 || depth === 0 || block.id === 0) return UNKNOWN;
    const only = this.#body.blocks[before[0]!]!;
    const edges = edgesOf(only.end).filter((edge) => targetOf(only.end, edge) === block.id);
    return this.#atEdge(only, edges.length === 1 ? edges[0] : undefined, reg, depth - 1);
  }
}

function edgesOf(end: Terminator): Edge[] {
  return end.op === 'goto' ? ['to'] : end.op === 'if' ? ['then', 'else'] : [];
}

function targetOf(end: Terminator, edge: Edge): number {
  return (end as unknown as Record<Edge, number>)[edge];
}

/** What taking this way of an `if` says about a register. */
function learnt(end: Terminator, edge: Edge, reg: Register): Known {
  if (end.op !== 'if' || !isRegister(end.a) || end.a.reg !== reg || isRegister(end.b)) return UNKNOWN;
  const { condition, width } = end;
  const value = end.b.imm;
  if (condition !== 'eq' && condition !== 'ne') return UNKNOWN;
  if ((condition === 'ne') === (edge === 'then')) return { not: [{ value, width }] };
  // By the low half alone nothing is known of the whole.
  return width === 64 ? { value } : UNKNOWN;
}

function result(one: Instruction, know: (operand: Operand) => Known): Known {
  switch (one.op) {
    case 'const':
      return { value: one.value };
    case 'move':
      return know({ reg: one.src });
    case 'slotAddress':
    case 'mapAddress':
    case 'mapValueAddress':
    case 'functionAddress':
      return NONZERO;
    case 'binary': {
      const a = know(one.a);
      const b = know(one.b);
      return isValue(a) && isValue(b) ? { value: evaluate(one.kind, one.width, a.value, b.value) } : UNKNOWN;
    }
    case 'extend': {
      const from = know({ reg: one.src });
      return isValue(from) ? { value: extend(from.value, one.bits, one.signed) } : UNKNOWN;
    }
    case 'swap': {
      const from = know({ reg: one.src });
      return isValue(from) ? { value: swap(from.value, one.bits) } : UNKNOWN;
    }
    default:
      return UNKNOWN;
  }
}

function decide(end: Extract<Terminator, { op: 'if' }>, know: (operand: Operand) => Known): boolean | undefined {
  const a = know(end.a);
  const b = know(end.b);
  if (isValue(a) && isValue(b)) return compare(end.condition, end.width, a.value, b.value);
  if (isValue(a) || !isValue(b) || !a.not.some((one) => excludes(one, b.value, end.width))) return undefined;
  const aboveZero = b.value === 0n;
  if (end.condition === 'eq' || (end.condition === 'le' && aboveZero)) return false;
  return end.condition === 'ne' || (end.condition === 'gt' && aboveZero) ? true : undefined;
}

function excludes(one: Exclusion, value: bigint, width: 32 | 64): boolean {
  return unsigned(one.value, one.width) === unsigned(value, one.width) && (one.width === 32 || width === 64);
}

function isValue(known: Known): known is { readonly value: bigint } {
  return 'value' in known;
}
