/** Events in order of time, and time that jumps from one to the next. */
interface Event {
  readonly at: number;
  readonly order: number;
  readonly action: () => void;
}

export class SimulatedTime {
  /** A heap: no event is earlier than the one at half its place. */
  readonly #events: Event[] = [];
  #now = 0;
  #count = 0;

  /** In milliseconds. */
  now(): number {
    return this.#now;
  }

  after(milliseconds: number, action: () => void): void {
    const event = { at: this.#now + Math.max(0, milliseconds), order: this.#count++, action };
    let place = this.#events.push(event) - 1;
    while (place > 0) {
      const parent = (place - 1) >> 1;
      if (!isBefore(event, this.#events[parent]!)) break;
      this.#events[place] = this.#events[parent]!;
      place = parent;
    }
    this.#events[place] = event;
  }

  /** Everything that happens in this time. */
  pass(milliseconds: number): void {
    const end = this.#now + milliseconds;
    for (let next = this.#events[0]; next !== undefined && next.at <= end; next = this.#events[0]) {
      this.#takeFirst();
      this.#now = next.at;
      next.action();
    }
    this.#now = end;
  }

  #takeFirst(): void {
    const last = this.#events.pop()!;
    const { length } = this.#events;
    if (length === 0) return;
    let place = 0;
    for (let child = 1; child < length; child = 2 * place + 1) {
      if (child + 1 < length && isBefore(this.#events[child + 1]!, this.#events[child]!)) child++;
      if (isBefore(last, this.#events[child]!)) break;
      this.#events[place] = this.#events[child]!;
      place = child;
    }
    this.#events[place] = last;
  }
}

const isBefore = (one: Event, other: Event): boolean =>
  one.at < other.at || (one.at === other.at && one.order < other.order);
