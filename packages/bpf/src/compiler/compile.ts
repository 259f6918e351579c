/**
 * The compiler, step after step: an entry file in, a collection of maps and programs out.
 */
import { existsSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import ts from 'typescript';
import type { CollectionSpec } from '../spec.ts';
import { BuildTime } from './build-time.ts';
import { CompileError, type Diagnostic, diagnosticAt, placeOf, say } from './diagnostics.ts';
import type { IrModule, IrProgram } from './ir.ts';
import { irMaps, irStructs } from './ir-module.ts';
import { lowerProgram } from './lower/entry.ts';
import { TooManyErrors, Unit } from './lower/unit.ts';
import { isMap, isProgram, type ProgramValue } from './lower/value.ts';
import { loadProgram, type Overlay, type Source } from './program.ts';
import type { MapDefinition } from '../language/map.ts';

export interface CompileOptions {
  /** Texts that stand in for files, by absolute path. */
  readonly files?: Overlay;
  /** What paths in the output are relative to; the folder of the nearest package.json where not given. */
  readonly root?: string;
  /** Stop at the IR. */
  readonly irOnly?: boolean;
}

export interface CompileResult {
  /** Absent when there were errors. */
  readonly spec?: CollectionSpec;
  readonly ir?: IrModule;
  readonly diagnostics: readonly Diagnostic[];
}

/** Turns IR into instructions. */
export type Emitter = (module: IrModule) => CollectionSpec;

export function compileWith(emit: Emitter | undefined, entryFile: string, options: CompileOptions = {}): CompileResult {
  const { source, diagnostics } = loadProgram(entryFile, options.files);
  if (source === undefined || diagnostics.length > 0) return { diagnostics };
  const unit = new Unit(source, new BuildTime(source));
  try {
    const ir = toIr(unit, source, options);
    if (unit.diagnostics.length > 0) return { diagnostics: unit.diagnostics };
    if (emit === undefined || options.irOnly === true) return { ir, diagnostics: [] };
    return { ir, spec: emit(ir), diagnostics: [] };
  } catch (error) {
    if (error instanceof CompileError) unit.diagnostics.push(error.diagnostic);
    else if (error instanceof TooManyErrors) unit.diagnostics.push(diagnosticAt(undefined, say.tooManyErrors(unit.diagnostics.length)));
    else throw error;
    return { diagnostics: unit.diagnostics };
  }
}

function toIr(unit: Unit, source: Source, options: CompileOptions): IrModule {
  const exported = unit.buildTime.run();
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
  const nodes = new Map((symbol === undefined ? [] : source.checker.getExportsOfModule(symbol)).map((s) => [s.name, declarationOf(source, s)]));
  const names = new Set<string>();
  return Object.entries(exported).flatMap(([name, value]) => {
    if (!isProgram(value)) return [];
    const node = nodes.get(name) ?? source.entry;
    if (names.has(value.name)) unit.report(diagnosticAt(placeOf(node), say.sameProgramName(value.name)));
    if (!/^[A-Za-z0-9_.]{1,15}$/.test(value.name)) unit.report(diagnosticAt(placeOf(node), say.programName(value.name)));
    names.add(value.name);
    return [{ program: value, node }];
  });
}

function declarationOf(source: Source, symbol: ts.Symbol): ts.Node | undefined {
  const target = symbol.flags & ts.SymbolFlags.Alias ? source.checker.getAliasedSymbol(symbol) : symbol;
  return target.valueDeclaration;
}

/** All maps at module scope of what was imported, used by a program or only by user space. */
function mapsOf(unit: Unit): MapDefinition[] {
  const maps = new Set<MapDefinition>();
  for (const file of unit.source.files) {
    for (const statement of file.statements) {
      if (!ts.isVariableStatement(statement)) continue;
      for (const { name } of statement.declarationList.declarations) {
        const symbol = ts.isIdentifier(name) ? unit.checker.getSymbolAtLocation(name) : undefined;
        const value = symbol === undefined ? undefined : unit.buildTime.valueOf(symbol)?.value;
        for (const map of isMap(value) ? [value] : mapsWithin(value)) maps.add(map);
      }
    }
  }
  return [...maps];
}

/** Maps that are only reached through a table: `const IPV4 = { flows: hashMap(...) }`. */
function mapsWithin(value: unknown): MapDefinition[] {
  if (typeof value !== 'object' || value === null || isProgram(value)) return [];
  const prototype = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && !Array.isArray(value)) return [];
  return Object.values(value).filter(isMap);
}

function packageFolder(file: string): string {
  for (let folder = dirname(file); ; folder = dirname(folder)) {
    if (existsSync(join(folder, 'package.json')) || folder === dirname(folder)) return folder === '/' ? dirname(file) : folder;
  }
}

