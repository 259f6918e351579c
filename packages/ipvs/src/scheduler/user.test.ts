import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { compile, formatDiagnostic } from '@ipvsd/bpf/compiler';
import { expect, test } from 'vitest';
import { schedulerModule } from '../compiled.ts';
import { NONE, network, scheduler } from './user.ts';

const EXAMPLES = fileURLToPath(new URL('../../../../examples/schedulers/', import.meta.url));
const modules = { 'ipvsd/scheduler': schedulerModule() };

test.each(readdirSync(EXAMPLES))('the example %s compiles to one program of its name', (file) => {
  const { spec, diagnostics } = compile(EXAMPLES + file, { modules });
  expect(diagnostics.map((diagnostic) => formatDiagnostic(diagnostic))).toEqual([]);
  expect(spec!.programs.map(({ name }) => name)).toEqual([file.replace('.ts', '')]);
});

test('the module is found from anywhere on a disk', () => {
  const text = `import { NONE, scheduler } from 'ipvsd/scheduler';\nexport default scheduler('nobody', () => NONE);\n`;
  const { spec, diagnostics } = compile('/nowhere/at/all.ts', { modules, files: { '/nowhere/at/all.ts': text } });
  expect(diagnostics).toEqual([]);
  expect(spec!.programs).toHaveLength(1);
});

test('names and networks are read at build time', () => {
  expect(scheduler('mine', () => NONE)).toMatchObject({ kind: 'program', type: 'tc', name: 'mine', scheduler: 'mine' });
  expect(() => scheduler('far-too-long-a-name', () => NONE)).toThrow('a name has 1 to 15 letters');
  expect(network('10.1.2.3/16')).toEqual({ address: 0x0a01_0000, mask: 0xffff_0000 });
  expect(network('0.0.0.0/0')).toEqual({ address: 0, mask: 0 });
  for (const text of ['10.1.0.0', '10.1.0.0/33', '10.256.0.0/16', '::/0']) expect(() => network(text)).toThrow(text);
});
