import { writeFileSync } from 'node:fs';
import { test } from 'vitest';
import { loadCollection } from '../kernel/index.ts';
import { emit, optimised } from './back/index.ts';
import { assignRegisters } from './back/registers.ts';
import { select } from './back/select.ts';
import { layOutFrame } from './back/stack.ts';
import { compile, dump, formatDiagnostic, printIr } from './index.ts';

test('x', () => {
  let t = performance.now();
  const r = compile('/work/main/packages/ipvs/src/programs/index.ts', { irOnly: true });
  console.log('front', performance.now() - t);
  t = performance.now();
  for (const p of r.ir!.programs)
    for (const f of p.functions) {
      const n = f.blocks.reduce((s, b) => s + b.instructions.length + 1, 0);
      const t = performance.now();
      const b = optimised(f, p.type);
      const t1 = performance.now();
      const sel = select(b);
      const t2 = performance.now();
      const a = assignRegisters(sel);
      const t3 = performance.now();
      const fr = layOutFrame(b, a.homes);
      const t4 = performance.now();
      const n2 = b.blocks.reduce((s, b) => s + b.instructions.length + 1, 0);
      console.log(
        p.name,
        f.name,
        n,
        n2,
        'opt',
        t1 - t,
        'select',
        t2 - t1,
        'ra',
        t3 - t2,
        t4 - t3,
        'stack',
        fr.bytes,
        fr.homes.length,
      );
      if (f.name === 'ipvsd_ingress')
        console.log(
          fr.slots
            .map((x, i) =>
              x === undefined ? '' : `${i}:${x}-${x - f.slots[i]!.size}${f.slots[i]!.scratch ? 's' : ''}`,
            )
            .join(' '),
          'homes',
          fr.homes.join(' '),
        );
    }
  t = performance.now();
  const spec = emit(r.ir!);
  console.log('emit', performance.now() - t);
});
