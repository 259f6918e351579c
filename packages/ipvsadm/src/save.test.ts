import { emptyTable, MemoryDirector, type ServiceTable } from '@ipvsd/director';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { serviceTables } from '../../director/src/testing/tables.ts';
import { CapturedOutput, textInput } from './io.ts';
import { runIpvsadm } from './run.ts';
import { runIpvsadmRestore } from './scripts.ts';
import { fileNames } from './services-names.ts';

const names = fileNames('', '');

async function run(argv: readonly string[], director: MemoryDirector, stdin = '') {
  const [stdout, stderr] = [new CapturedOutput(), new CapturedOutput()];
  const io = { director: () => director, stdin: textInput(stdin), stdout, stderr, names, programName: 'ipvsadm' };
  const status = argv[0] === 'restore' ? await runIpvsadmRestore(argv.slice(1), io) : await runIpvsadm(argv, io);
  return { status, stdout: stdout.text, stderr: stderr.text };
}

const comparable = ({ services, timeouts }: ServiceTable) => ({ services: Object.fromEntries(services), timeouts });

// fast-check prints the seed of a failure; SEED replays it.
const { SEED } = process.env;
const parameters = SEED === undefined ? {} : { seed: Number(SEED) };

test('a complete save, restored, is the same table', async () => {
  await fc.assert(
    fc.asyncProperty(serviceTables, fc.boolean(), async (table, atomic) => {
      const saved = await run(['-S', '-n', '--complete'], new MemoryDirector({ table }));
      const director = new MemoryDirector();
      const restored = await run(['restore', ...(atomic ? ['--atomic'] : [])], director, saved.stdout);
      expect(restored).toEqual({ status: 0, stdout: '', stderr: '' });
      expect(comparable(director.table())).toEqual(comparable(table));
    }),
    parameters,
  );
});

test('an ordinary save, restored, is saved as the same lines unless a mark is above 2^31 or a flag has no name', async () => {
  const tables = serviceTables.filter(({ services }) =>
    [...services.values()].every(
      ({ id, schedulerFlags }) => schedulerFlags < 4 && !(id.kind === 'fwmark' && id.fwmark > 0x7fffffff),
    ),
  );
  await fc.assert(
    fc.asyncProperty(tables, async (table) => {
      const saved = await run(
        ['-S', '-n'],
        new MemoryDirector({ table: { ...emptyTable(), services: table.services } }),
      );
      const director = new MemoryDirector();
      expect(await run(['-R'], director, saved.stdout)).toEqual({ status: 0, stdout: '', stderr: '' });
      // Where addresses stand in a circle (see order.ts), their order depends on the one they were added in.
      const again = await run(['-S', '-n'], director);
      expect(again.stdout.split('\n').sort()).toEqual(saved.stdout.split('\n').sort());
    }),
    parameters,
  );
});

// Their square would take longer than the test may.
test('ten thousand lines are restored, in turn and atomically', { timeout: 30_000 }, async () => {
  const lines: string[] = [];
  for (let n = 0; n < 1000; n++) {
    const service = `192.${n >> 8}.${n & 255}.10:80`;
    lines.push(`-A -t ${service} -s wlc -p 60`);
    for (let m = 1; m < 10; m++) lines.push(`-a -t ${service} -r 10.${n >> 8}.${n & 255}.${m}:80 -m -w ${m}`);
  }
  for (const mode of [[], ['--atomic']]) {
    const director = new MemoryDirector();
    const { status } = await run(['restore', ...mode], director, `${lines.join('\n')}\n`);
    expect(status).toBe(0);
    expect(director.table().services.size).toBe(1000);
  }
});
