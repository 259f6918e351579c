/**
 * Cases that anyone can read: TypeScript in, and what becomes of it: `errors`, `ir` (as lowered), `run` (what it makes of a
 * packet of 256 zeros, the same in V8, as IR, as instructions and in the kernel), or nothing but `fine`.
 *
 *     === a sentence
 *     the source; everything of '@ipvsd/bpf' is imported
 *     --- errors
 *     what is expected
 *
 * What compiles must also load. UPDATE=1 rewrites the expected half; the diff is what gets reviewed.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { type Collection, loadCollection } from '../kernel/index.ts';
import * as language from '../language/index.ts';
import { NodeSkb, type TcProgram, World } from '../language/index.ts';
import { interpret, simulate } from '../testing/interpreter.ts';
import { interpretIr } from '../testing/ir-interpreter.ts';
import { itKernel } from '../testing/kernel.ts';
import { irText, printable } from './back/ir-text.ts';
import { type CompileResult, compile, formatDiagnostic } from './index.ts';

const FOLDER = fileURLToPath(new URL('./cases/', import.meta.url));
const FILE = '/case.ts';
const TYPES = ['u8', 'u16', 'u32', 'i32', 'u64', 'be16', 'be32', 'FibLookup'];
const VALUES = Object.keys(language).filter((name) => !TYPES.includes(name));
/** At the end, so that lines keep their numbers. */
const IMPORTS = `\nimport { ${[...VALUES, ...TYPES].join(', ')}, type Skb, type View, type ViewOf } from '@ipvsd/bpf';\n`;

interface Case {
  readonly name: string;
  readonly source: string;
  readonly wants: 'errors' | 'ir' | 'run' | 'fine';
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
  cases
    .map(
      ({ name, source, wants, expected }) =>
        `=== ${name}\n${source}--- ${wants}\n${expected}${expected === '' ? '' : '\n'}`,
    )
    .join('\n');

const compileCase = ({ source }: Case): CompileResult =>
  compile(FILE, { files: { [FILE]: source.trimEnd() + IMPORTS }, root: '/' });

function outcomeOf(result: CompileResult, wants: Case['wants']): string {
  const { ir, diagnostics } = result;
  if (wants === 'run' && diagnostics.length === 0) return inNode(result);
  if (wants !== 'ir' || ir === undefined) {
    return diagnostics.map((d) => formatDiagnostic(d, (path) => path.slice(1))).join('\n');
  }
  return ir.programs.flatMap(({ functions }) => functions.map((one) => irText(printable(one)))).join('\n');
}

function expectNoThrow<T>(name: string, make: () => T): T {
  try {
    return make();
  } catch (error) {
    throw new Error(`${name}: ${(error as Error).message}`);
  }
}

/** The verdict and the rows of the packet that are not zero. */
function showRun(verdict: number | bigint, packet: Uint8Array): string {
  const rows = Array.from({ length: packet.length / 16 }, (_, i) => packet.subarray(i * 16, i * 16 + 16));
  const shown = rows.flatMap((row, i) =>
    row.some((byte) => byte !== 0) ? [`${String(i * 16).padStart(3)}: ${hex(row)}`] : [],
  );
  return [`verdict ${BigInt.asIntN(32, BigInt(verdict))}`, ...shown].join('\n');
}

const hex = (bytes: Uint8Array): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(' ');
const SURROUNDINGS = { now: () => 1_000_000_000n, random: () => 4 };
const PACKET = new Uint8Array(256);

function inNode({ exports }: CompileResult): string {
  const skb = new NodeSkb(PACKET);
  return showRun(new World(SURROUNDINGS).runTc(exports!['program'] as TcProgram, skb), skb.bytes);
}

function inInterpreters({ ir, spec }: CompileResult): string[] {
  const [first, second] = [new NodeSkb(PACKET), new NodeSkb(PACKET)];
  const options = { surroundings: SURROUNDINGS };
  return [
    showRun(interpretIr(ir!.programs[0]!, simulate(spec!, options), first), first.bytes),
    showRun(interpret(spec!.programs[0]!, simulate(spec!, options), second).result, second.bytes),
  ];
}

function inKernel(collection: Collection): string {
  const [program] = collection.programs.values();
  const { retval, data } = program!.testRun({ data: PACKET });
  return showRun(retval, data);
}

describe.each(readdirSync(FOLDER).filter((file) => file.endsWith('.txt')))('%s', (file) => {
  const { title, cases } = read(readFileSync(FOLDER + file, 'utf8'));
  const results = new Map<Case, CompileResult>();
  test.each(cases)('$name', (one) => {
    const result = compileCase(one);
    results.set(one, result);
    const outcome = outcomeOf(result, one.wants);
    if (process.env['UPDATE'] === undefined) expect(outcome).toBe(one.expected);
    if (one.wants === 'run' && result.spec !== undefined) expect(inInterpreters(result)).toEqual([outcome, outcome]);
  });
  itKernel('the kernel takes all that compiles, and agrees', () => {
    for (const [{ name, wants }, result] of results) {
      if (result.spec === undefined) continue;
      const collection = expectNoThrow(name, () => loadCollection(result.spec!));
      if (wants === 'run') expect(inKernel(collection), name).toBe(inNode(result));
      collection.close();
    }
  });
  const expectedNow = (one: Case): string => {
    const result = results.get(one);
    return result === undefined ? one.expected : outcomeOf(result, one.wants);
  };
  afterAll(() => {
    if (process.env['UPDATE'] === undefined) return;
    const updated = cases.map((one) => ({ ...one, expected: expectedNow(one) }));
    writeFileSync(FOLDER + file, write(title, updated));
  });
});
