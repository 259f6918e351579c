import { test } from 'vitest';
import { writeFileSync } from 'node:fs';
import { compile, formatDiagnostic, dump } from '../compiler/index.ts';
import { loadCollection } from '../kernel/index.ts';
import { Random } from './random.ts';
import { RandomProgram } from './random-program.ts';
test('x', () => {
  const random = new Random(Number(process.env['SEED']));
  const source = new RandomProgram(random).module(4 + random.below(14));
  const r = compile('/x/program.ts', { files: { '/x/program.ts': source } });
  for (const d of r.diagnostics) console.log(formatDiagnostic(d));
  writeFileSync('/tmp/scratch/f.insn', dump({ spec: r.spec! }));
  writeFileSync('/tmp/scratch/f.ir', dump({ module: r.ir! }, { ir: 'lowered' }));
  writeFileSync('/tmp/scratch/f.opt', dump({ module: r.ir! }, { ir: 'optimised' }));
  try { loadCollection(r.spec!, { log: 1 }); } catch (e) { writeFileSync('/tmp/scratch/f.log', String((e as {log:string}).log)); }
});
