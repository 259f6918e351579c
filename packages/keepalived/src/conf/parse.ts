/** A configuration file, and all it includes, to a tree and everything that is wrong with it. */
import { readdirSync, readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import type { Diagnostic } from './diagnostics.ts';
import { type ExpandOptions, expand } from './expand.ts';
import type { Files } from './glob.ts';
import type { Position } from './source.ts';
import { buildTree, type Statement } from './tree.ts';

export interface ParsedFile {
  readonly statements: readonly Statement[];
  readonly diagnostics: readonly Diagnostic[];
  readonly sources: ReadonlyMap<string, string>;
}

export function parseFile(path: string, options: Partial<ExpandOptions> = {}): ParsedFile {
  const { files = diskFiles, configId = defaultConfigId(), environment = process.env, random = Math.random } = options;
  const { lines, diagnostics, sources } = expand(path, { files, configId, environment, random });
  const tree = buildTree(lines);
  return { statements: tree.statements, diagnostics: [...diagnostics, ...tree.diagnostics], sources };
}

export function parseText(text: string, options: Partial<ExpandOptions> & { readonly file?: string } = {}): ParsedFile {
  const { file = 'keepalived.conf', files = noFiles } = options;
  const withText: Files = { ...files, read: (path) => (path === file ? text : files.read(path)) };
  return parseFile(file, { configId: 'here', environment: {}, ...options, files: withText });
}

/** For `formatDiagnostic`: the line a position is on. */
export function lineFinder(sources: ReadonlyMap<string, string>): (position: Position) => string | undefined {
  const split = new Map<string, string[]>();
  return ({ file, line }) => {
    const text = sources.get(file);
    if (text === undefined) return undefined;
    const lines = split.get(file) ?? text.split('\n');
    split.set(file, lines);
    return lines[line - 1];
  };
}

/** The first part of the host's name. */
export function defaultConfigId(): string {
  return hostname().split('.', 1)[0] ?? '';
}

export const noFiles: Files = { read: () => new Error('no such file'), list: () => [] };

export const diskFiles: Files = {
  read(path) {
    try {
      return readFileSync(path, 'utf8');
    } catch (error) {
      return error instanceof Error ? error : new Error(String(error));
    }
  },
  list(folder) {
    try {
      return readdirSync(folder);
    } catch {
      return [];
    }
  },
};
