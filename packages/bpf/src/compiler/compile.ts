/**
 * The compiler, step after step: an entry file in, a collection of maps and programs out.
 */
import { existsSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import ts from 'typescript';
import type { MapDefinition } from '../language/map.ts';
import type { CollectionSpec } from '../spec.ts';
import { EmitError, emit } from './back/index.ts';
import { BuildTime } from './build-time.ts';
import { CompileError, type Diagnostic, diagnosticAt, type Place, placeOf, say } from './diagnostics.ts';
import type { IrModule, IrProgram } from './ir.ts';
import { irMaps, irStructs } from './ir-module.ts';
import { lowerProgram } from './lower/entry.ts';
import { TooManyErrors, Unit } from './lower/unit.ts';
import { isMap, isProgram, type ProgramValue } from './lower/value.ts';
import { loadProgram, type ModuleNames, type Overlay, type Source } from './program.ts';

export interface CompileOptions {
  /** Texts that stand in for files, by absolute path. */
  readonly files?: Overlay;
  /** Sources that a module's name means for every file, by that name: `{ 'ipvsd/scheduler': '/path/user.ts' }`. */
  readonly modules?: ModuleNames;
  /** What paths in the output are relative to; the folder of the nearest package.json where not given. */
  readonly root?: string;
  /** Stop at the IR. */
  readonly irOnly?: boolean;
}

export interface CompileResult {
  /** Absent when there were errors. */
  readonly spec?: CollectionSpec;
  readonly ir?: IrModule;
  /** The entry module as it ran at build time: its programs run in Node as they are. */
  readonly exports?: Readonly<Record<string, unknown>>;
  readonly diagnostics: readonly Diagnostic[];
}

/** From an entry .ts file to maps and programs, or to what is wrong with it. */
export function compile(entryFile: string, options: CompileOptions = {}): CompileResult {
  const { source, diagnostics } = loadProgram(entryFile, options.files, options.modules);
  if (source === undefined || diagnostics.length > 0) return { diagnostics };
  const unit = new Unit(source, new BuildTime(source));
  try {
    const exports = unit.buildTime.run();
    const ir = toIr(unit, source, exports, options);
    if (unit.diagnostics.length > 0) return { diagnostics: unit.diagnostics };
    return { ir, exports, ...(options.irOnly === true ? {} : { spec: emit(ir) }), diagnostics: [] };
  } catch (error) {
    if (error instanceof CompileError) unit.diagnostics.push(error.diagnostic);
    else if (error instanceof EmitError)
      unit.diagnostics.push(diagnosticAt(placeIn(unit, error), say.stack(error.message)));
    else if (error instanceof TooManyErrors)
      unit.diagnostics.push(diagnosticAt(undefined, say.tooManyErrors(unit.diagnostics.length)));
    else throw error;
    return { diagnostics: unit.diagnostics };
  }
}

function placeIn(unit: Unit, { at }: EmitError): Place | undefined {
  const file = unit.files[at.file];
  return file === undefined
    ? undefined
    : { file, start: ts.getPositionOfLineAndCharacter(file, at.line - 1, at.column - 1) };
}

function toIr(
  unit: Unit,
  source: Source,
  exported: Readonly<Record<string, unknown>>,
  options: CompileOptions,
): IrModule {
  const found = programsOf(unit, source, exported);
  if (found.length === 0) throw new CompileError(diagnosticAt({ file: source.entry, start: 0 }, say.noPrograms()));
  const programs = found.flatMap(({ program, node }): IrProgram[] => {
    const functions = lowerProgram(unit, program, node);
    return functions === undefined ? [] : [{ name: program.name, type: program.type, functions }];
  });
  const maps = mapsOf(unit);
  const root = options.root ?? packageFolder(source.entry.fileName);
  return {
    files: unit.files.map(({ fileName, text }) => ({ path: relative(root, fileName), text })),
    structs: irStructs(maps),
    maps: irMaps(maps),
    programs,
  };
}

/** Exported programs in the order of their names' export. */
function programsOf(
  unit: Unit,
  source: Source,
  exported: Readonly<Record<string, unknown>>,
): { program: ProgramValue; node: ts.Node }[] {
  const symbol = source.checker.getSymbolAtLocation(source.entry);
  const nodes = new Map(
    (symbol === undefined ? [] : source.checker.getExportsOfModule(symbol)).map((s) => [
      s.name,
      declarationOf(source, s),
    ]),
  );
  const seen = new Set<ProgramValue>();
  const names = new Set<string>();
  return Object.entries(exported).flatMap(([name, value]) => {
    if (!isProgram(value) || seen.has(value)) return [];
    seen.add(value);
    const node = nodes.get(name) ?? source.entry;
    if (names.has(value.name)) unit.report(diagnosticAt(placeOf(node), say.sameProgramName(value.name)));
    if (!/^[A-Za-z0-9_.]{1,15}$/.test(value.name))
      unit.report(diagnosticAt(placeOf(node), say.programName(value.name)));
    names.add(value.name);
    return [{ program: value, node }];
  });
}

function declarationOf(source: Source, symbol: ts.Symbol): ts.Node | undefined {
  const target = symbol.flags & ts.SymbolFlags.Alias ? source.checker.getAliasedSymbol(symbol) : symbol;
  return target.valueDeclaration;
}

/** All maps at module scope of what was imported, in the order declared, and whatever else a program uses. */
function mapsOf(unit: Unit): MapDefinition[] {
  const declared = unit.source.files.flatMap((file) =>
    file.statements.filter(ts.isVariableStatement).flatMap(({ declarationList }) =>
      declarationList.declarations.flatMap(({ name }) => {
        const symbol = ts.isIdentifier(name) ? unit.checker.getSymbolAtLocation(name) : undefined;
        const value = symbol === undefined ? undefined : unit.buildTime.valueOf(symbol)?.value;
        return isMap(value) ? [value] : [];
      }),
    ),
  );
  return [...new Set([...declared, ...unit.usedMaps])];
}

function packageFolder(file: string): string {
  for (let folder = dirname(file); ; folder = dirname(folder)) {
    if (existsSync(join(folder, 'package.json')) || folder === dirname(folder))
      return folder === '/' ? dirname(file) : folder;
  }
}
