/** Kernel helpers, called as the language's table says. */
import type ts from 'typescript';
import * as language from '../../language/helper.ts';
import { type Argument, HELPERS, type HelperSignature } from '../../language/helper.ts';
import { SilentError, say } from '../diagnostics.ts';
import type { Operand } from '../ir.ts';
import { timerCallback } from './callbacks.ts';
import type { FunctionLowering } from './function.ts';
import { argumentPointer, mapAddress } from './maps.ts';
import { fit, operandOf } from './operand.ts';
import { I32, type Range, U32, U64, unseen } from './range.ts';
import { constant, describe, isConstant, isMap, isNull, isScalar, type ScalarKind, type Value } from './value.ts';
import { addressOf, viewOf } from './views.ts';

/** By the Node function that stands for it. */
export const HELPER_NAMES: ReadonlyMap<unknown, string> = new Map(
  Object.keys(HELPERS).map((name) => [(language as unknown as Record<string, unknown>)[name], name]),
);

/** Helpers that write through their pointer; the others only read. */
const WRITING = new Set(['loadBytes', 'fibLookup']);
/** Helpers that take packet pointers. */
const PACKET_READING = new Set(['csumDiff']);

const RETURNS: Readonly<Record<Exclude<HelperSignature['returns'], 'never'>, { kind: ScalarKind; range: Range }>> = {
  i32: { kind: 'number', range: I32 },
  u32: { kind: 'number', range: U32 },
  sum: { kind: 'number', range: U32 },
  u64: { kind: 'bigint', range: U64 },
};

export function callHelper(f: FunctionLowering, node: ts.CallExpression, name: string, args: readonly Value[]): Value {
  const signature = HELPERS[name]!;
  if (!signature.programs.includes(f.program.type)) {
    if (signature.otherwise !== undefined) return callHelper(f, node, signature.otherwise, args);
    return f.fail(node, say.helperProgram(name, f.program.type));
  }
  const operands = signature.args.flatMap((argument, index) => {
    const value = args[index] ?? f.fail(node, say.notCallable(`${name}() without all its arguments`));
    return passed(f, node.arguments[index] ?? node, name, argument, value, args);
  });
  for (const hidden of signature.hidden ?? []) operands.push({ imm: BigInt(hidden) });
  if (signature.returns === 'never') {
    f.emit({ op: 'call', helper: signature.id, name, args: operands });
    return constant(language.NO_PROGRAM);
  }
  const { kind, range } = RETURNS[signature.returns];
  const result = f.scalar(kind, unseen(range));
  f.emit({ op: 'call', helper: signature.id, name, dst: result.reg, args: operands });
  if (signature.moves === true) f.packetMoved();
  return result;
}

function passed(
  f: FunctionLowering,
  node: ts.Node,
  helper: string,
  argument: Argument,
  value: Value,
  all: readonly Value[],
): Operand[] {
  if (value.kind === 'poison') throw new SilentError();
  switch (argument) {
    case 'skb':
      return value.kind === 'skb' ? [{ reg: value.reg }] : f.fail(node, say.wrongSkb());
    case 'map':
      if (value.kind === 'mapPointer') return [{ reg: value.reg }];
      return isConstant(value) && isMap(value.value)
        ? [mapAddress(f, value.value)]
        : f.fail(node, say.notMember('map', describe(value)));
    case 'view':
    case 'view?':
    case 'viewSize':
    case 'viewSize?':
      return viewArgument(f, node, helper, argument, value);
    case 'timer':
      return value.kind === 'timer' ? [addressOf(f, value)] : f.fail(node, say.timerOwner());
    case 'function':
      return [timerCallback(f, node, value, all[0])];
    case 'sum':
      // Raw network bytes are what checksums are made of.
      return isScalar(value) && value.kind !== 'bigint'
        ? [{ reg: value.reg }]
        : [operandOf(fit(f, node, 'the argument', 'u32', value))];
    case 'u32':
      if (value.kind === 'be16' || value.kind === 'be32') return [{ reg: value.reg }];
      return [operandOf(fit(f, node, 'the argument', 'u32', value))];
    default:
      return [operandOf(fit(f, node, 'the argument', argument, value))];
  }
}

function viewArgument(
  f: FunctionLowering,
  node: ts.Node,
  helper: string,
  argument: 'view' | 'view?' | 'viewSize' | 'viewSize?',
  value: Value,
): Operand[] {
  const sized = argument === 'viewSize' || argument === 'viewSize?';
  if (isNull(value) && argument.endsWith('?')) return sized ? [{ imm: 0n }, { imm: 0n }] : [{ imm: 0n }];
  const view = viewOf(f, node, value);
  const use = WRITING.has(helper) ? 'write' : PACKET_READING.has(helper) ? 'map' : 'read';
  const pointer = argumentPointer(f, node, view, use);
  return sized ? [pointer, { imm: BigInt(view.struct.size) }] : [pointer];
}
