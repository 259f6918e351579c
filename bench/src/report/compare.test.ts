import { expect, test } from 'vitest';
import { compare, parseResult } from './compare.ts';

const result = (...rows: { load: string; system: string; ratio?: number; value?: number; spread: number }[]) => ({
  bench: 'traffic',
  rows,
});

test('a lower ratio is slower only beyond both spreads', () => {
  const old = result(
    { load: 'cps', system: 'a', ratio: 1, spread: 0.02 },
    { load: 'cps', system: 'b', ratio: 1, spread: 0.02 },
  );
  const now = result(
    { load: 'cps', system: 'a', ratio: 0.97, spread: 0.02 },
    { load: 'cps', system: 'b', ratio: 0.9, spread: 0.02 },
  );
  expect(compare(old, now).map(({ verdict }) => verdict)).toEqual(['same', 'slower']);
});

test('more nanoseconds are slower, fewer are faster', () => {
  const old = result(
    { load: 'packet', system: 'x', value: 50, spread: 1 },
    { load: 'packet', system: 'y', value: 50, spread: 1 },
  );
  const now = result(
    { load: 'packet', system: 'x', value: 60, spread: 1 },
    { load: 'packet', system: 'y', value: 40, spread: 1 },
  );
  const [x, y] = compare(old, now);
  expect(x).toMatchObject({ verdict: 'slower', before: 50, after: 60 });
  expect(x!.gain).toBeCloseTo(50 / 60);
  expect(y!.verdict).toBe('faster');
});

test('what is in one result only is new or gone', () => {
  const changes = compare(
    result({ load: 'cps', system: 'old', ratio: 1, spread: 0 }),
    result({ load: 'cps', system: 'fresh', ratio: 1, spread: 0 }),
  );
  expect(changes.map(({ system, verdict }) => [system, verdict])).toEqual([
    ['fresh', 'new'],
    ['old', 'gone'],
  ]);
});

test('counted figures, which have no spread, may differ by half a percent', () => {
  const [same, slower] = compare(
    result(
      { load: 'size', system: 'a', value: 1000, spread: 0 },
      { load: 'size', system: 'b', value: 1000, spread: 0 },
    ),
    result(
      { load: 'size', system: 'a', value: 1004, spread: 0 },
      { load: 'size', system: 'b', value: 1010, spread: 0 },
    ),
  );
  expect([same!.verdict, slower!.verdict]).toEqual(['same', 'slower']);
});

test('a result is read from a file of its own and from the last line of an output', () => {
  const text = JSON.stringify(result());
  expect(parseResult(text).rows).toEqual([]);
  expect(parseResult(`a table\nmore\n${text}\n`).rows).toEqual([]);
  expect(() => parseResult('a table')).toThrow(/Cannot read the result/);
});

test('results of different benches are not compared', () => {
  expect(() => compare(result(), { bench: 'packet', rows: [] })).toThrow(/one is of "traffic"/);
});

test('where one of the runs was noisy, CPU time is compared and not rates', () => {
  const row = { load: 'cps', system: 'a', spread: 0.01, cpuRatio: 1, cpuSpread: 0.01 };
  const calm = { ...result({ ...row, ratio: 1 }), noise: { noisy: false } };
  const noisy = { ...result({ ...row, ratio: 0.5 }), noise: { noisy: true } };
  expect(compare(calm, noisy).map(({ verdict }) => verdict)).toEqual(['same']);
  expect(compare(calm, { ...noisy, noise: { noisy: false } }).map(({ verdict }) => verdict)).toEqual(['slower']);
});
