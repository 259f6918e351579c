/**
 * All recordings in golden/ on the Node plane: nothing differs but what excused.json and, while behaviour is being built,
 * known-differences.json say. `UPDATE=1` writes the latter anew; a name in it that agrees again is a failure too.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { type Excuses, formatResult, nameOf } from './report.ts';
import { run } from './run.ts';

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const read = <T>(path: string): T => JSON.parse(readFileSync(here(path), 'utf8')) as T;
const KNOWN = '../known-differences.json';

test('the Node plane does what the kernel did, but for what is excused or known', { timeout: 300_000 }, async () => {
  const lines = new Map<string, string>();
  const options = {
    folder: here('../golden'),
    plane: 'node' as const,
    excuses: read<Excuses>('../excused.json'),
    services: readFileSync(here('../golden/services'), 'utf8'),
  };
  for await (const result of run(options)) {
    if (result.differences.length > 0 && result.excuse === undefined) lines.set(nameOf(result), formatResult(result));
  }
  if (process.env['UPDATE']) writeFileSync(here(KNOWN), `${JSON.stringify([...lines.keys()], null, 2)}\n`);
  const known = read<readonly string[]>(KNOWN);
  const unknown = [...lines].filter(([name]) => !known.includes(name)).map(([, line]) => line);
  expect(unknown).toEqual([]);
  expect(known.filter((name) => !lines.has(name))).toEqual([]);
});
