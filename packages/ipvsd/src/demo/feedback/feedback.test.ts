/** The feedback demo on its simulated stage, and its pieces. */
import { describe, expect, test } from 'vitest';
import { play } from './feedback.ts';
import { NodeFeedbackStage } from './node-stage.ts';
import { SimulatedTime } from './simulated-time.ts';
import { WorkQueue } from './work-queue.ts';

test('with feedback the weight of the busy real server falls, and with it what clients wait', async () => {
  const stage = NodeFeedbackStage.open();
  const said: string[] = [];
  const { medianMsWithout, medianMsWith } = await play(stage, (text) => said.push(text));
  expect(medianMsWithout).toBeGreaterThan(100);
  expect(medianMsWith).toBeLessThan(20);
  const [busy = 0, ...others] = stage.weights();
  for (const weight of others) expect(weight).toBeGreaterThan(busy);
  expect(said.join('')).toMatch(/192\.168\.45\.2 .*67% -> [0-9]%\n/);
});

describe('simulated time', () => {
  test('brings events in their order, those of one moment as they were made', () => {
    const time = new SimulatedTime();
    const seen: string[] = [];
    for (const at of [5, 1, 3, 3, 4, 2, 3]) time.after(at, () => seen.push(`${at}@${time.now()}`));
    time.after(2, () => time.after(0.5, () => seen.push('later')));
    time.pass(3);
    expect(seen).toEqual(['1@1', '2@2', 'later', '3@3', '3@3', '3@3']);
    time.pass(10);
    expect(seen.slice(6)).toEqual(['4@4', '5@5']);
    expect(time.now()).toBe(13);
  });
});

describe('the work queue', () => {
  test('works on as many as it has slots, and its load counts those that wait', () => {
    const time = new SimulatedTime();
    const queue = new WorkQueue(2, time);
    const done: number[] = [];
    for (let i = 0; i < 4; i++) queue.submit(10, () => done.push(time.now()));
    time.pass(10);
    expect(done).toEqual([10, 10]);
    expect(queue.load()).toBe(2);
    time.pass(10);
    expect(done).toEqual([10, 10, 20, 20]);
    expect(queue.load()).toBe(1);
    time.pass(10);
    expect(queue.load()).toBe(0);
  });
});
