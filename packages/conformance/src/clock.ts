/**
 * Virtual time: what is to happen, in order, and nothing in between. One clock for the simulated hosts and the data plane, so
 * that an hour passes as fast as its events can be carried out.
 */

export interface Timer {
  readonly at: number;
  readonly run: () => void;
  cancelled: boolean;
  readonly order: number;
}

/** HZ=100 on the recording machine. */
const TICK = 10_000;

/** The part of the world that has deadlines of its own: the data plane with its connections. */
export interface Ticking {
  /** Microseconds of the next moment at which it wants to be woken, or Infinity. */
  nextDeadline(): number;
  /** Told whenever the time has moved. */
  wake(now: number): void;
}

export class Clock {
  /** Microseconds since the start of the scenario. */
  now = 0;
  readonly #queue: Timer[] = [];
  #order = 0;
  #ticking: Ticking | undefined;

  attach(ticking: Ticking): void {
    this.#ticking = ticking;
  }

  after(microseconds: number, run: () => void): Timer {
    const timer = { at: this.now + microseconds, run, cancelled: false, order: this.#order++ };
    insert(this.#queue, timer);
    return timer;
  }

  /** A timer of the recording machine's kernel: whole ticks, and of those that are due together the last one set goes first. */
  kernelTimer(microseconds: number, run: () => void): Timer {
    const ticks = Math.floor(this.now / TICK) + Math.max(1, Math.ceil(microseconds / TICK));
    const timer = { at: ticks * TICK, run, cancelled: false, order: -this.#order++ };
    insert(this.#queue, timer);
    return timer;
  }

  /** Carry out all that is due now, however much more that brings about. */
  settle(): void {
    for (let rounds = 0; this.#queue[0] !== undefined && this.#queue[0].at <= this.now; rounds++) {
      if (rounds > 1_000_000) throw new Error('Cannot settle: hosts answer each other without end');
      const timer = take(this.#queue);
      if (!timer.cancelled) timer.run();
    }
  }

  /**
   * Let time pass until `to` microseconds, from one event to the next. What is due at that very moment is left for later: who
   * waited for it acts first, as the recordings' programs did before their kernel's timers.
   */
  advanceTo(to: number): void {
    this.#advance(to, () => false);
  }

  /** Let time pass until `done`, at most until `to`. */
  advanceUntil(done: () => boolean, to: number): void {
    this.#advance(to, done);
  }

  #advance(to: number, done: () => boolean): void {
    // Packets are on their way, timers of this moment have waited long enough.
    this.settle();
    while (!done()) {
      const next = Math.min(this.#queue[0]?.at ?? Infinity, this.#ticking?.nextDeadline() ?? Infinity);
      if (next >= to) break;
      this.#move(Math.max(next, this.now));
      this.settle();
    }
    if (!done() && to > this.now) this.#move(to);
  }

  #move(to: number): void {
    this.now = to;
    this.#ticking?.wake(to);
  }
}

const before = (a: Timer, b: Timer): boolean => a.at < b.at || (a.at === b.at && a.order < b.order);

function insert(heap: Timer[], timer: Timer): void {
  let at = heap.push(timer) - 1;
  while (at > 0) {
    const parent = (at - 1) >> 1;
    if (!before(heap[at]!, heap[parent]!)) break;
    [heap[at], heap[parent]] = [heap[parent]!, heap[at]!];
    at = parent;
  }
}

function take(heap: Timer[]): Timer {
  const first = heap[0]!;
  const last = heap.pop()!;
  if (heap.length === 0) return first;
  heap[0] = last;
  for (let at = 0; ; ) {
    const [left, right] = [2 * at + 1, 2 * at + 2];
    let least = at;
    if (left < heap.length && before(heap[left]!, heap[least]!)) least = left;
    if (right < heap.length && before(heap[right]!, heap[least]!)) least = right;
    if (least === at) return first;
    [heap[at], heap[least]] = [heap[least]!, heap[at]!];
    at = least;
  }
}
