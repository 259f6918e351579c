/**
 * How many low bits of each register anyone looks at. What only makes the bits above right is left out: the narrowing of
 * a value that is stored in a u16, the sign of a number that is compared by its low half.
 */
import type { Instruction, Operand, Register } from '../ir.ts';
import { type Body, rewrite } from './body.ts';
import { unsigned } from './evaluate.ts';
import { definedBy, isRegister } from './instruction.ts';

export function dropUndemanded(body: Body): void {
  const demanded = demandsOf(body);
  rewrite(body, (one) => {
    const bits = demanded[definedBy(one) ?? -1] ?? 64;
    if (one.op === 'extend' && bits <= one.bits) return { op: 'move', dst: one.dst, src: one.src, at: one.at };
    if (one.op === 'load' && one.signed === true && bits <= one.size * 8) return { ...one, signed: false };
    if (one.op === 'binary' && one.kind === 'and' && isRegister(one.a) && !isRegister(one.b) && bits < 64) {
      const wanted = (1n << BigInt(bits)) - 1n;
      if ((unsigned(one.b.imm) & wanted) === wanted) return { op: 'move', dst: one.dst, src: one.a.reg, at: one.at };
    }
    return one;
  });
}

function demandsOf(body: Body): number[] {
  const demanded = new Array<number>(body.registerCount).fill(0);
  let changed = true;
  const want = (operand: Operand, bits: number): void => {
    if (!isRegister(operand) || demanded[operand.reg]! >= bits) return;
    demanded[operand.reg] = bits;
    changed = true;
  };
  // The kernel reads a verdict as 32 bits.
  const returned = body.source.kind === 'entry' ? 32 : 64;
  while (changed) {
    changed = false;
    for (const { instructions, end } of [...body.blocks].reverse()) {
      if (end.op === 'return') want(end.value, returned);
      if (end.op === 'if') {
        want(end.a, end.width);
        want(end.b, end.width);
      }
      for (let i = instructions.length - 1; i >= 0; i--) demandOf(instructions[i]!, demanded, want);
    }
  }
  return demanded;
}

function demandOf(one: Instruction, demanded: readonly number[], want: (operand: Operand, bits: number) => void): void {
  const from = (reg: Register): Operand => ({ reg });
  switch (one.op) {
    case 'move':
      want(from(one.src), demanded[one.dst]!);
      return;
    case 'extend':
      want(from(one.src), Math.min(demanded[one.dst]!, one.bits));
      return;
    case 'swap':
      want(from(one.src), demanded[one.dst] === 0 ? 0 : one.bits);
      return;
    case 'binary':
      demandOfBinary(one, demanded[one.dst]!, want);
      return;
    case 'load':
      if ('reg' in one.base) want(one.base, 64);
      return;
    case 'store':
    case 'atomic':
      if ('reg' in one.base) want(one.base, 64);
      want(one.src, one.size * 8);
      if (one.op === 'atomic' && one.expected !== undefined) want(one.expected, one.size * 8);
      return;
    case 'call':
    case 'callFunction':
      for (const arg of one.args) want(arg, 64);
  }
}

function demandOfBinary(
  one: Extract<Instruction, { op: 'binary' }>,
  result: number,
  want: (operand: Operand, bits: number) => void,
): void {
  if (result === 0) return;
  const low = Math.min(result, one.width);
  switch (one.kind) {
    case 'and': {
      const mask = (other: Operand): number =>
        isRegister(other) ? low : Math.min(low, bitLength(unsigned(other.imm, one.width)));
      want(one.a, mask(one.b));
      want(one.b, mask(one.a));
      return;
    }
    case 'add':
    case 'sub':
    case 'mul':
    case 'or':
    case 'xor':
      want(one.a, low);
      want(one.b, low);
      return;
    case 'shl':
      want(one.a, low);
      want(one.b, one.width);
      return;
    default:
      want(one.a, one.width);
      want(one.b, one.width);
  }
}

/** Rounded up to a width that is asked for. */
function bitLength(value: bigint): number {
  const bits = value === 0n ? 0 : value.toString(2).length;
  return [0, 8, 16, 32, 64].find((width) => width >= bits)!;
}
