/** MISC_CHECK: a program of the operator's, judged by its exit status. */
import type { MiscCheck } from '../model/configuration.ts';
import { failure, type Probe, type ProbeResult } from './probe.ts';
import type { Timer } from './timers.ts';

/** What a script that ignores SIGTERM has left. */
const KILL_AFTER_MS = 2000;
/** 2 means weight 0. */
const FIRST_WEIGHT_STATUS = 2;

export function miscProbe(check: MiscCheck): Probe {
  return {
    run({ sockets, timers }, done) {
      let timer: Timer | undefined;
      let timedOut = false;
      let over = false;
      const finish = (result: ProbeResult): void => {
        if (over) return;
        over = true;
        timer?.cancel();
        done(result);
      };
      const process = sockets.run(check.script, {
        exit: (status) => finish(timedOut ? failure('timed out') : judgeStatus(status, check)),
        error: (reason) => finish(failure(reason)),
      });
      if (over) return { close() {} };
      const terminate = (): void => {
        process.kill('SIGTERM');
        // The answer waits for the end of the script, so that two of them never run side by side.
        timer = timers.after(KILL_AFTER_MS, () => process.kill('SIGKILL'));
      };
      timer = timers.after(check.timeoutMs, () => {
        timedOut = true;
        terminate();
      });
      return {
        close() {
          if (over) return;
          over = true;
          timer?.cancel();
          terminate();
        },
      };
    },
  };
}

/** With misc_dynamic the status says a weight: what is added is its difference to the configured one. */
export function judgeStatus(status: number | null, { dynamic, weight }: MiscCheck): ProbeResult {
  if (status === null) return failure('ended by a signal');
  if (status === 0) return { outcome: 'success', reason: 'exited with status 0', ...(dynamic && { weightDelta: 0 }) };
  const reason = `exited with status ${status}`;
  if (!dynamic || status < FIRST_WEIGHT_STATUS) return failure(reason);
  return { outcome: 'success', reason, weightDelta: status - FIRST_WEIGHT_STATUS - weight };
}
