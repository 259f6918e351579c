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
    const copy = new BitSet(0);
    (copy as { words: Uint32Array }).words = this.words.slice();
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

  removeAll(other: BitSet): void {
    for (let i = 0; i < this.words.length; i++) this.words[i]! &= ~other.words[i]!;
  }

  forEach(visit: (index: number) => void): void {
    for (let i = 0; i < this.words.length; i++) {
      for (let word = this.words[i]!; word !== 0; word &= word - 1) visit(i * 32 + 31 - Math.clz32(word & -word));
    }
  }
}
