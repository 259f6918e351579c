/** The language's own functions, by the function object that stands for them in Node. */
import ts from 'typescript';
import * as language from '../../language/index.ts';
import type { ScalarName } from '../../language/scalar.ts';
import { say } from '../diagnostics.ts';
import type { Operand } from '../ir.ts';
import { binary, calculate, extend, operatorOf } from './arithmetic.ts';
import { lowerLoop } from './callbacks.ts';
import { lowerArguments } from './calls.ts';
import { compareNumbers, conditionValue } from './conditions.ts';
import { lower, unwrap } from './expressions.ts';
import type { FunctionLowering } from './function.ts';
import { joinValues, takeOutcomes } from './join-values.ts';
import { narrow, quotient, wrapU64 } from './narrow.ts';
import { fit, isBigint, numeric, operandOf } from './operand.ts';
import { contains, I32, SAFE, SCALAR_RANGES, seen, showRange, U16, U32, unseen } from './range.ts';
import {
  constant,
  describe,
  isConstant,
  isScalar,
  kindOfScalar,
  type ScalarValue,
  UNDEFINED,
  type Value,
} from './value.ts';
import { assign, clear, same, stackView, usable, viewOf } from './views.ts';

type Intrinsic = (f: FunctionLowering, node: ts.CallExpression) => Value;

const one = (lowerOne: (f: FunctionLowering, node: ts.CallExpression, argument: ts.Expression) => Value): Intrinsic => {
  return (f, node) => {
    const [argument] = node.arguments;
    return argument === undefined
      ? f.fail(node, say.notCallable('this without an argument'))
      : lowerOne(f, node, argument);
  };
};

const narrowing = (scalar: 'u8' | 'u16' | 'u32' | 'i32'): Intrinsic =>
  one((f, _, argument) => narrow(f, scalar, argument));

/** Byte order: folds constants, swaps at run time. */
function swap(
  convert: (x: never) => number,
  from: 'u16' | 'u32' | 'be16' | 'be32',
  to: 'be16' | 'be32' | 'number',
): Intrinsic {
  return one((f, node, argument) => {
    const value = fit(f, argument, 'the argument', from, lower(f, argument));
    if (isConstant(value)) return constant(convert(value.value as never));
    const bits = from === 'u16' || from === 'be16' ? 16 : 32;
    const result = f.scalar(to, unseen(bits === 16 ? U16 : U32));
    f.located(node, () => f.emit({ op: 'swap', dst: result.reg, src: value.reg, bits }));
    return result;
  });
}

/** The same bits under another name. */
function reinterpret(to: 'number' | 'be16' | 'be32', from?: ScalarName): Intrinsic {
  return one((f, _, argument) => {
    const value = lower(f, argument);
    if (isConstant(value)) return value;
    if (from !== undefined) fit(f, argument, 'the argument', from, value);
    if (!isScalar(value)) return f.fail(argument, say.notANumber(describe(value)));
    return { kind: to, reg: value.reg };
  });
}

const multiply: Intrinsic = (f, node) => {
  const [a, b] = lowerArguments(f, node).map((value, i) => numeric(f, node.arguments[i]!, value));
  if (isConstant(a!) && isConstant(b!)) return constant(Math.imul(Number(a.value), Number(b.value)) >>> 0);
  return binary(f, 'mul', 32, operandOf(a!), operandOf(b!), seen(U32));
};

const signedMultiply: Intrinsic = (f, node) => {
  const product = multiply(f, node);
  if (isConstant(product)) return constant((product.value as number) | 0);
  return extend(f, operandOf(product as ScalarValue), 32, true, seen(I32));
};

const twoViews =
  (act: typeof assign): Intrinsic =>
  (f, node) => {
    const [to, from] = lowerArguments(f, node);
    act(f, node, viewOf(f, node, to ?? UNDEFINED), viewOf(f, node, from ?? UNDEFINED));
    return UNDEFINED;
  };

const sameBytes: Intrinsic = (f, node) => {
  const [a, b] = lowerArguments(f, node);
  return conditionValue(f, same(f, node, viewOf(f, node, a ?? UNDEFINED), viewOf(f, node, b ?? UNDEFINED)));
};

const clearView: Intrinsic = one((f, node, argument) => {
  clear(f, node, viewOf(f, argument, lower(f, argument)));
  return UNDEFINED;
});

type Atomic = 'add' | 'exchange' | 'compareExchange';

/** `atomicAdd(view, 'field', amount)` and its kin; `fetches` gives the value before. */
const atomic =
  (kind: Atomic, fetches: boolean): Intrinsic =>
  (f, node) => {
    const [target, name, ...operands] = lowerArguments(f, node);
    const view = viewOf(f, node, target ?? UNDEFINED);
    if (name === undefined || !isConstant(name) || typeof name.value !== 'string') return f.fail(node, say.fieldName());
    const layout = view.struct.layout.find((l) => l.name === name.value);
    const { field } = layout ?? f.fail(node, say.notMember(name.value, describe(view)));
    const allowed =
      field.kind === 'scalar' && (field.scalar === 'u32' || field.scalar === 'i32' || field.scalar === 'u64');
    if (!allowed || view.memory !== 'map') return f.fail(node, say.atomicField(name.value));
    const amounts = operands.map((value, i) => amountOf(f, node.arguments[i + 2]!, field.scalar, kind, value));
    const size = field.size as 4 | 8;
    const old = f.scalar(kindOfScalar(field.scalar), unseen(SCALAR_RANGES[field.scalar]));
    const [src, next] = amounts;
    f.emit({
      op: 'atomic',
      kind,
      size,
      base: usable(f, node, view).base,
      offset: view.offset + layout!.offset,
      src: kind === 'compareExchange' ? next! : src!,
      ...(kind === 'compareExchange' ? { expected: src! } : {}),
      ...(fetches ? { old: old.reg } : {}),
    });
    if (!fetches) return UNDEFINED;
    return field.scalar === 'i32' ? extend(f, { reg: old.reg }, 32, true, unseen(I32)) : old;
  };

/** What is added may be of any sign: it wraps. What is stored must fit. */
function amountOf(f: FunctionLowering, node: ts.Node, scalar: ScalarName, kind: Atomic, value: Value): Operand {
  if (kind !== 'add') return operandOf(fit(f, node, 'the field', scalar, value));
  const amount = numeric(f, node, value);
  if (isBigint(amount) !== (scalar === 'u64')) return f.fail(node, say.mixedBigint());
  return operandOf(amount);
}

/** `Math.min` and `Math.max` of two numbers. */
const choose =
  (comparison: '<' | '>'): Intrinsic =>
  (f, node) => {
    const args = lowerArguments(f, node).map((value, i) => numeric(f, node.arguments[i]!, value));
    if (args.every(isConstant)) {
      const numbers = args.map((a) => Number((a as { value: unknown }).value));
      return constant(comparison === '<' ? Math.min(...numbers) : Math.max(...numbers));
    }
    const [a, b] = args;
    if (args.length !== 2 || a === undefined || b === undefined)
      return f.fail(node, say.foreignFunction(node.expression.getText()));
    const { yes, no } = compareNumbers(f, node, comparison, a, b);
    const outcomes = (
      [
        [yes, a],
        [no, b],
      ] as const
    ).flatMap(([flow, value]) => {
      if (flow === undefined) return [];
      f.resume(flow);
      return takeOutcomes(f, f.stable(value));
    });
    return joinValues(f, node, outcomes);
  };

/** `Math.floor(a / b)` and `Math.trunc(a / b)` of what is not negative: the quotient. */
const whole: Intrinsic = one((f, _, argument) => {
  const inner = unwrap(argument);
  if (ts.isBinaryExpression(inner) && operatorOf(inner.operatorToken.kind) === '/') return quotient(f, inner).value;
  return numeric(f, argument, lower(f, argument));
});

/** `Number(b)` of a bigint that is known to be exact as a number. */
const toNumber: Intrinsic = one((f, _, argument) => {
  const value = lower(f, argument);
  if (isConstant(value)) return constant(Number(value.value));
  const number = numeric(f, argument, value);
  const { range } = f.boundsOf(number);
  if (!contains(SAFE, range)) return f.fail(argument, say.beyondSafe(showRange(range)));
  return { kind: 'number', reg: (number as ScalarValue).reg };
});

const toBigint: Intrinsic = one((f, _, argument) => {
  const value = lower(f, argument);
  if (isConstant(value)) return constant(BigInt(value.value as number));
  return { kind: 'bigint', reg: (numeric(f, argument, value) as ScalarValue).reg };
});

const absolute: Intrinsic = one((f, node, argument) => {
  const value = numeric(f, argument, lower(f, argument));
  if (isConstant(value)) return constant(Math.abs(Number(value.value)));
  const { yes, no } = compareNumbers(f, node, '<', value, constant(0));
  const outcomes = (
    [
      [yes, true],
      [no, false],
    ] as const
  ).flatMap(([flow, negative]) => {
    if (flow === undefined) return [];
    f.resume(flow);
    return takeOutcomes(f, negative ? calculate(f, node, '-', constant(0), value) : f.stable(value));
  });
  return joinValues(f, node, outcomes);
});

export const INTRINSICS: ReadonlyMap<unknown, Intrinsic> = new Map<unknown, Intrinsic>([
  [language.u8, narrowing('u8')],
  [language.u16, narrowing('u16')],
  [language.u32, narrowing('u32')],
  [language.i32, narrowing('i32')],
  [language.u64, one((f, _, argument) => wrapU64(f, argument))],
  [language.htons, swap(language.htons, 'u16', 'be16')],
  [language.htonl, swap(language.htonl, 'u32', 'be32')],
  [language.ntohs, swap(language.ntohs, 'be16', 'number')],
  [language.ntohl, swap(language.ntohl, 'be32', 'number')],
  [language.raw, reinterpret('number')],
  [language.rawBe16, reinterpret('be16', 'u16')],
  [language.rawBe32, reinterpret('be32', 'u32')],
  [language.mul32, multiply],
  [language.stack, stackView],
  [language.assign, twoViews(assign)],
  [language.same, sameBytes],
  [language.clear, clearView],
  [language.atomicAdd, atomic('add', false)],
  [language.atomicFetchAdd, atomic('add', true)],
  [language.atomicExchange, atomic('exchange', true)],
  [language.atomicCompareExchange, atomic('compareExchange', true)],
  [language.loop, lowerLoop],
  [Math.imul, signedMultiply],
  [Math.min, choose('<')],
  [Math.max, choose('>')],
  [Math.floor, whole],
  [Math.trunc, whole],
  [Math.abs, absolute],
  [Number, toNumber],
  [BigInt, toBigint],
]);

/** Everything callable of the language; what has no meaning at run time is for module scope. */
export const LANGUAGE_FUNCTIONS: ReadonlySet<unknown> = new Set(
  Object.values(language).filter((value) => typeof value === 'function'),
);
