import { expect, test } from 'vitest';
import { estimate, judgeNoise, median, quantile, ratios, seeded, shuffle } from './statistics.ts';

test('a median lies between the middle two of an even number', () => {
  expect(median([4, 1, 3, 2])).toBe(2.5);
  expect(median([5, 1, 3])).toBe(3);
  expect(median([])).toBeNaN();
});

test('a quantile interpolates between neighbours', () => {
  expect(quantile([0, 10], 0.25)).toBe(2.5);
  expect(quantile([1, 2, 3, 4, 5], 0.99)).toBeCloseTo(4.96);
});

test('ratios are taken round by round and skip rounds that lack one', () => {
  expect(ratios([2, undefined, 6, 4], [1, 5, 2, 0])).toEqual([2, 3]);
});

test('a seed replays the same estimate, and one outlier does not move it', () => {
  const values = [1, 1.01, 0.99, 1.02, 0.98, 1, 1.01, 0.99, 1, 9];
  const first = estimate(values, seeded(1));
  expect(first).toEqual(estimate(values, seeded(1)));
  expect(first.median).toBe(1);
  expect(first.low).toBeGreaterThanOrEqual(0.98);
  expect(first.high).toBeLessThan(1.1);
  expect(first.spread).toBeCloseTo((first.high - first.low) / 2);
});

test('the interval of a wide sample is wider than that of a narrow one', () => {
  const narrow = estimate([0.99, 1, 1.01, 1, 0.99, 1.01, 1], seeded(2));
  const wide = estimate([0.5, 1, 1.5, 1, 0.6, 1.4, 1], seeded(2));
  expect(wide.spread).toBeGreaterThan(narrow.spread);
});

test('a shuffle keeps every item', () => {
  const items = [1, 2, 3, 4, 5, 6, 7];
  const shuffled = shuffle(items, seeded(3));
  expect(shuffled).not.toEqual(items);
  expect([...shuffled].sort()).toEqual(items);
});

test('a run is noisy when more than a tenth of its probes took half as long again', () => {
  expect(judgeNoise([...Array(95).fill(100), ...Array(5).fill(200)]).noisy).toBe(false);
  expect(judgeNoise([100], 0.2).noisy).toBe(true);
  expect(judgeNoise([...Array(80).fill(100), ...Array(20).fill(200)])).toEqual({
    calmUs: 100,
    disturbed: 0.2,
    taken: 0,
    noisy: true,
  });
});
