/**
 * From files to the lines that are parsed: comments and blank lines fall away, includes are read, conditions decided,
 * definitions taken down and put in, sequences played. In keepalived's order, which operators know by heart: an include
 * is seen before conditions and parameters, a comment before everything.
 */
import { dirname } from 'node:path';
import { type Diagnostic, type DiagnosticCode, diagnose } from './diagnostics.ts';
import { braceAlternatives, type Files, hasWildcard, matchFiles } from './glob.ts';
import { withoutComment, wordsOf } from './lexer.ts';
import { type Definitions, readDefinition, substitute } from './parameters.ts';
import { readSequence, startsSequence } from './sequences.ts';
import { type Line, lineOfFile, positionIn, replaceInLine, sliceLine } from './source.ts';

export interface ExpandOptions {
  readonly files: Files;
  /** `-i`: what `@id` is compared with. */
  readonly configId: string;
  readonly environment?: Readonly<Record<string, string | undefined>>;
  readonly random?: () => number;
}

export interface Expanded {
  readonly lines: readonly Line[];
  readonly diagnostics: readonly Diagnostic[];
  /** Every file that was read, by path, for printing lines and for watching. */
  readonly sources: ReadonlyMap<string, string>;
}

type IncludeCheck = 'readable' | 'match' | 'wildcard_match' | 'brace_match';
const ALL_CHECKS: readonly IncludeCheck[] = ['readable', 'match', 'wildcard_match', 'brace_match'];
const INCLUDES: Readonly<Record<string, readonly IncludeCheck[]>> = {
  include: [],
  includer: ['readable'],
  includem: ['match'],
  includew: ['wildcard_match'],
  includeb: ['brace_match'],
  includea: ALL_CHECKS,
};
const INCLUDE = /^\s*(include[rmwba]?)(?=[\s"'])/;

/** 65,024 VRRP instances of 14 lines, the manual's own example, are 910,336 lines. */
const MOST_LINES = 2_000_000;
const DEEPEST = 64;

export function expand(path: string, options: ExpandOptions): Expanded {
  const expansion = new Expansion(options);
  expansion.readMain(path);
  return expansion;
}

class Expansion implements Expanded {
  readonly lines: Line[] = [];
  readonly diagnostics: Diagnostic[] = [];
  readonly sources = new Map<string, string>();
  readonly #files: Files;
  readonly #configId: string;
  readonly #definitions: Definitions;
  readonly #reading: string[] = [];
  #checks: ReadonlySet<IncludeCheck> = new Set();
  #defining: { readonly name: string; readonly lines: string[] } | undefined;
  #full = false;

  constructor({ files, configId, environment = {}, random = Math.random }: ExpandOptions) {
    this.#files = files;
    this.#configId = configId;
    this.#definitions = { values: new Map(), instance: configId, environment, random };
  }

  readMain(path: string): void {
    const text = this.#files.read(path);
    if (text instanceof Error) {
      this.diagnostics.push(
        diagnose('unreadableFile', { file: path, line: 1, column: 1, length: 1 }, path, text.message),
      );
    } else this.#readText(path, text);
  }

  #readText(path: string, text: string): void {
    this.sources.set(path, text);
    this.#reading.push(path);
    for (const [index, raw] of text.split('\n').entries()) {
      const code = withoutComment(raw).trimEnd();
      // In a definition the mark that it goes on may stand before a comment or at its end.
      const goesOn = /\\\s*$/.test(raw) && !code.endsWith('\\');
      this.#readLine(lineOfFile(path, index + 1, goesOn && this.#defining ? `${code} \\` : code));
      if (this.#full) break;
    }
    this.#reading.pop();
  }

  #readLine(line: Line): void {
    if (this.#defining) this.#continueDefinition(line);
    else if (line.text.trim() === '') return;
    else if (INCLUDE.test(line.text)) this.#include(line);
    else this.#process(line, 0);
  }

  /** A line of the file, or one that a definition or a sequence made. */
  #process(given: Line, depth: number): void {
    const line = this.#decideCondition(given);
    if (line === undefined || line.text.trim() === '') return;
    const definition = readDefinition(line.text);
    if (definition) this.#define(definition, depth);
    else if (depth > DEEPEST) this.#giveUp(line, `${DEEPEST} levels`);
    else if (startsSequence(line.text)) this.#playSequence(line, depth);
    else this.#substitute(line, depth);
  }

  #substitute(line: Line, depth: number): void {
    const lines = substitute(line, this.#definitions);
    const [only] = lines ?? [];
    if (lines === undefined) this.#complain('tooLarge', line, 'any line can hold');
    else if (lines.length === 1 && only?.text === line.text) this.#emit(line);
    else for (const made of lines) this.#process(made, depth + 1);
  }

  /** `@id` keeps the line for that id, `@^id` for every other. */
  #decideCondition(line: Line): Line | undefined {
    let current = line;
    for (let found = match(current); found; found = match(current)) {
      const [whole, not, id] = found;
      if ((id === this.#configId) === (not === '^')) return undefined;
      current = sliceLine(current, whole.length);
    }
    return current;
    function match({ text }: Line) {
      return /^\s*@(\^?)([^\s@^]\S*)\s*/.exec(text);
    }
  }

  #define({ name, value }: { name: string; value: string }, depth: number): void {
    if (!value.endsWith('\\')) {
      this.#definitions.values.set(name, [value.trim()]);
      return;
    }
    const first = value.slice(0, -1).trim();
    // Inside another definition's lines the continuation marks have been read already.
    if (depth > 0) this.#definitions.values.set(name, [first]);
    else this.#defining = { name, lines: first === '' ? [] : [first] };
  }

  #continueDefinition(line: Line): void {
    const { name, lines } = this.#defining!;
    const goesOn = line.text.endsWith('\\');
    const text = goesOn ? line.text.slice(0, -1).trimEnd() : line.text;
    if (text.trim() !== '') lines.push(text);
    if (goesOn) return;
    this.#definitions.values.set(name, lines);
    this.#defining = undefined;
  }

  #playSequence(line: Line, depth: number): void {
    // Its bounds may be parameters, the rest of the line must wait for the variables.
    const close = line.text.indexOf(')');
    const head = substitute(sliceLine(line, 0, close + 1), this.#definitions);
    const whole = head?.length === 1 ? replaceInLine(line, 0, close + 1, head[0]!.text) : line;
    const sequence = readSequence(whole.text);
    if (sequence === undefined) {
      this.#complain('badSequence', line, line.text.slice(0, close + 1).trim());
      return;
    }
    const rest = sliceLine(whole, sequence.end);
    for (const round of sequence.rounds) {
      if (this.#full) return;
      for (const [name, value] of round) this.#definitions.values.set(name, [value]);
      this.#process(rest, depth + 1);
    }
  }

  #include(line: Line): void {
    const { words } = wordsOf(line);
    const [keyword, pattern] = words;
    if (keyword === undefined || pattern === undefined) return;
    // Braces are words of their own to the lexer, but here they belong to the pattern.
    const text = words
      .slice(1)
      .map((word) => word.text)
      .join('');
    const checks = new Set([...this.#checks, ...(INCLUDES[keyword.text] ?? [])]);
    const alternatives = braceAlternatives(text);
    let read = 0;
    for (const alternative of alternatives) {
      const paths = matchFiles(alternative, dirname(line.file), this.#files);
      const before = read;
      for (const path of paths) if (this.#includeFile(path, line, checks.has('readable'))) read++;
      const wildcardWithout = hasWildcard(alternative) && paths.length === 0 && checks.has('wildcard_match');
      const braceWithout = alternatives.length > 1 && read === before && checks.has('brace_match');
      if (wildcardWithout || braceWithout) this.#complain('includeMissing', line, alternative);
    }
    if (read === 0 && checks.has('match')) this.#complain('includeMissing', line, text);
  }

  #includeFile(path: string, line: Line, mustBeReadable: boolean): boolean {
    if (this.#reading.includes(path)) {
      this.#complain('includeLoop', line, path);
      return true;
    }
    const text = this.#files.read(path);
    if (text instanceof Error) {
      if (mustBeReadable) this.#complain('includeUnreadable', line, path, text.message);
      return false;
    }
    this.#readText(path, text);
    return true;
  }

  #emit(line: Line): void {
    const [, sign, check] = /^\s*include_check\s+([+-]?)(\w+)/.exec(line.text) ?? [];
    if (check !== undefined) this.#setChecks(sign ?? '', check);
    if (this.lines.length >= MOST_LINES) this.#giveUp(line, `${MOST_LINES} lines`);
    else this.lines.push(line);
  }

  #setChecks(sign: string, name: string): void {
    const named = name === 'all' ? ALL_CHECKS : ALL_CHECKS.filter((check) => check === name);
    const base = sign === '' ? [] : [...this.#checks].filter((check) => sign === '+' || !named.includes(check));
    this.#checks = new Set(sign === '-' ? base : [...base, ...named]);
  }

  #giveUp(line: Line, what: string): void {
    if (!this.#full) this.#complain('tooLarge', line, what);
    this.#full = true;
  }

  #complain(code: DiagnosticCode, line: Line, ...words: readonly string[]): void {
    const start = line.text.search(/\S/);
    const position = positionIn(line, Math.max(0, start), line.text.trimEnd().length - start);
    this.diagnostics.push(diagnose(code, position, ...words));
  }
}
