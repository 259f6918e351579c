import { test } from 'vitest';
import { writeFileSync } from 'node:fs';
import { compile, dump } from './index.ts';
test('x', () => {
  const r = compile('/work/main/packages/ipvs/src/programs/index.ts', { irOnly: true });
  writeFileSync('/tmp/scratch/ipvs.opt', dump({ module: r.ir! }, { ir: 'optimised', program: 'ipvsd_ingress' }));
});
