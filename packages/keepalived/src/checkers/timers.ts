/**
 * Timers of thousands of checks on one timer of the event loop. A wheel of slots, each holding the timers that fall into
 * its few milliseconds: to arm and to cancel cost the same for ten timers and for a hundred thousand, and timers that
 * are due close together wake the process once. The clock is an argument, so tests move time themselves.
 */

export interface Timer {
  cancel(): void;
}

export interface Timers {
  /** Milliseconds that only ever grow. */
  now(): number;
  after(delayMs: number, action: () => void): Timer;
}

/** Finer than any delay of a check, coarse enough that 1,000 checks a second wake the process 100 times. */
const SLOT_MS = 10;
const SLOTS = 4096;

interface Entry extends Timer {
  readonly dueSlot: number;
  readonly action: () => void;
  readonly slot: Set<Entry>;
}

export class TimingWheel implements Timers {
  readonly #clock: () => number;
  readonly #slots: Set<Entry>[] = Array.from({ length: SLOTS }, () => new Set());
  #done: number;
  #size = 0;

  constructor(clock: () => number) {
    this.#clock = clock;
    this.#done = Math.floor(clock() / SLOT_MS);
  }

  get size(): number {
    return this.#size;
  }

  now(): number {
    return this.#clock();
  }

  /** Never early, late by at most one slot and whatever the event loop adds. */
  after(delayMs: number, action: () => void): Timer {
    const dueSlot = Math.max(this.#done + 1, Math.ceil((this.#clock() + delayMs) / SLOT_MS));
    const slot = this.#slots[dueSlot % SLOTS]!;
    const entry: Entry = { dueSlot, action, slot, cancel: () => this.#remove(entry) };
    slot.add(entry);
    this.#size++;
    this.onEarlier?.(dueSlot * SLOT_MS);
    return entry;
  }

  /** Told of each new timer's time, for whoever drives the wheel. */
  onEarlier: ((dueMs: number) => void) | undefined;

  /** Runs what is due by now. */
  advance(): void {
    const target = Math.floor(this.#clock() / SLOT_MS);
    // After a long sleep each slot needs a look only once.
    for (let at = Math.max(this.#done + 1, target - SLOTS + 1); at <= target; at++) {
      this.#done = at;
      const slot = this.#slots[at % SLOTS]!;
      for (const entry of [...slot]) {
        if (entry.dueSlot > target || !slot.has(entry)) continue;
        this.#remove(entry);
        entry.action();
      }
    }
    this.#done = target;
  }

  /** When the next timer may be due; undefined while there is none. */
  nextDueMs(): number | undefined {
    if (this.#size === 0) return undefined;
    for (let at = this.#done + 1; at <= this.#done + SLOTS; at++) {
      for (const entry of this.#slots[at % SLOTS]!) if (entry.dueSlot <= at) return at * SLOT_MS;
    }
    return (this.#done + SLOTS) * SLOT_MS;
  }

  #remove(entry: Entry): void {
    if (entry.slot.delete(entry)) this.#size--;
  }
}

export interface DrivenTimers extends Timers {
  stop(): void;
}

/** A wheel on the event loop, asleep until its next timer. */
export function startTimers(): DrivenTimers {
  const wheel = new TimingWheel(() => performance.now());
  let timeout: NodeJS.Timeout | undefined;
  let armedForMs = Number.POSITIVE_INFINITY;
  const arm = (dueMs: number | undefined): void => {
    clearTimeout(timeout);
    armedForMs = dueMs ?? Number.POSITIVE_INFINITY;
    if (dueMs !== undefined) timeout = setTimeout(turn, Math.max(1, dueMs - performance.now()));
  };
  const turn = (): void => {
    // While the wheel turns, new timers need no alarm of their own: one follows at the end.
    armedForMs = Number.NEGATIVE_INFINITY;
    try {
      wheel.advance();
    } finally {
      arm(wheel.nextDueMs());
    }
  };
  wheel.onEarlier = (dueMs) => {
    if (dueMs < armedForMs) arm(dueMs);
  };
  return {
    now: () => wheel.now(),
    after: (delayMs, action) => wheel.after(delayMs, action),
    stop: () => {
      clearTimeout(timeout);
      wheel.onEarlier = undefined;
    },
  };
}
