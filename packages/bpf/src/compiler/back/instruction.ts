/** What every pass asks of an instruction: which registers it reads, which one it writes, whether it may be dropped. */
import type { Base, Instruction, Operand, Register, Terminator } from '../ir.ts';

export function isRegister(operand: Operand): operand is { readonly reg: Register } {
  return 'reg' in operand;
}

export function definedBy(one: Instruction): Register | undefined {
  switch (one.op) {
    case 'store':
      return undefined;
    case 'atomic':
      return one.old;
    default:
      return one.dst;
  }
}

/** The registers it reads, in the order that `mapUses` asks for them. */
export function usedBy(one: Instruction): Register[] {
  switch (one.op) {
    case 'move':
    case 'extend':
    case 'swap':
      return [one.src];
    case 'binary':
      return registersOf(one.a, one.b);
    case 'load':
      return 'reg' in one.base ? [one.base.reg] : [];
    case 'store':
    case 'atomic': {
      const operands =
        one.op === 'atomic' && one.expected !== undefined ? registersOf(one.src, one.expected) : registersOf(one.src);
      return 'reg' in one.base ? [one.base.reg, ...operands] : operands;
    }
    case 'call':
    case 'callFunction':
      return registersOf(...one.args);
    default:
      return [];
  }
}

function registersOf(...operands: readonly Operand[]): Register[] {
  const found: Register[] = [];
  for (const operand of operands) if (isRegister(operand)) found.push(operand.reg);
  return found;
}

export function usedByEnd(end: Terminator): Register[] {
  if (end.op === 'if') return registersOf(end.a, end.b);
  return end.op === 'return' ? registersOf(end.value) : [];
}

/** Whether nothing is lost when nobody wants its result. */
export function isPure(one: Instruction): boolean {
  return !(one.op === 'store' || one.op === 'atomic' || one.op === 'call' || one.op === 'callFunction');
}

/**
 * The same instruction with every register it reads replaced. Where only a register can stand (a base, the source of an
 * extension), a constant answer is ignored.
 */
export function mapUses(one: Instruction, replace: (reg: Register) => Operand): Instruction {
  const operand = (old: Operand): Operand => (isRegister(old) ? replace(old.reg) : old);
  const register = (old: Register): Register => {
    const to = replace(old);
    return isRegister(to) ? to.reg : old;
  };
  const base = (old: Base): Base => ('reg' in old ? { reg: register(old.reg) } : old);
  switch (one.op) {
    case 'move': {
      const src = replace(one.src);
      if (isRegister(src)) return { ...one, src: src.reg };
      return { op: 'const', dst: one.dst, value: src.imm, at: one.at };
    }
    case 'binary':
      return { ...one, a: operand(one.a), b: operand(one.b) };
    case 'extend':
    case 'swap':
      return { ...one, src: register(one.src) };
    case 'load':
      return { ...one, base: base(one.base) };
    case 'store':
      return { ...one, base: base(one.base), src: operand(one.src) };
    case 'atomic': {
      const expected = one.expected === undefined ? {} : { expected: operand(one.expected) };
      return { ...one, base: base(one.base), src: operand(one.src), ...expected };
    }
    case 'call':
    case 'callFunction':
      return { ...one, args: one.args.map(operand) };
    default:
      return one;
  }
}

export function mapEndUses(end: Terminator, replace: (reg: Register) => Operand): Terminator {
  const operand = (old: Operand): Operand => (isRegister(old) ? replace(old.reg) : old);
  if (end.op === 'if') return { ...end, a: operand(end.a), b: operand(end.b) };
  if (end.op === 'return') return { ...end, value: operand(end.value) };
  return end;
}

export function withDefinition(one: Instruction, dst: Register): Instruction {
  if (one.op === 'store') return one;
  if (one.op === 'atomic') return { ...one, old: dst };
  return { ...one, dst };
}
