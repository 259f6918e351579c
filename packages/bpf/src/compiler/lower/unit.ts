/**
 * What all functions of one compilation share: the checker, build-time values, source positions, diagnostics.
 */
import type ts from 'typescript';
import type { MapDefinition } from '../../language/map.ts';
import type { BuildTime } from '../build-time.ts';
import { CompileError, type Diagnostic, diagnosticAt, placeOf, SilentError, say } from '../diagnostics.ts';
import type { IrFunction, Position } from '../ir.ts';
import type { Source } from '../program.ts';
import type { Subprogram } from './subprogram.ts';

/** After so many the rest is mostly their echo. */
const MOST_ERRORS = 50;

export class Unit {
  readonly source: Source;
  readonly checker: ts.TypeChecker;
  readonly buildTime: BuildTime;
  readonly files: ts.SourceFile[] = [];
  readonly diagnostics: Diagnostic[] = [];
  /** Maps that some program uses. */
  readonly usedMaps = new Set<MapDefinition>();
  /** Statements given up so far, also those whose diagnostic is already noted. */
  failures = 0;
  readonly #fileNumbers = new Map<ts.SourceFile, number>();
  readonly #seen = new Set<string>();

  constructor(source: Source, buildTime: BuildTime) {
    this.source = source;
    this.checker = source.checker;
    this.buildTime = buildTime;
  }

  positionOf(node: ts.Node): Position {
    const file = node.getSourceFile();
    let number = this.#fileNumbers.get(file);
    if (number === undefined) {
      number = this.files.push(file) - 1;
      this.#fileNumbers.set(file, number);
    }
    const { line, character } = file.getLineAndCharacterOfPosition(node.getStart(file));
    return { file: number, line: line + 1, column: character + 1 };
  }

  /** Note a diagnostic once, however often the function around it is inlined. */
  report(diagnostic: Diagnostic): void {
    const key = `${diagnostic.code} ${diagnostic.file}:${diagnostic.line}:${diagnostic.column}`;
    if (this.#seen.has(key)) return;
    this.#seen.add(key);
    this.diagnostics.push(diagnostic);
    if (this.diagnostics.length >= MOST_ERRORS) throw new TooManyErrors();
  }

  /** Whatever was thrown while lowering `node`: noted if it is ours, an internal error otherwise. */
  catch(error: unknown, node: ts.Node): void {
    if (error instanceof TooManyErrors) throw error;
    this.failures++;
    if (error instanceof SilentError) return;
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    this.report(error instanceof CompileError ? error.diagnostic : diagnosticAt(placeOf(node), say.internal(text)));
  }
}

export class TooManyErrors extends Error {}

/** One program being compiled: its functions of its own, by the order they were needed. */
export interface ProgramContext {
  readonly unit: Unit;
  readonly name: string;
  readonly type: 'tc' | 'xdp' | 'syscall';
  readonly functions: IrFunction[];
  readonly names: Set<string>;
  readonly subprograms: Map<string, Subprogram>;
  readonly callbacks: Map<ts.Node, string>;
  /** Numbers for build-time values in the keys of specialised subprograms. */
  readonly identities: Map<unknown, number>;
}

/** A name that no function of the program has yet. */
export function uniqueName(program: ProgramContext, wanted: string): string {
  const base = wanted.replace(/[^A-Za-z0-9_]/g, '_') || 'function';
  let name = base;
  for (let n = 2; program.names.has(name); n++) name = `${base}_${n}`;
  program.names.add(name);
  return name;
}
