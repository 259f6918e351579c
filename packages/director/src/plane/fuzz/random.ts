/** Chance that can be had again: the same numbers for the same seed (mulberry32, small and fast). */
export class Random {
  #state: number;
  /** What bytes are cut from: drawing each would take longer than all the rest. */
  readonly #pool: Uint8Array;

  constructor(seed: number) {
    this.#state = seed >>> 0;
    this.#pool = Uint8Array.from({ length: 65_536 }, () => this.below(256));
  }

  /** An integer from 0 to one less. */
  below(limit: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * limit);
  }

  /** True once in `times`. */
  oneIn(times: number): boolean {
    return this.below(times) === 0;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!;
  }

  bytes(length: number): Uint8Array {
    const at = this.below(this.#pool.length - length);
    return this.#pool.slice(at, at + length);
  }
}
