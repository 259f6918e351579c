/**
 * A map's bytes in Node, with the semantics of the kernel's map types: values are live, updates replace whole values.
 */
import { checkShared, checkSize, MapError, type MapErrorCode, type MapStore, type UpdateMode } from '../map-store.ts';
import type { MapDefinition } from './map.ts';
import type { Scalar } from './scalar.ts';
import { bytesOf, type Fields, scalarIo, type View } from './struct.ts';

const ENOENT = 2;
const E2BIG = 7;
const EAGAIN = 11;
const EEXIST = 17;
const FLAGS = { any: 0, noexist: 1, exist: 2 } as const satisfies Record<UpdateMode, number>;

const CODES: Readonly<Record<number, MapErrorCode>> = { [EEXIST]: 'EEXIST', [ENOENT]: 'ENOENT', [E2BIG]: 'E2BIG' };

const textOf = (bytes: Uint8Array): string => String.fromCharCode(...bytes);
const bytesOfText = (text: string): Uint8Array => Uint8Array.from(text, (c) => c.charCodeAt(0));

export class NodeMap implements MapStore {
  readonly definition: MapDefinition;
  readonly maxEntries: number;
  readonly #hash = new Map<string, Uint8Array>();
  readonly #array: Uint8Array | undefined;
  readonly #queue: Uint8Array[] = [];
  /** Records written to a ring buffer, for user space to take. */
  readonly records: Uint8Array[] = [];

  constructor(definition: MapDefinition, maxEntries: number) {
    this.definition = definition;
    this.maxEntries = maxEntries;
    if (definition.type === 'array' || definition.type === 'percpuArray') {
      this.#array = new Uint8Array(definition.valueSize * maxEntries);
    }
  }

  get name(): string {
    return this.definition.name;
  }
  get type(): MapDefinition['type'] {
    return this.definition.type;
  }
  get keySize(): number {
    return this.definition.keySize;
  }
  get valueSize(): number {
    return this.definition.valueSize;
  }

  // What programs do -----------------------------------------------------------------------------------------------

  lookupView(key: unknown): View<Fields> | null {
    const bytes =
      this.type === 'lpmTrie' ? this.#longestPrefix(this.#keyBytes(key)) : this.#hash.get(textOf(this.#keyBytes(key)));
    return bytes === undefined ? null : this.definition.value!.on(bytes);
  }

  elementView(index: number): View<Fields> | null {
    if (!(index >= 0 && index < this.maxEntries)) return null;
    return this.definition.value!.on(this.#array!, index * this.valueSize);
  }

  updateFrom(key: unknown, value: object, flags: number): number {
    return -this.#put(this.#keyBytes(key), bytesOf(value), flags);
  }

  deleteKey(key: unknown): number {
    return this.#hash.delete(textOf(this.#keyBytes(key))) ? 0 : -ENOENT;
  }

  push(value: object, flags: number): number {
    if (this.#queue.length >= this.maxEntries) {
      if (flags !== FLAGS.exist) return -E2BIG;
      this.#queue.shift();
    }
    this.#queue.push(bytesOf(value).slice());
    return 0;
  }

  pop(into: object): number {
    const taken = this.type === 'stack' ? this.#queue.pop() : this.#queue.shift();
    if (taken === undefined) {
      bytesOf(into).fill(0);
      return -ENOENT;
    }
    bytesOf(into).set(taken);
    return 0;
  }

  output(record: object, _flags: number): number {
    const bytes = bytesOf(record);
    const used = this.records.reduce((sum, r) => sum + Math.ceil((r.length + 8) / 8) * 8, 0);
    if (used + Math.ceil((bytes.length + 8) / 8) * 8 > this.maxEntries) return -EAGAIN;
    this.records.push(bytes.slice());
    return 0;
  }

  // What user space does -------------------------------------------------------------------------------------------

  lookup(key: Uint8Array): Uint8Array | null {
    if (this.#array !== undefined) {
      const at = this.#offsetOf(key);
      return at === undefined ? null : this.#array.slice(at, at + this.valueSize);
    }
    if (this.type === 'queue' || this.type === 'stack') {
      return (this.type === 'stack' ? this.#queue.at(-1) : this.#queue[0])?.slice() ?? null;
    }
    return this.#hash.get(textOf(key))?.slice() ?? null;
  }

  lookupPerCpu(key: Uint8Array): Uint8Array[] {
    const value = this.lookup(key);
    return value === null ? [] : [value];
  }

  update(key: Uint8Array, value: Uint8Array, mode: UpdateMode = 'any'): void {
    checkSize(this, 'key', key, this.keySize);
    checkSize(this, 'value', value, this.valueSize);
    const errno = this.#put(key, value, FLAGS[mode]);
    if (errno === 0) return;
    const code = CODES[errno] ?? 'EINVAL';
    throw new MapError(code, `Cannot update map "${this.name}": ${code}`);
  }

  updateMany(pairs: Iterable<readonly [Uint8Array, Uint8Array]>): void {
    for (const [key, value] of pairs) this.update(key, value);
  }

  delete(key: Uint8Array): boolean {
    return this.#hash.delete(textOf(key));
  }

  *entries(): Iterable<[Uint8Array, Uint8Array]> {
    if (this.#array === undefined) {
      for (const [key, value] of this.#hash) yield [bytesOfText(key), value.slice()];
      return;
    }
    for (let index = 0; index < this.maxEntries; index++) {
      const key = new Uint8Array(Uint32Array.of(index).buffer);
      yield [key, this.#array.slice(index * this.valueSize, (index + 1) * this.valueSize)];
    }
  }

  values(first: number, count: number): Uint8Array[] {
    if (this.#array === undefined) throw new TypeError(`Cannot read a range of map "${this.name}": it is no array`);
    return Array.from({ length: count }, (_, i) => {
      const at = (first + i) * this.valueSize;
      return this.#array!.slice(at, at + this.valueSize);
    });
  }

  memory(): Uint8Array {
    checkShared(this, this.definition.flags);
    return this.#array!;
  }

  #put(key: Uint8Array, value: Uint8Array, flags: number): number {
    if (this.#array !== undefined) {
      const at = this.#offsetOf(key);
      if (flags === FLAGS.noexist) return EEXIST;
      if (at === undefined) return E2BIG;
      this.#array.set(value, at);
      return 0;
    }
    const text = textOf(key);
    const exists = this.#hash.has(text);
    if (exists && flags === FLAGS.noexist) return EEXIST;
    if (!exists && flags === FLAGS.exist) return ENOENT;
    if (!exists && this.#hash.size >= this.maxEntries) {
      if (this.type !== 'lruHash') return E2BIG;
      this.#hash.delete(this.#hash.keys().next().value!);
    }
    this.#hash.set(text, value.slice());
    return 0;
  }

  #offsetOf(key: Uint8Array): number | undefined {
    const index = new DataView(key.buffer, key.byteOffset).getUint32(0, true);
    return index < this.maxEntries ? index * this.valueSize : undefined;
  }

  #keyBytes(key: unknown): Uint8Array {
    const type = this.definition.key!;
    if (type.kind === 'struct') return bytesOf(key as object);
    const bytes = new Uint8Array(type.size);
    scalarIo(type as Scalar<unknown>).set(new DataView(bytes.buffer), 0, key as never);
    return bytes;
  }

  /** Keys of an LPM trie are a u32 prefix length and the data in network order. */
  #longestPrefix(key: Uint8Array): Uint8Array | undefined {
    let best = -1;
    let found: Uint8Array | undefined;
    for (const [text, value] of this.#hash) {
      const entry = bytesOfText(text);
      const length = new DataView(entry.buffer).getUint32(0, true);
      if (length > best && samePrefix(entry.subarray(4), key.subarray(4), length)) {
        best = length;
        found = value;
      }
    }
    return found;
  }
}

function samePrefix(a: Uint8Array, b: Uint8Array, bits: number): boolean {
  for (let bit = 0; bit < bits; bit++) {
    const mask = 0x80 >> (bit & 7);
    if (((a[bit >> 3] ?? 0) ^ (b[bit >> 3] ?? 0)) & mask) return false;
  }
  return true;
}
