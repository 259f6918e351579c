/** The pipeline around lowering: files and imports, what runs at build time, what comes out. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { NodeSkb, type TcProgram, World } from '../language/index.ts';
import { type CompileResult, compile, dumpSpec, formatDiagnostic, printIr } from './index.ts';

const FILES = {
  '/p/package.json': '{}',
  '/p/src/main.ts': `
    import { TC_ACT_OK, tcProgram } from '@ipvsd/bpf';
    import * as limits from './limits.ts';
    import { Kind, tables, weigh } from './tables/index.ts';
    export const first = tcProgram('first', (skb) => (skb.len > limits.MOST ? Kind.Long : weigh(skb, tables.v4.cells)));
    const second = tcProgram('second', () => TC_ACT_OK);
    export { second, second as again };
  `,
  '/p/src/limits.ts': "export const MOST = Math.max(...[100, 1500]);\nexport * from './tables/index.ts';",
  '/p/src/tables/index.ts': `
    import { arrayMap, hashMap, type Skb, struct, u32, type ViewOf } from '@ipvsd/bpf';
    import { MOST } from '../limits.ts';
    export const enum Kind { Short = 1, Long = 2 }
    export const Cell = struct('cell', { weight: u32 });
    type Cells = typeof spare;
    export const spare = arrayMap('spare', Cell, { maxEntries: 8 });
    export const tables = { v4: { cells: arrayMap('v4_cells', Cell, { maxEntries: 8 }) } };
    const weightOf = (cell: ViewOf<typeof Cell>): number => (cell.weight < MOST ? 5 : 6);
    export function weigh(skb: Skb, cells: Cells): number {
      const cell = cells.at(skb.mark);
      return cell === null ? 0 : weightOf(cell);
    }
  `,
};

function expectFine(result: CompileResult): Required<CompileResult> {
  expect(result.diagnostics.map((d) => formatDiagnostic(d))).toEqual([]);
  return result as Required<CompileResult>;
}

describe('a program of several files', () => {
  const { spec, ir, exports } = expectFine(compile('/p/src/main.ts', { files: FILES, root: '/p' }));

  test('has the exported programs once each, and all maps at module scope or in use', () => {
    expect(spec.programs.map(({ name }) => name)).toEqual(['first', 'second']);
    expect(spec.maps.map(({ name }) => name)).toEqual(['spare', 'v4_cells']);
  });

  test('names files from the package, and gives each instruction its line', () => {
    expect(spec.files.map(({ path }) => path).sort()).toEqual(['src/main.ts', 'src/tables/index.ts']);
    expect(dumpSpec(spec)).toContain('src/tables/index.ts:12: return cell === null ? 0 : weightOf(cell);');
  });

  test('is the same bytes each time', () => {
    expect(compile('/p/src/main.ts', { files: FILES, root: '/p' }).spec).toEqual(spec);
  });

  test('runs in Node as it is', () => {
    const world = new World({ now: () => 0n, random: () => 0 });
    const run = (length: number): number =>
      world.runTc(exports['first'] as TcProgram, new NodeSkb(new Uint8Array(length)));
    expect([run(60), run(1501)]).toEqual([5, 2]);
  });

  test('prints its IR', () => {
    expect(printIr(ir)).toContain('map v4_cells: array u32 -> cell, 8 entries');
  });
});

test('a file anywhere on disk can import the language', () => {
  const folder = mkdtempSync(join(tmpdir(), 'bpf-'));
  try {
    const entry = join(folder, 'drop.ts');
    writeFileSync(
      entry,
      "import { TC_ACT_SHOT, tcProgram } from '@ipvsd/bpf';\nexport const drop = tcProgram('drop', () => TC_ACT_SHOT);\n",
    );
    expect(expectFine(compile(entry)).spec.programs[0]?.lines[0]).toMatchObject({ line: 2 });
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('a missing entry is a diagnostic', () => {
  expect(compile('/nowhere/main.ts').diagnostics.map((d) => formatDiagnostic(d))).toEqual([
    'Cannot read "/nowhere/main.ts": there is no such file [BPF1002]',
  ]);
});

test('an exception at build time is found in the file it comes from', () => {
  const files = {
    '/p/main.ts':
      "import { tcProgram } from '@ipvsd/bpf';\nimport { made } from './made.ts';\nexport const p = tcProgram('p', () => made);\n",
    '/p/made.ts': 'const list: number[] = [];\nexport const made: number = list.map((x) => x)[0]!.toFixed().length;\n',
  };
  const [diagnostic] = compile('/p/main.ts', { files }).diagnostics;
  expect(diagnostic).toMatchObject({ file: '/p/made.ts', line: 2, code: 'BPF1004' });
});
