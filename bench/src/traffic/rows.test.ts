import { expect, test } from 'vitest';
import { seeded } from '../report/statistics.ts';
import type { Sample } from './measure.ts';
import { rowsOf, undisturbed } from './rows.ts';

const sample = (perSecond: number, cpuUs: number, cpuShare = 1): Sample => ({
  cpuShare,
  perSecond,
  cpuUs,
  done: perSecond,
  seconds: 1,
  total: perSecond,
  errors: 0,
  p50Us: 100,
  p99Us: 200,
  spinUs: 1000,
});

const samples = new Map([
  ['none', [sample(1100, 35), sample(550, 35)]],
  ['routing', [sample(1000, 39), sample(500, 39)]],
  ['nat', [sample(980, 40), sample(490, 40)]],
  ['broken', [undefined, undefined]],
]);

test('a ratio compares within a round, so a slow round does not count against anyone', () => {
  const rows = rowsOf('cps', samples, seeded(1));
  expect(rows.find(({ system }) => system === 'nat')).toMatchObject({ load: 'cps', ratio: 0.98, spread: 0 });
  expect(rows.find(({ system }) => system === 'routing')!.ratio).toBe(1);
});

test("the director's own cost is what is spent more than without one", () => {
  const rows = rowsOf('cps', samples, seeded(1));
  expect(rows.find(({ system }) => system === 'nat')!.directorCost).toBe(5);
  expect(rows.find(({ system }) => system === 'none')!.directorCost).toBe(0);
});

test('a system without any slice has no row', () => {
  expect(rowsOf('cps', samples, seeded(1)).map(({ system }) => system)).toEqual(['none', 'routing', 'nat']);
});

test('a slice in which somebody else had the core is left out of rates, unless few would be left', () => {
  const calm = Array.from({ length: 6 }, () => sample(1000, 39, 0.98));
  const taken = sample(500, 39, 0.5);
  expect(undisturbed([...calm, taken])).toEqual([...calm, undefined]);
  expect(undisturbed([calm[0], taken])).toEqual([calm[0], taken]);
});
