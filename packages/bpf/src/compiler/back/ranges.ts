/**
 * What is known of a register wherever it is read: an interval, and whether it is a pointer that cannot be null.
 *
 * Only facts that the verifier finds as well: a mask or a test that we could prove needless, but it could not, must stay
 * (so a byte swap, a division and a helper's result are unknown here). Values are read as signed 64-bit numbers and
 * given up beyond 2^53.
 */
import type { Instruction, Operand, Register } from '../ir.ts';
import type { Body } from './body.ts';
import { definedBy, isRegister } from './instruction.ts';

export interface Range {
  readonly min: number;
  readonly max: number;
}

export interface Facts {
  /** Undefined: anything. */
  readonly range: (operand: Operand) => Range | undefined;
  /** A pointer that needs no null check. */
  readonly isPointer: (operand: Operand) => boolean;
}

const U32: Range = { min: 0, max: 0xffff_ffff };
/** A loop's counter would grow step by step; after so many changes it is anything. */
const PATIENCE = 4;

export function factsOf(body: Body): Facts {
  const ranges = new Array<Range | undefined>(body.registerCount).fill(undefined);
  const seen = new Array<boolean>(body.registerCount).fill(false);
  const pointers = new Array<boolean>(body.registerCount).fill(true);
  const contexts = new Array<boolean>(body.registerCount).fill(true);
  const changes = new Array<number>(body.registerCount).fill(0);
  for (const param of body.source.params) {
    seen[param] = true;
    pointers[param] = body.source.kind === 'entry';
    contexts[param] = param === body.packet?.context;
  }
  const isPacketLoad = (one: Instruction): boolean =>
    one.op === 'load' && 'reg' in one.base && contexts[one.base.reg]! && packetField(body, one.offset);

  const range = (operand: Operand): Range | undefined => {
    if (!isRegister(operand)) return exactly(operand.imm);
    return ranges[operand.reg];
  };
  const isPointer = (operand: Operand): boolean => isRegister(operand) && pointers[operand.reg]!;
  const isUnseen = (operand: Operand): boolean => isRegister(operand) && !seen[operand.reg]!;

  const learn = (dst: Register, one: Instruction): boolean => {
    let changed = false;
    if (contexts[dst] && !(one.op === 'move' && contexts[one.src])) {
      contexts[dst] = false;
      changed = true;
    }
    if (pointers[dst] && !isPacketLoad(one) && !givesPointer(one, isPointer)) {
      pointers[dst] = false;
      changed = true;
    }
    // An operand whose own definition has not been met yet says nothing so far: this one will be met again.
    if (operandsOf(one).some(isUnseen)) return changed;
    const now = isPacketLoad(one) ? undefined : rangeOf(one, range);
    const joined = seen[dst] ? join(ranges[dst], now) : now;
    if (seen[dst] && same(joined, ranges[dst])) return changed;
    seen[dst] = true;
    ranges[dst] = changes[dst]!++ < PATIENCE ? joined : undefined;
    return true;
  };

  for (let changed = true; changed; ) {
    changed = false;
    for (const { instructions } of body.blocks) {
      for (const one of instructions) {
        const dst = definedBy(one);
        if (dst !== undefined && learn(dst, one)) changed = true;
      }
    }
  }
  return { range, isPointer };
}

function operandsOf(one: Instruction): Operand[] {
  if (one.op === 'binary') return [one.a, one.b];
  if (one.op === 'move' || one.op === 'extend') return [{ reg: one.src }];
  return [];
}

function givesPointer(one: Instruction, isPointer: (operand: Operand) => boolean): boolean {
  switch (one.op) {
    case 'slotAddress':
    case 'mapAddress':
    case 'mapValueAddress':
    case 'functionAddress':
      return true;
    case 'move':
      return isPointer({ reg: one.src });
    case 'binary':
      return one.width === 64 && one.kind === 'add' && (isPointer(one.a) || isPointer(one.b));
    default:
      return false;
  }
}

/** The kernel gives a pointer for these 32-bit fields of the context. */
function packetField({ packet }: Body, offset: number): boolean {
  return packet !== undefined && (offset === packet.data || offset === packet.end);
}

function rangeOf(one: Instruction, range: (operand: Operand) => Range | undefined): Range | undefined {
  switch (one.op) {
    case 'const':
      return exactly(one.value);
    case 'move':
      return range({ reg: one.src });
    case 'extend':
      return extended(range({ reg: one.src }), one.bits, one.signed);
    case 'load':
      if (one.size === 8) return undefined;
      return limits((one.size * 8) as 8 | 16 | 32, one.signed === true);
    case 'atomic':
      return one.size === 4 ? U32 : undefined;
    case 'binary': {
      const wide = binaryRange(one.kind, range(one.a), range(one.b));
      if (one.width === 64) return wide;
      // Of a quotient and of a shift by an unknown distance the verifier does not even know that it has 32 bits.
      const shifts = one.kind === 'shl' || one.kind === 'shr' || one.kind === 'sar';
      if (one.kind === 'div' || one.kind === 'mod' || (shifts && isRegister(one.b))) return undefined;
      const halves = inside(range(one.a), U32) && inside(range(one.b), U32);
      return halves && inside(wide, U32) && one.kind !== 'sar' ? wide : U32;
    }
    default:
      return undefined;
  }
}

export function limits(bits: 8 | 16 | 32, isSigned: boolean): Range {
  return isSigned ? { min: -(2 ** (bits - 1)), max: 2 ** (bits - 1) - 1 } : { min: 0, max: 2 ** bits - 1 };
}

export function inside(range: Range | undefined, outer: Range): boolean {
  return range !== undefined && range.min >= outer.min && range.max <= outer.max;
}

function extended(range: Range | undefined, bits: 8 | 16 | 32, isSigned: boolean): Range {
  const all = limits(bits, isSigned);
  return inside(range, all) ? range! : all;
}

type Kind = Extract<Instruction, { op: 'binary' }>['kind'];

function binaryRange(kind: Kind, a: Range | undefined, b: Range | undefined): Range | undefined {
  if (kind === 'and') {
    const bounds = [a, b].filter((r) => r !== undefined && r.min >= 0).map((r) => r!.max);
    return bounds.length === 0 ? undefined : { min: 0, max: Math.min(...bounds) };
  }
  if (kind === 'shr' && a === undefined && b !== undefined && b.min === b.max && b.min > 11 && b.min < 64) {
    return { min: 0, max: 2 ** (64 - b.min) - 1 };
  }
  if (a === undefined || b === undefined) return undefined;
  switch (kind) {
    case 'add':
      return checked(a.min + b.min, a.max + b.max);
    case 'sub':
      return checked(a.min - b.max, a.max - b.min);
    case 'mul': {
      if (!inside(a, U32) || !inside(b, U32)) return undefined;
      const corners = [a.min * b.min, a.min * b.max, a.max * b.min, a.max * b.max];
      return checked(Math.min(...corners), Math.max(...corners));
    }
    case 'or':
    case 'xor':
      if (a.min < 0 || b.min < 0) return undefined;
      return { min: 0, max: 2 ** bitsOf(Math.max(a.max, b.max)) - 1 };
    case 'shl':
      if (a.min < 0 || b.min !== b.max || b.min < 0 || b.min > 52) return undefined;
      return checked(a.min * 2 ** b.min, a.max * 2 ** b.min);
    case 'shr':
    case 'sar':
      if ((kind === 'shr' && a.min < 0) || b.min !== b.max || b.min < 0 || b.min > 63) return undefined;
      return { min: Math.floor(a.min / 2 ** b.min), max: Math.floor(a.max / 2 ** b.min) };
    default:
      return undefined;
  }
}

function bitsOf(value: number): number {
  return value === 0 ? 0 : Math.floor(Math.log2(value)) + 1;
}

function exactly(value: bigint): Range | undefined {
  const number = Number(BigInt.asIntN(64, value));
  return Number.isSafeInteger(number) ? { min: number, max: number } : undefined;
}

function checked(min: number, max: number): Range | undefined {
  return Number.isSafeInteger(min) && Number.isSafeInteger(max) ? { min, max } : undefined;
}

function join(a: Range | undefined, b: Range | undefined): Range | undefined {
  if (a === undefined || b === undefined) return undefined;
  return { min: Math.min(a.min, b.min), max: Math.max(a.max, b.max) };
}

function same(a: Range | undefined, b: Range | undefined): boolean {
  return a?.min === b?.min && a?.max === b?.max;
}
