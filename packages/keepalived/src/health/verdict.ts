/**
 * keepalived's verdict machine, one step at a time and without a clock: what one more result means for a check, and
 * when to look again. The first failure after start takes a real server out at once, because nobody has seen it alive;
 * afterwards it takes `retry` + 1 in a row. One success brings it back.
 */
import type { Timing } from '../model/configuration.ts';

export interface CheckState {
  readonly up: boolean;
  readonly hasRun: boolean;
  /** Failures in a row that were forgiven. */
  readonly retries: number;
}

/** `partial`: nothing wrong so far, but not all has been tested. */
export type Outcome = 'success' | 'failure' | 'partial';

export interface Judgement {
  readonly state: CheckState;
  readonly change: 'up' | 'down' | undefined;
  readonly nextMs: number;
}

export function initialState(timing: Timing, alpha: boolean): CheckState {
  return { up: !alpha, hasRun: false, retries: timing.retry };
}

export interface JudgeOptions {
  /** Of a check that is down; keepalived's HTTP checks wait at least as long as between retries. */
  readonly downDelayMs?: number;
  /** Of a partial success on the way up. */
  readonly recoveryDelayMs?: number;
}

export function judge(state: CheckState, outcome: Outcome, timing: Timing, options: JudgeOptions = {}): Judgement {
  const { delayLoopMs, delayBeforeRetryMs, retry } = timing;
  const settled = state.up && state.hasRun;
  switch (outcome) {
    case 'partial': {
      const nextMs = settled ? delayLoopMs : (options.recoveryDelayMs ?? delayLoopMs);
      return { state: { ...state, retries: 0 }, change: undefined, nextMs };
    }
    case 'success':
      return {
        state: { up: true, hasRun: true, retries: 0 },
        change: settled ? undefined : 'up',
        nextMs: delayLoopMs,
      };
    case 'failure': {
      const mayStillBeUp = state.up || !state.hasRun;
      if (mayStillBeUp && state.retries < retry) {
        return { state: { ...state, retries: state.retries + 1 }, change: undefined, nextMs: delayBeforeRetryMs };
      }
      return {
        state: { up: false, hasRun: true, retries: 0 },
        change: mayStillBeUp ? 'down' : undefined,
        nextMs: options.downDelayMs ?? delayLoopMs,
      };
    }
  }
}
