import { expect, test } from 'vitest';
import { programTable } from './map.ts';
import { tcProgram } from './program.ts';

test('a place in a table of programs is given once', () => {
  const table = programTable('stages', { maxEntries: 4 });
  const first = table.set(
    1,
    tcProgram('first', () => 0),
  );
  expect(table.set(1, first)).toBe(first);
  const second = tcProgram('second', () => 0);
  expect(() => table.set(1, second)).toThrow('Cannot put a program at 1 of stages: another is there');
  expect(table.set(2, second)).toBe(second);
});
