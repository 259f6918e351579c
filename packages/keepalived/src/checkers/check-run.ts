/** One check on its way through time: probe, verdict, wait, again. Several real servers may listen to the same one. */
import { type CheckState, initialState, judge } from '../health/verdict.ts';
import type { Check, Timing } from '../model/configuration.ts';
import type { Probe, ProbeResult, ProbeTools } from './probe.ts';
import { probeFor } from './probes.ts';
import type { Closable } from './sockets.ts';
import type { Timer } from './timers.ts';

export interface CheckListener {
  changed(run: CheckRun, change: 'up' | 'down', result: ProbeResult): void;
  weighed(run: CheckRun, delta: number): void;
  /** A failure that is forgiven for now. */
  failed(run: CheckRun, result: ProbeResult): void;
}

/** A file is watched closer than it is checked: reading one costs nothing. */
const FILE_PERIOD_MS = 1000;

export class CheckRun {
  readonly key: string;
  readonly check: Check;
  readonly #probe: Probe | undefined;
  readonly #tools: ProbeTools;
  readonly #listener: CheckListener;
  readonly #timing: Timing;
  #state: CheckState;
  #timer: Timer | undefined;
  #running: Closable | undefined;
  #startedMs = 0;
  /** What it last said the weight should change by. */
  weightDelta: number | undefined;

  constructor(key: string, check: Check, tools: ProbeTools, listener: CheckListener) {
    this.key = key;
    this.check = check;
    this.#tools = tools;
    this.#listener = listener;
    this.#probe = probeFor(check);
    this.#state = initialState(check.timing, check.alpha);
    const { timing } = check;
    this.#timing =
      check.kind === 'FILE_CHECK' ? { ...timing, delayLoopMs: Math.min(timing.delayLoopMs, FILE_PERIOD_MS) } : timing;
  }

  get state(): CheckState {
    return this.#state;
  }

  /** The first look comes at random within the warm-up, so that a thousand checks do not start at once. */
  start(random: () => number): void {
    if (this.#probe === undefined || this.#timer || this.#running) return;
    const warmupMs = this.check.kind === 'FILE_CHECK' ? 0 : this.#timing.warmupMs;
    this.#wait(random() * warmupMs);
  }

  /** No more looks; what is known stays known. */
  suspend(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#running?.close();
    this.#running = undefined;
  }

  #wait(delayMs: number): void {
    this.#timer = this.#tools.timers.after(delayMs, () => {
      this.#timer = undefined;
      this.#look();
    });
  }

  #look(): void {
    this.#startedMs = this.#tools.timers.now();
    let answered = false;
    const running = this.#probe?.run(this.#tools, (result) => {
      answered = true;
      this.#running = undefined;
      this.#judge(result);
    });
    if (!answered) this.#running = running;
  }

  #judge(result: ProbeResult): void {
    const { delayBeforeRetryMs, delayLoopMs } = this.#timing;
    const { check } = this;
    const isGet = check.kind === 'HTTP_GET' || check.kind === 'SSL_GET';
    const { state, change, nextMs } = judge(this.#state, result.outcome, this.#timing, {
      ...(isGet && { downDelayMs: Math.max(delayBeforeRetryMs, delayLoopMs) }),
      ...(isGet && check.fastRecovery && { recoveryDelayMs: 0 }),
    });
    this.#state = state;
    // A script's period runs from the start of its last run, everything else's from the answer.
    const takenMs = check.kind === 'MISC_CHECK' ? this.#tools.timers.now() - this.#startedMs : 0;
    this.#wait(Math.max(0, nextMs - takenMs));
    this.weightDelta = result.weightDelta ?? this.weightDelta;
    if (result.weightDelta !== undefined) this.#listener.weighed(this, result.weightDelta);
    if (change) this.#listener.changed(this, change, result);
    else if (result.outcome === 'failure') this.#listener.failed(this, result);
  }
}
