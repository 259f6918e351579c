/**
 * From values to operands of instructions: what may be calculated with, and what fits where it is stored.
 */
import type ts from 'typescript';
import type { ScalarName } from '../../language/scalar.ts';
import { SilentError, say } from '../diagnostics.ts';
import type { Operand, Register } from '../ir.ts';
import type { FunctionLowering } from './function.ts';
import { contains, SCALAR_RANGES, showRange, U64 } from './range.ts';
import { type ConstantValue, describe, isScalar, type ScalarValue, type Value } from './value.ts';

/** A number or bigint in a register, or a constant one. */
export type Numeric = ScalarValue | ConstantValue;

/** Refuses what arithmetic does not take: raw network bytes, fractions, views. */
export function numeric(f: FunctionLowering, node: ts.Node, value: Value): Numeric {
  if (value.kind === 'number' || value.kind === 'bigint') return value;
  if (value.kind === 'be16' || value.kind === 'be32') return f.fail(node, say.orderArithmetic(value.kind));
  if (value.kind === 'poison') throw new SilentError();
  if (value.kind !== 'constant') return f.fail(node, say.notANumber(describe(value)));
  if (typeof value.value === 'bigint') return value;
  if (typeof value.value !== 'number') return f.fail(node, say.notANumber(describe(value)));
  if (!Number.isSafeInteger(value.value)) return f.fail(node, say.fraction(String(value.value)));
  return value;
}

export const isBigint = (value: Numeric): boolean =>
  value.kind === 'bigint' || (value.kind === 'constant' && typeof value.value === 'bigint');

export function operandOf(value: ScalarValue | ConstantValue): Operand {
  return value.kind === 'constant' ? { imm: BigInt(value.value as number | bigint | boolean) } : { reg: value.reg };
}

/** A register that holds the value, loading constants. */
export function inRegister(f: FunctionLowering, operand: Operand): Register {
  if ('reg' in operand) return operand.reg;
  const reg = f.newRegister({
    range: { lo: operand.imm, hi: operand.imm },
    known: { lo: operand.imm, hi: operand.imm },
  });
  f.emit({ op: 'const', dst: reg, value: operand.imm });
  return reg;
}

/** Any scalar for a move: booleans and raw network bytes as well. */
export function scalarOperand(f: FunctionLowering, node: ts.Node, value: Value): Operand {
  if (isScalar(value)) return { reg: value.reg };
  if (value.kind === 'constant' && typeof value.value === 'boolean') return operandOf(value);
  return operandOf(numeric(f, node, value));
}

/** The value as a `scalar` holds it, or an error that says why it may not fit; `what` names the place. */
export function fit(f: FunctionLowering, node: ts.Node, what: string, scalar: ScalarName, value: Value): Numeric {
  if (scalar === 'be16' || scalar === 'be32') return fitOrder(f, node, what, scalar, value);
  const number = numeric(f, node, value);
  if (isBigint(number) !== (scalar === 'u64')) return f.fail(node, say.mixedBigint());
  const { range } = f.boundsOf(number);
  if (scalar === 'u64') return contains(U64, range) ? number : f.fail(node, say.beyondU64(showRange(range)));
  if (!contains(SCALAR_RANGES[scalar], range)) return f.fail(node, say.mayNotFit(what, showRange(range), scalar));
  return number;
}

function fitOrder(f: FunctionLowering, node: ts.Node, what: string, scalar: 'be16' | 'be32', value: Value): Numeric {
  if (value.kind === scalar) return value;
  if (value.kind === 'constant' && typeof value.value === 'number') {
    const { range } = f.boundsOf(numeric(f, node, value));
    return contains(SCALAR_RANGES[scalar], range) ? value : f.fail(node, say.mayNotFit(what, showRange(range), scalar));
  }
  if (value.kind === 'poison') throw new SilentError();
  return f.fail(node, say.orderMismatch(scalar));
}

/** A u32 argument: constant or not. */
export const fitU32 = (f: FunctionLowering, node: ts.Node, what: string, value: Value): Operand =>
  operandOf(fit(f, node, what, 'u32', value));
