/**
 * What a real server of the demo does with requests: each holds one of its slots for some time (a disk, a database, a licence),
 * and those that find none free wait in line. Its load is how many slots are asked for, of those it has. Used over real sockets
 * and in the simulation, so clock and timers come in.
 */
export interface WorkClock {
  now(): number;
  after(milliseconds: number, action: () => void): void;
}

interface Job {
  readonly milliseconds: number;
  readonly done: () => void;
}

export class WorkQueue {
  readonly #slots: number;
  readonly #clock: WorkClock;
  readonly #waiting: Job[] = [];
  #busy = 0;
  /** Jobs there, times milliseconds, since the load was asked for. */
  #sum = 0;
  #summedAt: number;
  #askedAt: number;

  constructor(slots: number, clock: WorkClock) {
    this.#slots = slots;
    this.#clock = clock;
    this.#summedAt = clock.now();
    this.#askedAt = clock.now();
  }

  submit(milliseconds: number, done: () => void): void {
    this.#addUp();
    if (this.#busy < this.#slots) this.#start({ milliseconds, done });
    else this.#waiting.push({ milliseconds, done });
  }

  /** Mean since it was asked before: 1 is all slots in use, more is work waiting. */
  load(): number {
    this.#addUp();
    const passed = this.#summedAt - this.#askedAt;
    const load = passed > 0 ? this.#sum / passed / this.#slots : 0;
    this.#sum = 0;
    this.#askedAt = this.#summedAt;
    return load;
  }

  #start({ milliseconds, done }: Job): void {
    this.#busy++;
    this.#clock.after(milliseconds, () => {
      this.#addUp();
      this.#busy--;
      const next = this.#waiting.shift();
      if (next) this.#start(next);
      done();
    });
  }

  #addUp(): void {
    const now = this.#clock.now();
    this.#sum += (this.#busy + this.#waiting.length) * (now - this.#summedAt);
    this.#summedAt = now;
  }
}
