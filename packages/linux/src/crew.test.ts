import { expect, test } from 'vitest';
import { Crew } from './crew.ts';
import { errnoNumber } from './errno.ts';
import { rawCall } from './syscall.ts';

test('a crew answers every call in its place, more than once', () => {
  const crew = new Crew();
  // What does not exist cannot be closed.
  const calls = Array.from({ length: 500 }, (_, i) => [1_000_000 + i, 0, 0] as const);
  const alone = calls.map((args) => rawCall('close', ...args));
  expect(alone[0]).toBe(-errnoNumber('EBADF'));
  for (let round = 0; round < 20; round++) expect(crew.call('close', calls)).toEqual(alone);
  expect(crew.call('close', [])).toEqual([]);
  crew.dismiss();
});

test('a crew that was dismissed leaves all to the caller', () => {
  const crew = new Crew();
  crew.dismiss();
  expect(crew.call('close', [[1_000_000, 0, 0]])).toEqual([-errnoNumber('EBADF')]);
});
