import fc from 'fast-check';
import { expect, test } from 'vitest';
import { TimingWheel } from './timers.ts';

function fakeWheel() {
  let now = 1000;
  const wheel = new TimingWheel(() => now);
  const pass = (ms: number): void => {
    now += ms;
    wheel.advance();
  };
  return { wheel, pass, now: () => now };
}

test('a timer is never early and late by at most 10 ms, however far away it is', () => {
  const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 31);
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 200_000 }), { maxLength: 50 }), (delays) => {
      const { wheel, pass, now } = fakeWheel();
      const lateness: number[] = [];
      for (const delay of delays) {
        const due = now() + delay;
        wheel.after(delay, () => lateness.push(now() - due));
      }
      for (let next = wheel.nextDueMs(); next !== undefined; next = wheel.nextDueMs()) pass(next - now());
      expect(lateness.length).toBe(delays.length);
      for (const late of lateness) expect(late >= 0 && late <= 20, `${late}`).toBe(true);
    }),
    { seed },
  );
});

test('a cancelled timer never runs, and a timer may arm and cancel others while it runs', () => {
  const { wheel, pass } = fakeWheel();
  const ran: string[] = [];
  const doomed = wheel.after(50, () => ran.push('doomed'));
  wheel.after(40, () => {
    ran.push('first');
    doomed.cancel();
    wheel.after(0, () => ran.push('next'));
  });
  pass(60);
  pass(20);
  expect(ran).toEqual(['first', 'next']);
  expect(wheel.size).toBe(0);
  expect(wheel.nextDueMs()).toBeUndefined();
});

test('after a long sleep all that was due runs once', () => {
  const { wheel, pass } = fakeWheel();
  let runs = 0;
  for (let i = 0; i < 100; i++) wheel.after(i * 1000, () => runs++);
  pass(3_600_000);
  expect(runs).toBe(100);
});
