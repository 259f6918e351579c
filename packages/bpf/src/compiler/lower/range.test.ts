import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  boundsOf,
  contains,
  exactly,
  type Range,
  type RangeOperator,
  range,
  rangeOf,
  seen,
  showRange,
  U32,
} from './range.ts';

const EXACT: Readonly<Record<RangeOperator, (a: bigint, b: bigint) => bigint>> = {
  '+': (a, b) => a + b,
  '-': (a, b) => a - b,
  '*': (a, b) => a * b,
  '/': (a, b) => (b === 0n ? 0n : a / b),
  '%': (a, b) => (b === 0n ? a : a % b),
  '&': (a, b) => a & b,
  '|': (a, b) => a | b,
  '^': (a, b) => a ^ b,
  '<<': (a, b) => a << b,
  '>>': (a, b) => a >> b,
};

/** An interval and a number in it. */
const within = (least: bigint, most: bigint): fc.Arbitrary<{ of: Range; value: bigint }> =>
  fc
    .tuple(
      ...([0, 1, 2].map(() => fc.bigInt({ min: least, max: most })) as [
        fc.Arbitrary<bigint>,
        fc.Arbitrary<bigint>,
        fc.Arbitrary<bigint>,
      ]),
    )
    .map((three) => {
      const [lo, value, hi] = three.sort((a, b) => (a < b ? -1 : 1)) as [bigint, bigint, bigint];
      return { of: range(lo, hi), value };
    });

const anyNumber = fc.oneof(within(-300n, 300n), within(-(2n ** 40n), 2n ** 40n));
const notNegative = fc.oneof(within(0n, 20n), within(0n, 2n ** 40n));

describe('an interval holds every result of its operator', () => {
  const cases: [
    RangeOperator,
    fc.Arbitrary<{ of: Range; value: bigint }>,
    fc.Arbitrary<{ of: Range; value: bigint }>,
  ][] = [
    ['+', anyNumber, anyNumber],
    ['-', anyNumber, anyNumber],
    ['*', anyNumber, anyNumber],
    ['/', notNegative, notNegative],
    ['%', notNegative, within(1n, 1000n)],
    ['&', notNegative, notNegative],
    ['|', notNegative, notNegative],
    ['^', notNegative, notNegative],
    ['<<', notNegative, within(0n, 31n)],
    ['>>', notNegative, within(0n, 31n)],
  ];
  test.each(cases)('%s', (operator, left, right) => {
    fc.assert(
      fc.property(left, right, (a, b) => {
        const result = rangeOf(operator, a.of, b.of);
        expect(contains(result, exactly(EXACT[operator](a.value, b.value)))).toBe(true);
      }),
    );
  });
});

test('the verifier follows masks, but neither divisions nor wide products', () => {
  expect(showRange(boundsOf('&', seen(U32), seen(exactly(7n))).known)).toBe('0..7');
  expect(boundsOf('%', seen(U32), seen(exactly(10n)))).toMatchObject({ range: range(0n, 9n) });
  expect(contains(U32, boundsOf('%', seen(U32), seen(exactly(10n))).known)).toBe(false);
  expect(contains(U32, boundsOf('*', seen(range(0n, 2n ** 33n)), seen(exactly(0n))).known)).toBe(false);
});

test('ranges are shown as people write them', () => {
  expect([U32, exactly(5n), range(-5n, 2n ** 60n)].map(showRange)).toEqual(['0..2^32-1', '5', '-5..about 2^60']);
});
