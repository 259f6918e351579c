import { expect, test } from 'vitest';
import { programTable, single } from './map.ts';
import { tcProgram } from './program.ts';
import { u32 } from './scalar.ts';
import { struct } from './struct.ts';
import { World } from './world.ts';

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

test('user space has the memory of a single that is shared, and of no other', () => {
  const Cell = struct('cell', { n: u32 });
  const [shared, own] = [single('shared', Cell, { shared: true }), single('own', Cell)];
  const world = new World({ now: () => 0n, random: () => 0 });
  world.map(shared).memory()[0] = 5;
  world.run(() => {
    shared.only.n = shared.only.n + 1;
  });
  expect(world.map(shared).memory()).toEqual(Uint8Array.of(6, 0, 0, 0));
  expect(() => world.map(own).memory()).toThrow('it was not declared as shared');
});
