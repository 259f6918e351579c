import { describe, expect, test } from 'vitest';
import type { Timing } from '../model/configuration.ts';
import { type CheckState, initialState, judge, type Outcome } from './verdict.ts';

const timing: Timing = { delayLoopMs: 6000, retry: 2, delayBeforeRetryMs: 1000, warmupMs: 0, connectTimeoutMs: 5000 };

/** Each result as `change@next`, in seconds. */
function play(outcomes: readonly Outcome[], state: CheckState = initialState(timing, false)): string[] {
  let current = state;
  return outcomes.map((outcome) => {
    const { state: next, change = '-', nextMs } = judge(current, outcome, timing);
    current = next;
    return `${change}@${nextMs / 1000}`;
  });
}

describe('the verdict machine', () => {
  test('the first failure after start takes the real server out at once', () => {
    expect(play(['failure'])).toEqual(['down@6']);
  });

  test('later it takes retry + 1 failures in a row, with delay_before_retry between them', () => {
    expect(play(['success', 'failure', 'failure', 'failure', 'failure'])).toEqual([
      'up@6',
      '-@1',
      '-@1',
      'down@6',
      '-@6',
    ]);
  });

  test('a success between failures forgives them all', () => {
    expect(play(['success', 'failure', 'failure', 'success', 'failure', 'failure', 'failure']).slice(3)).toEqual([
      '-@6',
      '-@1',
      '-@1',
      'down@6',
    ]);
  });

  test('one success brings it back', () => {
    expect(play(['failure', 'failure', 'success'])).toEqual(['down@6', '-@6', 'up@6']);
  });

  test('with alpha nothing is up before its first success', () => {
    const start = initialState(timing, true);
    expect(start.up).toBe(false);
    expect(play(['success'], start)).toEqual(['up@6']);
    expect(play(['failure', 'success'], start)).toEqual(['down@6', 'up@6']);
  });
});
