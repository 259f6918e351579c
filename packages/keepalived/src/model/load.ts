/** A file to a configuration with everything there is to say about it: what `check`, `run` and `plan` begin with. */
import { accessSync, constants } from 'node:fs';
import type { Diagnostic } from '../conf/diagnostics.ts';
import type { ExpandOptions } from '../conf/expand.ts';
import { diskFiles, type ParsedFile, parseFile, parseText } from '../conf/parse.ts';
import { understand } from '../conf/understand.ts';
import { readNative } from '../native/read.ts';
import type { Configuration } from './configuration.ts';
import { findings, type IsExecutable } from './findings.ts';
import { resolve } from './resolve.ts';

export interface LoadedConfiguration {
  readonly configuration: Configuration;
  readonly diagnostics: readonly Diagnostic[];
  readonly sources: ReadonlyMap<string, string>;
}

export function loadKeepalivedFile(path: string, options: Partial<ExpandOptions> = {}): LoadedConfiguration {
  return load(parseFile(path, options), isExecutableHere);
}

export function loadKeepalivedText(text: string, options: Parameters<typeof parseText>[1] = {}): LoadedConfiguration {
  return load(parseText(text, options), () => false);
}

/** .yaml, .yml and .json are ours, everything else is keepalived's. */
export function isNativeFile(path: string): boolean {
  return /\.(ya?ml|json)$/.test(path);
}

export function loadConfigurationFile(path: string, options: Partial<ExpandOptions> = {}): LoadedConfiguration {
  if (!isNativeFile(path)) return loadKeepalivedFile(path, options);
  const text = (options.files ?? diskFiles).read(path);
  if (text instanceof Error) return loadKeepalivedFile(path, options);
  return loadNativeText(path, text);
}

export function loadNativeText(file: string, text: string): LoadedConfiguration {
  const { drafts, diagnostics: shape } = readNative(file, text);
  const { configuration, diagnostics: corrections } = resolve(drafts);
  // A check that is written once for all real servers has said once what is to be said of it.
  const diagnostics = unique([...shape, ...corrections, ...findings(configuration, isExecutableHere)]);
  return { configuration, diagnostics: sortByPlace(diagnostics), sources: new Map([[file, text]]) };
}

function load(parsed: ParsedFile, isExecutable: IsExecutable): LoadedConfiguration {
  const { drafts, diagnostics: meaning } = understand(parsed.statements);
  const { configuration, diagnostics: corrections } = resolve(drafts);
  const diagnostics = [...parsed.diagnostics, ...meaning, ...corrections, ...findings(configuration, isExecutable)];
  return { configuration, diagnostics: sortByPlace(diagnostics), sources: parsed.sources };
}

function unique(diagnostics: readonly Diagnostic[]): Diagnostic[] {
  const key = ({ message, position: { line, column } }: Diagnostic): string => `${line}:${column} ${message}`;
  return [...new Map(diagnostics.map((diagnostic) => [key(diagnostic), diagnostic])).values()];
}

/** By file in the order they were first named, then by line: how a person reads them. */
function sortByPlace(diagnostics: readonly Diagnostic[]): Diagnostic[] {
  const files = [...new Set(diagnostics.map(({ position }) => position.file))];
  return diagnostics.toSorted(
    (a, b) =>
      files.indexOf(a.position.file) - files.indexOf(b.position.file) ||
      a.position.line - b.position.line ||
      a.position.column - b.position.column,
  );
}

function isExecutableHere(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
