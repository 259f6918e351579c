/**
 * Maps: all that two packets, two programs, or kernel and user space say to each other.
 *
 * A declaration at module scope is only a blueprint. Where the bytes are depends on who runs: pinned kernel maps under
 * eBPF, the current `World` in Node.
 */
import { BPF_F_MMAPABLE } from '../map-store.ts';
import type { MapType } from '../spec.ts';
import type { TcProgram } from './program.ts';
import type { Scalar, u32 } from './scalar.ts';
import type { Fields, Struct, View } from './struct.ts';
import { currentWorld } from './world.ts';

/** Keys are structs or single integers. */
export type Key = Struct<Fields> | Scalar<unknown>;
export type KeyOf<K> = K extends Struct<infer Fs> ? View<Fs> : K extends Scalar<infer T> ? T : never;

/** Flags of `update`. */
export const ANY = 0;
export const NO_EXIST = 1;
export const EXIST = 2;

export interface MapOptions {
  readonly maxEntries: number;
  /** Do not allocate all entries at once: less memory while empty, slower inserts. */
  readonly noPreallocation?: boolean;
  /** Of arrays: the first element begins a page. So elements of 64 bytes, or twice that, never lie across lines of the cache. */
  readonly aligned?: boolean;
}

export interface SingleOptions {
  /** User space has its memory too, see `MapStore.memory`. */
  readonly shared?: boolean;
}

/** The kernel's flags. The second lets user space map the memory, which therefore begins a page. */
const BPF_F_NO_PREALLOC = 1;

export class MapDefinition {
  readonly kind = 'map';
  readonly type: MapType;
  readonly name: string;
  readonly key: Key | undefined;
  readonly value: Struct<Fields> | undefined;
  readonly maxEntries: number;
  readonly flags: number;

  constructor(
    type: MapType,
    name: string,
    key: Key | undefined,
    value: Struct<Fields> | undefined,
    { maxEntries, noPreallocation = false, aligned = false, shared = false }: MapOptions & SingleOptions,
  ) {
    if (!/^[A-Za-z0-9_]{1,15}$/.test(name)) {
      throw new RangeError(`Cannot declare map "${name}": a name has 1 to 15 letters, digits and underscores`);
    }
    this.type = type;
    this.name = name;
    this.key = key;
    this.value = value;
    this.maxEntries = maxEntries;
    this.flags = (noPreallocation ? BPF_F_NO_PREALLOC : 0) | (aligned || shared ? BPF_F_MMAPABLE : 0);
  }

  get keySize(): number {
    return this.key?.size ?? 0;
  }

  get valueSize(): number {
    return this.type === 'progArray' ? 4 : (this.value?.size ?? 0);
  }
}

const store = (map: MapDefinition) => currentWorld().store(map);

class HashMapOf<K extends Key, V extends Fields> extends MapDefinition {
  /** The live value of `key`, or null. */
  lookup(key: KeyOf<K>): View<V> | null {
    return store(this).lookupView(key) as View<V> | null;
  }
  /** 0, or a negative errno: -7 when full, -17 with NO_EXIST where it exists, -2 with EXIST where it does not. */
  update(key: KeyOf<K>, value: View<V>, flags: u32): number {
    return store(this).updateFrom(key, value, flags);
  }
  /** 0, or -2 where there is none. */
  delete(key: KeyOf<K>): number {
    return store(this).deleteKey(key);
  }
}

class ArrayMapOf<V extends Fields> extends MapDefinition {
  /** The element, or null beyond the end. */
  at(index: u32): View<V> | null {
    return store(this).elementView(index) as View<V> | null;
  }
}

class PercpuArrayOf<V extends Fields> extends ArrayMapOf<V> {
  /** The element as another CPU has it; null beyond the end and for a CPU that there is not. In Node there is CPU 0. */
  atCpu(index: u32, cpu: u32): View<V> | null {
    return cpu === 0 ? this.at(index) : null;
  }
}

class SingleOf<V extends Fields> extends MapDefinition {
  /** The one element; reached with no lookup. */
  get only(): View<V> {
    return store(this).elementView(0) as View<V>;
  }
}

class QueueOf<V extends Fields> extends MapDefinition {
  /** 0, or -7 when full. */
  push(value: View<V>, flags: u32): number {
    return store(this).push(value, flags);
  }
  /** Takes the next value into `into`: 0, or -2 when empty. */
  pop(into: View<V>): number {
    return store(this).pop(into);
  }
}

class RingBufferOf extends MapDefinition {
  /** Copy a record to user space: 0, or -11 when the ring is full. */
  output(record: object, flags: u32): number {
    return store(this).output(record, flags);
  }
}

export class ProgramTableDefinition extends MapDefinition {
  /** What lies where, as the build leaves it; the loader fills the kernel's table by it. */
  readonly programs = new Map<number, TcProgram>();

  /** Puts a program in its place, at module scope. A place is given once: two constants may well have come to the same number. */
  set(index: number, program: TcProgram): TcProgram {
    const other = this.programs.get(index);
    if (other !== undefined && other !== program) {
      throw new RangeError(
        `Cannot put a program at ${index} of ${this.name}: another is there, each needs a place of its own`,
      );
    }
    this.programs.set(index, program);
    return program;
  }
}

export type ProgramTable = ProgramTableDefinition;
export type HashMap<K extends Key, V extends Fields> = HashMapOf<K, V>;
export type ArrayMap<V extends Fields> = ArrayMapOf<V>;
export type PercpuArray<V extends Fields> = PercpuArrayOf<V>;
export type Single<V extends Fields> = SingleOf<V>;
export type Queue<V extends Fields> = QueueOf<V>;
export type RingBuffer = RingBufferOf;

export const hashMap = <K extends Key, V extends Fields>(name: string, key: K, value: Struct<V>, options: MapOptions) =>
  new HashMapOf<K, V>('hash', name, key, value, options);
export const lruHashMap = <K extends Key, V extends Fields>(
  name: string,
  key: K,
  value: Struct<V>,
  options: MapOptions,
) => new HashMapOf<K, V>('lruHash', name, key, value, options);
/** Longest prefix match: the key starts with a u32 prefix length. Never preallocated. */
export const lpmTrie = <K extends Key, V extends Fields>(name: string, key: K, value: Struct<V>, options: MapOptions) =>
  new HashMapOf<K, V>('lpmTrie', name, key, value, { ...options, noPreallocation: true });
export const arrayMap = <V extends Fields>(name: string, value: Struct<V>, options: MapOptions) =>
  new ArrayMapOf<V>('array', name, U32_KEY, value, options);
export const percpuArray = <V extends Fields>(name: string, value: Struct<V>, options: MapOptions) =>
  new PercpuArrayOf<V>('percpuArray', name, U32_KEY, value, options);
/** An array of one element, whose address is part of the program: `settings.only.field` costs one load. */
export const single = <V extends Fields>(name: string, value: Struct<V>, options: SingleOptions = {}) =>
  new SingleOf<V>('array', name, U32_KEY, value, { maxEntries: 1, ...options });
export const queue = <V extends Fields>(name: string, value: Struct<V>, options: MapOptions) =>
  new QueueOf<V>('queue', name, undefined, value, options);
/** Last in, first out. */
export const stackMap = <V extends Fields>(name: string, value: Struct<V>, options: MapOptions) =>
  new QueueOf<V>('stack', name, undefined, value, options);
/** Programs to go on in, see `tailCall`. */
export const programTable = (name: string, options: MapOptions) =>
  new ProgramTableDefinition('progArray', name, U32_KEY, undefined, options);
/** Records for user space; `maxEntries` is its size in bytes, a power of two and whole pages. */
export const ringBuffer = (name: string, options: MapOptions) =>
  new RingBufferOf('ringBuffer', name, undefined, undefined, options);

const U32_KEY: Scalar<number> = { kind: 'scalar', scalar: 'u32', size: 4, signed: false };
