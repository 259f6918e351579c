import { expect, test } from 'vitest';
import { figure, formatTable } from './table.ts';

test('columns are as wide as their widest cell', () => {
  expect(
    formatTable(
      ['system', 'cps'],
      [
        ['nat', '1.00'],
        ['a longer one', '0.5'],
      ],
    ),
  ).toBe('system         cps\n------------  ----\nnat           1.00\na longer one   0.5\n');
});

test('a figure that is none is a dash', () => {
  expect([figure(1.234, 2), figure(undefined, 2), figure(Number.NaN, 1)]).toEqual(['1.23', '-', '-']);
});
