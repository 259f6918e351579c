/**
 * Cases that anyone can read: TypeScript in, and what becomes of it: `errors`, `ir` (as lowered), or nothing but `fine`.
 *
 *     === a sentence
 *     the source; everything of '@ipvsd/bpf' is imported
 *     --- errors
 *     what is expected
 *
 * UPDATE=1 rewrites the expected half; the diff is what gets reviewed.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import * as language from '../language/index.ts';
import { irText, printable } from './back/ir-text.ts';
import { compile, formatDiagnostic } from './index.ts';

const FOLDER = fileURLToPath(new URL('./cases/', import.meta.url));
const FILE = '/case.ts';
const TYPES = ['u8', 'u16', 'u32', 'i32', 'u64', 'be16', 'be32', 'FibLookup'];
const VALUES = Object.keys(language).filter((name) => !TYPES.includes(name));
/** At the end, so that lines keep their numbers. */
const IMPORTS = `\nimport { ${[...VALUES, ...TYPES].join(', ')}, type Skb, type View, type ViewOf } from '@ipvsd/bpf';\n`;

interface Case {
  readonly name: string;
  readonly source: string;
  readonly wants: 'errors' | 'ir' | 'fine';
  readonly expected: string;
}

function read(text: string): { title: string; cases: Case[] } {
  const [title = '', ...parts] = text.split(/^=== /m);
  const cases = parts.map((part): Case => {
    const [head = '', expected = ''] = part.split(/^--- .*\n/m);
    const wants = (/^--- (\w+)$/m.exec(part)?.[1] ?? 'errors') as Case['wants'];
    const end = head.indexOf('\n');
    return { name: head.slice(0, end), source: head.slice(end + 1), wants, expected: expected.trimEnd() };
  });
  return { title, cases };
}

const write = (title: string, cases: readonly Case[]): string =>
  title +
  cases.map(({ name, source, wants, expected }) => `=== ${name}\n${source}--- ${wants}\n${expected}${expected === '' ? '' : '\n'}`).join('\n');

function outcomeOf({ source, wants }: Case): string {
  const { ir, diagnostics } = compile(FILE, { files: { [FILE]: source.trimEnd() + IMPORTS }, root: '/', irOnly: true });
  if (wants !== 'ir' || ir === undefined) {
    return diagnostics.map((d) => formatDiagnostic(d, (path) => path.slice(1))).join('\n');
  }
  return ir.programs.flatMap(({ functions }) => functions.map((one) => irText(printable(one)))).join('\n');
}

describe.each(readdirSync(FOLDER).filter((file) => file.endsWith('.txt')))('%s', (file) => {
  const { title, cases } = read(readFileSync(FOLDER + file, 'utf8'));
  const actual = new Map<Case, string>();
  test.each(cases)('$name', (one) => {
    const outcome = outcomeOf(one);
    actual.set(one, outcome);
    if (process.env['UPDATE'] === undefined) expect(outcome).toBe(one.expected);
  });
  afterAll(() => {
    if (process.env['UPDATE'] === undefined) return;
    const updated = cases.map((one) => ({ ...one, expected: actual.get(one) ?? one.expected }));
    writeFileSync(FOLDER + file, write(title, updated));
  });
});
