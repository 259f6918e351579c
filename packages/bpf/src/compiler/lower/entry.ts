/** A program's entry function, with all that it comes to call. */
import type ts from 'typescript';
import { say } from '../diagnostics.ts';
import type { IrFunction } from '../ir.ts';
import { bindParameters } from './declare.ts';
import { lower } from './expressions.ts';
import { FunctionLowering } from './function.ts';
import { isBigint, numeric, operandOf } from './operand.ts';
import { contains, I32, showRange, UNKNOWN } from './range.ts';
import { lowerBody } from './statements.ts';
import type { ProgramContext, Unit } from './unit.ts';
import { type ProgramValue, UNDEFINED, type Value } from './value.ts';

/** The functions of one program, the entry first; undefined where there were errors. */
export function lowerProgram(unit: Unit, program: ProgramValue, declared: ts.Node): IrFunction[] | undefined {
  const context: ProgramContext = {
    unit,
    name: program.name,
    type: program.type,
    functions: [],
    names: new Set([program.name]),
    subprograms: new Map(),
    callbacks: new Map(),
    identities: new Map(),
  };
  const written = unit.buildTime.functionOf(program.run);
  const node = written?.node ?? declared;
  const f = new FunctionLowering(context, program.name, 'entry', node);
  const ctx = f.newRegister({ range: UNKNOWN, known: UNKNOWN }, 'ctx');
  f.params.push(ctx);
  f.setNonNull(ctx);
  try {
    lowerEntry(f, written, program, declared, ctx);
  } catch (error) {
    unit.catch(error, node);
  }
  if (unit.diagnostics.length > 0) return undefined;
  return [f.finish(), ...context.functions];
}

function lowerEntry(
  f: FunctionLowering,
  written: ReturnType<Unit['buildTime']['functionOf']>,
  program: ProgramValue,
  declared: ts.Node,
  ctx: number,
): void {
  if (written === undefined) f.fail(declared, say.notCallable('a program that is no function of this build'));
  const { node, scope } = written;
  f.frame = {
    owner: f,
    node,
    lexical: undefined,
    caller: undefined,
    callSite: undefined,
    scope,
    bindings: new Map(),
    thisValue: undefined,
    jumps: [],
    onReturn: (expression, statement) => {
      const at = expression ?? statement;
      const value = numeric(f, at, expression === undefined ? UNDEFINED : lower(f, expression));
      const { range } = f.boundsOf(value);
      if (isBigint(value) || !contains(I32, range)) return f.fail(at, say.programResult(showRange(range)));
      f.return(operandOf(value));
    },
  };
  bindParameters(f, f.frame, [contextValue(program, ctx)], node);
  lowerBody(f, f.frame);
  if (f.isReachable) f.return({ imm: 0n });
}

function contextValue(program: ProgramValue, reg: number): Value {
  if (program.context === undefined) return { kind: 'skb', reg };
  return { kind: 'view', struct: program.context, base: { reg }, offset: 0, memory: 'context', nullable: false };
}
