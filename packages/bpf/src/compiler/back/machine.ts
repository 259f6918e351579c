/**
 * eBPF instructions over unlimited registers, between selection and emission.
 *
 * Numbers 0 to 10 are the machine's registers, those from `VIRTUAL` up are still to be placed; everything is already in
 * two-address form. Blocks lie in the order of their layout.
 */
import type { AluOp, AtomicOp, JumpOp, Size } from '../../assembler/assembler.ts';
import type { IrFunction, Position } from '../ir.ts';

export const VIRTUAL = 16;
/** r0 to r9; r10 is the frame pointer. */
export const ALLOCATABLE = 10;
/** r0 to r5 do not survive a call. */
export const CLOBBERED = [0, 1, 2, 3, 4, 5] as const;

export type Source = { readonly reg: number } | { readonly imm: number };

/** A register, a slot of the function's stack, or the place of a register that found none. */
export type Place = { readonly reg: number } | { readonly slot: number } | { readonly home: number };

export type MachineInstruction = (
  | { readonly op: 'alu'; readonly kind: AluOp; readonly width: 32 | 64; readonly dst: number; readonly src: Source }
  | { readonly op: 'swap'; readonly dst: number; readonly bits: 16 | 32 | 64 }
  /** Beyond 32-bit immediates. */
  | { readonly op: 'constant'; readonly dst: number; readonly value: bigint }
  | { readonly op: 'load'; readonly dst: number; readonly size: Size; readonly base: Place; readonly offset: number }
  | { readonly op: 'store'; readonly size: Size; readonly base: Place; readonly offset: number; readonly src: Source }
  | {
      readonly op: 'atomic';
      readonly kind: AtomicOp;
      readonly size: 4 | 8;
      readonly base: Place;
      readonly offset: number;
      readonly src: number;
      readonly fetch: boolean;
    }
  | { readonly op: 'slotAddress'; readonly dst: number; readonly slot: number; readonly offset: number }
  | { readonly op: 'mapAddress'; readonly dst: number; readonly map: string }
  | { readonly op: 'mapValueAddress'; readonly dst: number; readonly map: string; readonly offset: number }
  | { readonly op: 'functionAddress'; readonly dst: number; readonly name: string }
  | { readonly op: 'call'; readonly helper: number; readonly args: number }
  | { readonly op: 'callFunction'; readonly name: string; readonly args: number }
) & { readonly at: Position };

export type MachineEnd = (
  | { readonly op: 'goto'; readonly to: number }
  | {
      readonly op: 'if';
      readonly condition: JumpOp;
      readonly width: 32 | 64;
      readonly a: number;
      readonly b: Source;
      readonly then: number;
      readonly else: number;
    }
  | { readonly op: 'exit' }
) & { readonly at: Position };

export interface MachineBlock {
  readonly code: MachineInstruction[];
  end: MachineEnd;
  /** How often it runs, roughly, when the function runs once. */
  readonly frequency: number;
}

export interface MachineFunction {
  readonly source: IrFunction;
  registerCount: number;
  blocks: MachineBlock[];
}

/** A register copied whole, which allocation tries to make the same register. */
export function moveOf(one: MachineInstruction): { readonly dst: number; readonly src: number } | undefined {
  if (one.op !== 'alu' || one.kind !== 'mov' || one.width !== 64 || !('reg' in one.src)) return undefined;
  return { dst: one.dst, src: one.src.reg };
}

export function usesOf(one: MachineInstruction): number[] {
  const place = (base: Place): number[] => ('reg' in base ? [base.reg] : []);
  const source = (src: Source): number[] => ('reg' in src ? [src.reg] : []);
  switch (one.op) {
    case 'alu':
      return one.kind === 'mov' ? source(one.src) : [one.dst, ...source(one.src)];
    case 'swap':
      return [one.dst];
    case 'load':
      return place(one.base);
    case 'store':
      return [...place(one.base), ...source(one.src)];
    case 'atomic':
      return [...place(one.base), one.src, ...(one.kind === 'compareExchange' ? [0] : [])];
    case 'call':
    case 'callFunction':
      return [1, 2, 3, 4, 5].slice(0, one.args);
    default:
      return [];
  }
}

export function definesOf(one: MachineInstruction): readonly number[] {
  switch (one.op) {
    case 'store':
      return [];
    case 'atomic':
      if (one.kind === 'compareExchange') return [0];
      return one.fetch ? [one.src] : [];
    case 'call':
    case 'callFunction':
      return CLOBBERED;
    default:
      return [one.dst];
  }
}

export function usesOfEnd(end: MachineEnd): number[] {
  if (end.op === 'exit') return [0];
  if (end.op === 'goto') return [];
  return 'reg' in end.b ? [end.a, end.b.reg] : [end.a];
}

export function machineSuccessors(end: MachineEnd): number[] {
  if (end.op === 'exit') return [];
  return end.op === 'goto' ? [end.to] : [end.then, end.else];
}

/** The same instruction on other registers. What is both read and written is asked for once. */
export function mapRegisters(one: MachineInstruction, to: (reg: number) => number): MachineInstruction {
  const place = (base: Place): Place => ('reg' in base ? { reg: to(base.reg) } : base);
  const source = (src: Source): Source => ('reg' in src ? { reg: to(src.reg) } : src);
  switch (one.op) {
    case 'alu':
      return { ...one, dst: to(one.dst), src: source(one.src) };
    case 'load':
      return { ...one, dst: to(one.dst), base: place(one.base) };
    case 'store':
      return { ...one, base: place(one.base), src: source(one.src) };
    case 'atomic':
      return { ...one, base: place(one.base), src: to(one.src) };
    case 'call':
    case 'callFunction':
      return one;
    default:
      return { ...one, dst: to(one.dst) };
  }
}

export function mapEndRegisters(end: MachineEnd, to: (reg: number) => number): MachineEnd {
  if (end.op !== 'if') return end;
  return { ...end, a: to(end.a), b: 'reg' in end.b ? { reg: to(end.b.reg) } : end.b };
}

export function retargetMachine(end: MachineEnd, to: (block: number) => number): MachineEnd {
  if (end.op === 'goto') return { ...end, to: to(end.to) };
  return end.op === 'if' ? machineBranch(end, to(end.then), to(end.else)) : end;
}

export type MachineIf = Extract<MachineEnd, { op: 'if' }>;

export function machineBranch(test: MachineIf, then: number, otherwise: number): MachineIf {
  return { ...test, then, else: otherwise };
}
