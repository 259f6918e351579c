/**
 * Rules for one instruction at a time: fold constants, use cheaper operations, bring constants to the right-hand side.
 *
 * A rule may look through the definitions of its operands, but only where a register is defined once and so stands for one
 * value wherever it is read.
 */
import type { Condition, Instruction, Operand, Register, Terminator } from '../ir.ts';
import { branch, type If } from './control-flow.ts';
import { compare, evaluate, extend, fitsImmediate, INVERTED, MIRRORED, signed, swap, unsigned } from './evaluate.ts';
import { isRegister } from './instruction.ts';
import { type Facts, inside, limits, type Range } from './ranges.ts';

export interface Knowledge extends Facts {
  /** The only definition of a register that has one. */
  readonly definition: (reg: Register) => Instruction | undefined;
  /** Whether the register holds the same value wherever it can be read. */
  readonly isStable: (operand: Operand) => boolean;
  readonly useCount: (reg: Register) => number;
}

type Binary = Extract<Instruction, { op: 'binary' }>;
type Extend = Extract<Instruction, { op: 'extend' }>;

export function simplify(one: Instruction, known: Knowledge): Instruction {
  switch (one.op) {
    case 'const':
      return { ...one, value: signed(one.value) };
    case 'binary':
      return simplifyBinary(one, known);
    case 'extend':
      return simplifyExtend(one, known);
    case 'swap':
      return simplifySwap(one, known);
    default:
      return one;
  }
}

// Binary ------------------------------------------------------------------------------------------------------------

const COMMUTES: ReadonlySet<string> = new Set(['add', 'mul', 'and', 'or', 'xor']);

function simplifyBinary(one: Binary, known: Knowledge): Instruction {
  const { kind, width, dst, a, b, at } = one;
  if (!isRegister(a) && !isRegister(b)) return { op: 'const', dst, value: evaluate(kind, width, a.imm, b.imm), at };
  if (!isRegister(a)) return COMMUTES.has(kind) ? simplifyBinary({ ...one, a: b, b: a }, known) : one;
  if (isRegister(b)) return halfDivision(one, known);
  return withConstant(one, a.reg, signed(width === 32 ? unsigned(b.imm, 32) : b.imm), known);
}

/** Dividing 32 bits by 32 is several times faster than 64 by 64. */
function halfDivision(one: Binary, known: Knowledge): Binary {
  const small = (operand: Operand): boolean => inside(known.range(operand), limits(32, false));
  const divides = one.kind === 'div' || one.kind === 'mod';
  return divides && one.width === 64 && small(one.a) && small(one.b) ? { ...one, width: 32 } : one;
}

function withConstant(one: Binary, a: Register, b: bigint, known: Knowledge): Instruction {
  const { kind, width, dst, at } = one;
  const value = (result: bigint): Instruction => ({ op: 'const', dst, value: result, at });
  const same = (): Instruction =>
    width === 64
      ? { op: 'move', dst, src: a, at }
      : simplifyExtend({ op: 'extend', dst, src: a, bits: 32, signed: false, at }, known);
  const instead = (other: Binary['kind'], imm: bigint): Instruction =>
    simplifyBinary({ ...one, kind: other, a: { reg: a }, b: { imm } }, known);
  const power = exponent(unsigned(b, width));
  switch (kind) {
    case 'sub':
      return instead('add', signed(-b));
    case 'add':
      return b === 0n ? same() : addConstant(one, a, b, known);
    case 'or':
    case 'xor':
      return b === 0n ? same() : { ...one, b: { imm: b } };
    case 'shl':
    case 'shr':
    case 'sar': {
      const distance = b & BigInt(width - 1);
      return distance === 0n ? same() : { ...one, b: { imm: distance } };
    }
    case 'mul':
      if (b === 0n) return value(0n);
      return power === undefined ? one : power === 0n ? same() : instead('shl', power);
    case 'div':
      if (b === 0n) return value(0n);
      return power === undefined ? halfDivision(one, known) : power === 0n ? same() : instead('shr', power);
    case 'mod':
      if (b === 0n) return same();
      if (power === undefined) return halfDivision(one, known);
      return power === 0n ? value(0n) : instead('and', unsigned(b, width) - 1n);
    case 'and':
      return maskWith(one, a, b, known, same);
  }
}

/** `x + c` where x is itself `y + d`: `y + (c + d)`, so that a chain of headers hangs on one pointer. */
function addConstant(one: Binary, a: Register, b: bigint, known: Knowledge): Instruction {
  const plain: Instruction = { ...one, a: { reg: a }, b: { imm: b } };
  if (one.width !== 64) return plain;
  const inner = known.definition(a);
  if (inner?.op === 'slotAddress') {
    return { op: 'slotAddress', dst: one.dst, slot: inner.slot, offset: inner.offset + Number(b), at: one.at };
  }
  if (inner?.op !== 'binary' || inner.kind !== 'add' || inner.width !== 64) return plain;
  if (!isRegister(inner.a) || isRegister(inner.b) || !known.isStable(inner.a)) return plain;
  // A number that stays in use would only keep a second one alive.
  if (known.useCount(a) > 1 && !known.isPointer(inner.a)) return plain;
  const sum = signed(inner.b.imm + b);
  return fitsImmediate(sum) ? { ...one, a: inner.a, b: { imm: sum } } : plain;
}

function maskWith(one: Binary, a: Register, b: bigint, known: Knowledge, same: () => Instruction): Instruction {
  if (b === 0n) return { op: 'const', dst: one.dst, value: 0n, at: one.at };
  const mask = unsigned(b, one.width);
  if (mask === unsigned(-1n, one.width)) return same();
  for (const bits of [8, 16, 32] as const) {
    if (mask !== (1n << BigInt(bits)) - 1n) continue;
    return simplifyExtend({ op: 'extend', dst: one.dst, src: a, bits, signed: false, at: one.at }, known);
  }
  // A mask that covers the whole range of its operand changes nothing.
  const range = known.range({ reg: a });
  if (exponent(mask + 1n) !== undefined && inside(range, { min: 0, max: Number(mask) }) && mask < 2n ** 53n)
    return same();
  return { ...one, a: { reg: a }, b: { imm: b } };
}

/** k where value is 2^k. */
function exponent(value: bigint): bigint | undefined {
  if (value <= 0n || (value & (value - 1n)) !== 0n) return undefined;
  return BigInt(value.toString(2).length - 1);
}

// Extensions and swaps ----------------------------------------------------------------------------------------------

/** The low half of these depends only on the low halves of their operands. */
const LOW_HALF: ReadonlySet<string> = new Set(['add', 'sub', 'mul', 'and', 'or', 'xor']);

function simplifyExtend(one: Extend, known: Knowledge): Instruction {
  if (inside(known.range({ reg: one.src }), limits(one.bits, one.signed))) {
    return { op: 'move', dst: one.dst, src: one.src, at: one.at };
  }
  const inner = known.definition(one.src);
  if (inner?.op === 'const')
    return { op: 'const', dst: one.dst, value: extend(inner.value, one.bits, one.signed), at: one.at };
  if (inner?.op === 'extend' && one.bits <= inner.bits && known.isStable({ reg: inner.src })) {
    return { ...one, src: inner.src };
  }
  const narrows =
    inner?.op === 'binary' && LOW_HALF.has(inner.kind) && known.isStable(inner.a) && known.isStable(inner.b);
  if (narrows && one.bits === 32 && !one.signed && known.useCount(one.src) === 1) {
    return { ...inner, width: 32, dst: one.dst, at: one.at };
  }
  return one;
}

function simplifySwap(one: Extract<Instruction, { op: 'swap' }>, known: Knowledge): Instruction {
  const inner = known.definition(one.src);
  if (inner?.op === 'const') return { op: 'const', dst: one.dst, value: swap(inner.value, one.bits), at: one.at };
  if (inner?.op !== 'swap' || inner.bits !== one.bits || !known.isStable({ reg: inner.src })) return one;
  if (one.bits === 64) return { op: 'move', dst: one.dst, src: inner.src, at: one.at };
  return simplifyExtend(
    { op: 'extend', dst: one.dst, src: inner.src, bits: one.bits, signed: false, at: one.at },
    known,
  );
}

// Ends --------------------------------------------------------------------------------------------------------------

export function simplifyEnd(end: Terminator, known: Knowledge): Terminator {
  if (end.op !== 'if') return end;
  if (end.then === end.else) return { op: 'goto', to: end.then, at: end.at };
  const decided = decide(end, known);
  if (decided !== undefined) return { op: 'goto', to: decided ? end.then : end.else, at: end.at };
  if (!isRegister(end.a)) return simplifyEnd({ ...end, condition: MIRRORED[end.condition], a: end.b, b: end.a }, known);
  return simplifyTest(nearZero(end), known);
}

/** `x > 0` is `x != 0`. */
function nearZero(end: If): If {
  if (isRegister(end.b)) return end;
  const { condition } = end;
  const is = (imm: bigint): boolean => !isRegister(end.b) && unsigned(end.b.imm, end.width) === imm;
  const zero = { imm: 0n };
  if ((condition === 'gt' && is(0n)) || (condition === 'ge' && is(1n))) return { ...end, condition: 'ne', b: zero };
  if ((condition === 'le' && is(0n)) || (condition === 'lt' && is(1n))) return { ...end, condition: 'eq', b: zero };
  return end;
}

function simplifyTest(end: If, known: Knowledge): Terminator {
  if ((end.condition !== 'eq' && end.condition !== 'ne') || !isRegister(end.a)) return end;
  const left = known.definition(end.a.reg);
  if (left?.op === 'swap') return compareSwapped(end, left, known);
  // (x & mask) != 0 is one jump.
  if (left?.op !== 'binary' || left.kind !== 'and' || left.width !== end.width || known.useCount(end.a.reg) !== 1)
    return end;
  if (isRegister(end.b) || unsigned(end.b.imm, end.width) !== 0n) return end;
  if (!known.isStable(left.a) || !known.isStable(left.b)) return end;
  const test: If = { ...end, condition: 'set', a: left.a, b: left.b };
  return end.condition === 'ne' ? test : branch(test, end.else, end.then);
}

/** `ntohs(x) === 80` compares x with 80 swapped, once, here. */
function compareSwapped(end: If, left: Extract<Instruction, { op: 'swap' }>, known: Knowledge): Terminator {
  const fits = (reg: Register): boolean =>
    known.isStable({ reg }) && (left.bits === 64 || inside(known.range({ reg }), limits(left.bits, false)));
  if (!fits(left.src)) return end;
  if (!isRegister(end.b)) {
    if (left.bits === 64 && end.width === 32) return end;
    const imm = unsigned(end.b.imm, end.width);
    if (left.bits !== 64 && imm !== unsigned(imm, left.bits)) {
      return { op: 'goto', to: end.condition === 'eq' ? end.else : end.then, at: end.at };
    }
    return { ...end, a: { reg: left.src }, b: { imm: swap(imm, left.bits) } };
  }
  const right = known.definition(end.b.reg);
  if (right?.op !== 'swap' || right.bits !== left.bits || !fits(right.src) || end.width < left.bits) return end;
  return { ...end, a: { reg: left.src }, b: { reg: right.src } };
}

/** Whether the condition always or never holds. */
function decide(end: If, known: Knowledge): boolean | undefined {
  const { a, b, condition, width } = end;
  if (!isRegister(a) && !isRegister(b)) return compare(condition, width, a.imm, b.imm);
  if (isRegister(a) && isRegister(b) && a.reg === b.reg && condition !== 'set')
    return compare(condition, width, 0n, 0n);
  if (!isRegister(b) && b.imm === 0n && known.isPointer(a)) {
    if (condition === 'eq' || condition === 'le') return false;
    if (condition === 'ne' || condition === 'gt') return true;
  }
  const left = readAs(known.range(a), condition, width);
  const right = readAs(known.range(b), condition, width);
  return left === undefined || right === undefined ? undefined : decideRanges(condition, left, right);
}

/** The range as this comparison reads it, where both readings agree. */
function readAs(range: Range | undefined, condition: Condition, width: 32 | 64): Range | undefined {
  const isSigned = condition.startsWith('s') && condition !== 'set';
  if (width === 32) return inside(range, limits(32, isSigned)) ? range : undefined;
  return isSigned || inside(range, { min: 0, max: Number.MAX_SAFE_INTEGER }) ? range : undefined;
}

export function decideRanges(condition: Condition, a: Range, b: Range): boolean | undefined {
  switch (condition) {
    case 'eq':
      if (a.max < b.min || b.max < a.min) return false;
      return a.min === a.max && b.min === b.max ? true : undefined;
    case 'lt':
    case 'slt':
      return a.max < b.min ? true : a.min >= b.max ? false : undefined;
    case 'le':
    case 'sle':
      return a.max <= b.min ? true : a.min > b.max ? false : undefined;
    case 'set':
      return a.max === 0 || b.max === 0 ? false : undefined;
    default: {
      const opposite = decideRanges(INVERTED[condition]!, a, b);
      return opposite === undefined ? undefined : !opposite;
    }
  }
}
