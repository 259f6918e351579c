/** Sets of small numbers, for dataflow: unions of thousands of registers at 32 a step. */
export class BitSet {
  readonly words: Uint32Array;

  constructor(size: number) {
    this.words = new Uint32Array((size + 31) >>> 5);
  }

  has(index: number): boolean {
    return (this.words[index >>> 5]! & (1 << (index & 31))) !== 0;
  }

  add(index: number): void {
    this.words[index >>> 5]! |= 1 << (index & 31);
  }

  delete(index: number): void {
    this.words[index >>> 5]! &= ~(1 << (index & 31));
  }

  clone(): BitSet {
    const copy = new BitSet(this.words.length * 32);
    copy.words.set(this.words);
    return copy;
  }

  /** Adds all of `other` but what is in `except`; tells whether anything was new. */
  addAll(other: BitSet, except?: BitSet): boolean {
    let grown = false;
    for (let i = 0; i < this.words.length; i++) {
      const before = this.words[i]!;
      const after = (before | (other.words[i]! & ~(except?.words[i] ?? 0))) >>> 0;
      if (after !== before) {
        this.words[i] = after;
        grown = true;
      }
    }
    return grown;
  }

  /** Keeps only what `other` has too; tells whether anything went. */
  keepAll(other: BitSet): boolean {
    let shrunk = false;
    for (let i = 0; i < this.words.length; i++) {
      const after = (this.words[i]! & other.words[i]!) >>> 0;
      if (after === this.words[i]) continue;
      this.words[i] = after;
      shrunk = true;
    }
    return shrunk;
  }

  /** Keeps only what is in `made`, or in both `start` and `passed`; tells whether anything went. */
  keepFlow(start: BitSet, passed: BitSet, made: BitSet): boolean {
    let shrunk = false;
    for (let i = 0; i < this.words.length; i++) {
      const before = this.words[i]!;
      const after = (before & ((start.words[i]! & passed.words[i]!) | made.words[i]!)) >>> 0;
      if (after === before) continue;
      this.words[i] = after;
      shrunk = true;
    }
    return shrunk;
  }

  removeAll(other: BitSet): void {
    for (let i = 0; i < this.words.length; i++) this.words[i]! &= ~other.words[i]!;
  }

  forEach(visit: (index: number) => void): void {
    for (let i = 0; i < this.words.length; i++) {
      for (let word = this.words[i]!; word !== 0; word &= word - 1) visit(i * 32 + 31 - Math.clz32(word & -word));
    }
  }
}
