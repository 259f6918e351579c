import { test } from 'vitest';
import { writeFileSync } from 'node:fs';
import { compile, formatDiagnostic, dump, printIr } from './index.ts';
import { loadCollection } from '../kernel/index.ts';
test('x', () => {
  let t = performance.now();
  const r = compile('/work/main/packages/ipvs/src/programs/index.ts');
  console.log('compile', performance.now() - t);
  for (const d of r.diagnostics) console.log(formatDiagnostic(d));
  writeFileSync('/tmp/scratch/ipvs.ir', printIr(r.ir!));
  writeFileSync('/tmp/scratch/ipvs.opt', dump({ module: r.ir! }, { ir: 'optimised' }));
  writeFileSync('/tmp/scratch/ipvs.insn', dump({ spec: r.spec! }));
  for (const p of r.spec!.programs) console.log(p.name, p.instructions.length / 4 * 3 / 8 | 0, p.stackBytes, p.functions.length);
  t = performance.now();
  const c = loadCollection(r.spec!, { log: 4 });
  console.log('load', performance.now() - t);
  for (const p of c.programs.values()) console.log(p.name, p.log);
  c.close();
});
