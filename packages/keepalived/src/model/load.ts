/** A file to a configuration with everything there is to say about it: what `check`, `run` and `plan` begin with. */
import { accessSync, constants } from 'node:fs';
import type { Diagnostic } from '../conf/diagnostics.ts';
import type { ExpandOptions } from '../conf/expand.ts';
import { type ParsedFile, parseFile, parseText } from '../conf/parse.ts';
import { understand } from '../conf/understand.ts';
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

function load(parsed: ParsedFile, isExecutable: IsExecutable): LoadedConfiguration {
  const { drafts, diagnostics: meaning } = understand(parsed.statements);
  const { configuration, diagnostics: corrections } = resolve(drafts);
  const diagnostics = [...parsed.diagnostics, ...meaning, ...corrections, ...findings(configuration, isExecutable)];
  return { configuration, diagnostics: sortByPlace(diagnostics), sources: parsed.sources };
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
