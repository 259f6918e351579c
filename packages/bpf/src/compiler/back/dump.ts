/**
 * What `bpf dump` shows: per function the source lines, and under each what became of it, as IR or as instructions.
 */

import { decode } from '../../assembler/assembler.ts';
import { disassemble } from '../../assembler/disassembler.ts';
import type { CollectionSpec, ProgramSpec } from '../../spec.ts';
import type { IrModule, IrProgram, Position } from '../ir.ts';
import { optimised } from './index.ts';
import { irText, printable } from './ir-text.ts';

export interface DumpOptions {
  /** Source lines between; on unless told. */
  readonly source?: boolean;
  /** The IR as lowering made it, or as the back end left it; needs the module. */
  readonly ir?: 'lowered' | 'optimised';
  /** The instructions; on unless `ir` is asked for alone. */
  readonly instructions?: boolean;
  /** Only this program. */
  readonly program?: string;
}

export interface Dumpable {
  readonly spec?: CollectionSpec;
  readonly module?: IrModule;
}

export function dump({ spec, module }: Dumpable, options: DumpOptions = {}): string {
  const wanted = ({ name }: { readonly name: string }): boolean =>
    options.program === undefined || name === options.program;
  const files = (spec ?? module)?.files.map(({ path, text }) => ({ path, lines: text.split('\n') })) ?? [];
  const parts: string[] = [];
  for (const program of options.ir === undefined ? [] : (module?.programs ?? []).filter(wanted)) {
    parts.push(dumpIr(program, files, options));
  }
  for (const program of (options.instructions ?? options.ir === undefined)
    ? (spec?.programs ?? []).filter(wanted)
    : []) {
    parts.push(dumpProgram(program, files, options));
  }
  return `${parts.join('\n\n')}\n`;
}

type Files = readonly { readonly path: string; readonly lines: readonly string[] }[];

function dumpIr(program: IrProgram, files: Files, { ir, source = true }: DumpOptions): string {
  const before = source ? (at: Position) => [sourceLine(files, at)] : () => [];
  const functions = program.functions.map((one) =>
    irText(ir === 'optimised' ? optimised(one, program.type) : printable(one), { before }),
  );
  return [
    `program ${program.name} (${program.type}), IR ${ir === 'optimised' ? 'optimised' : 'as lowered'}`,
    ...functions,
  ].join('\n\n');
}

function dumpProgram(program: ProgramSpec, files: Files, { source = true }: DumpOptions): string {
  const insns = decode(Buffer.from(program.instructions, 'base64'));
  const functions = new Map(program.functions.map(({ instruction, name }) => [instruction, name]));
  const lines = new Map(program.lines.map((line) => [line.instruction, line]));
  const maps = new Map(program.relocations.map((one) => [one.instruction, one]));
  const text = disassemble(insns, {
    constant: (slot) => {
      const relocation = maps.get(slot);
      if (relocation === undefined) return undefined;
      return relocation.kind === 'map' ? `map[${relocation.map}]` : `map[${relocation.map}][0]+${relocation.offset}`;
    },
    before: (slot) => {
      const name = functions.get(slot);
      const line = source ? lines.get(slot) : undefined;
      return [
        ...(name === undefined ? [] : ['', `${name}:`]),
        ...(line === undefined ? [] : [sourceLine(files, line)]),
      ];
    },
  });
  const size = `${insns.length} instructions, ${program.stackBytes} bytes of stack`;
  return `program ${program.name} (${program.type}), ${size}\n${text}`;
}

function sourceLine(files: Files, { file, line }: Omit<Position, 'column'>): string {
  const { path, lines } = files[file] ?? { path: '?', lines: [] };
  return `; ${path}:${line}: ${lines[line - 1]?.trim() ?? ''}`;
}
