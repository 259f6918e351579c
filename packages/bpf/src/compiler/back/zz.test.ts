import { test } from 'vitest';
import { disassemble } from '/work/main/packages/bpf/src/assembler/index.ts';
import { emit } from '/work/main/packages/bpf/src/compiler/back/index.ts';
import { loadCollection } from '/work/main/packages/bpf/src/kernel/index.ts';
import { realistic } from '/work/main/packages/bpf/src/testing/realistic.ts';

test('x', () => {
  const spec = emit(realistic());
  const p = spec.programs[0]!;
  console.log(disassemble(Buffer.from(p.instructions, 'base64')));
  console.log(p.stackBytes);
  const c = loadCollection(spec, { log: 4 });
  const prog = [...c.programs.values()][0]!;
  console.log(prog.log);
  const r = prog.testRun({ data: new Uint8Array(64) });
  console.log(r.retval);
});
