/**
 * A map in the kernel.
 *
 * Single lookups and updates are the hot calls of user space, so each map keeps one block of memory with the attribute,
 * the key and the value in it, and its address; a call then allocates only its result. Whole maps are read in batches.
 */

import { addressOf, errnoNumber, type MappedMemory, mapMemory, pageSize, rawCall } from '@ipvsd/linux';
import { checkShared, checkSize, type MapStore, type UpdateMode } from '../map-store.ts';
import { MAP_TYPES, type MapSpec, type MapType } from '../spec.ts';
import {
  Attr,
  bpf,
  bpfError,
  COMMAND,
  type Command,
  closeFd,
  infoName,
  objectInfo,
  openPin,
  pinObject,
  possibleCpus,
  tryBpf,
} from './bpf-syscall.ts';

export interface CreateMapOptions {
  readonly maxEntries?: number;
  /** File descriptor of the BTF that the spec's type ids belong to. */
  readonly btfFd?: number;
}

export interface MapInfo {
  readonly id: number;
  readonly type: MapType;
  readonly name: string;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly flags: number;
  readonly btfId: number;
}

/** Entries per system call; more gains nothing (0.3 us per element), less costs. */
const BATCH = 4096;
const MODES: Readonly<Record<UpdateMode, number>> = { any: 0, noexist: 1, exist: 2 };

const ENOENT = errnoNumber('ENOENT');
const ENOSPC = errnoNumber('ENOSPC');
/** What kernels answer where a map type has no batch operations. */
const NO_BATCH = new Set(['ENOTSUPP', 'EOPNOTSUPP', 'EINVAL'].map(errnoNumber));

/** These take no BTF. */
const WITHOUT_BTF: ReadonlySet<MapType> = new Set<MapType>(['queue', 'stack', 'ringBuffer', 'progArray']);

const KEY_OFFSET = 32;
const INFO_BYTES = 88;

export class KernelMap implements MapStore {
  readonly fd: number;
  readonly name: string;
  readonly type: MapType;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly perCpu: boolean;
  /** What the kernel reads and writes per element: all CPUs' values, each padded to 8 bytes, for per-CPU maps. */
  readonly #elementSize: number;
  readonly #memory: ArrayBuffer;
  readonly #attr: number;
  readonly #key: Uint8Array;
  readonly #value: Uint8Array;
  readonly #flags: BigUint64Array;
  #mapped: MappedMemory | undefined;
  #open = true;

  private constructor(fd: number, info: Omit<MapInfo, 'id' | 'flags' | 'btfId'>) {
    this.fd = fd;
    this.name = info.name;
    this.type = info.type;
    this.keySize = info.keySize;
    this.valueSize = info.valueSize;
    this.maxEntries = info.maxEntries;
    this.perCpu = info.type === 'percpuHash' || info.type === 'percpuArray';
    this.#elementSize = this.perCpu ? align8(this.valueSize) * possibleCpus() : this.valueSize;

    // | map fd u32 | pad | key u64 | value u64 | flags u64 | key | value |
    // A delete passes the first half of it only: it must not name a value.
    const valueOffset = KEY_OFFSET + align8(this.keySize);
    this.#memory = new ArrayBuffer(valueOffset + align8(this.#elementSize) + 8);
    this.#attr = addressOf(this.#memory);
    this.#key = new Uint8Array(this.#memory, KEY_OFFSET, this.keySize);
    this.#value = new Uint8Array(this.#memory, valueOffset, this.#elementSize);
    this.#flags = new BigUint64Array(this.#memory, 24, 1);
    const view = new DataView(this.#memory);
    view.setUint32(0, fd, true);
    view.setBigUint64(8, BigInt(this.keySize === 0 ? 0 : this.#attr + KEY_OFFSET), true);
    view.setBigUint64(16, BigInt(this.#attr + valueOffset), true);
  }

  static create(spec: MapSpec, options: CreateMapOptions = {}): KernelMap {
    const maxEntries = options.maxEntries ?? spec.maxEntries;
    const attr = new Attr()
      .u32(0, MAP_TYPES[spec.type])
      .u32(4, spec.keySize)
      .u32(8, spec.valueSize)
      .u32(12, maxEntries)
      .u32(16, spec.flags)
      .name(28, spec.name);
    if (options.btfFd !== undefined && spec.valueTypeId !== 0 && !WITHOUT_BTF.has(spec.type)) {
      attr.u32(48, options.btfFd).u32(52, spec.keyTypeId).u32(56, spec.valueTypeId);
    }
    const fd = bpf(`create map "${spec.name}"`, 'MAP_CREATE', attr);
    return new KernelMap(fd, { ...spec, maxEntries });
  }

  /** Takes over a file descriptor. */
  static fromFd(fd: number): KernelMap {
    return new KernelMap(fd, readInfo(fd));
  }

  static fromPin(path: string): KernelMap {
    return KernelMap.fromFd(openPin(path));
  }

  static fromId(id: number): KernelMap {
    return KernelMap.fromFd(bpf(`open map ${id}`, 'MAP_GET_FD_BY_ID', new Attr().u32(0, id)));
  }

  info(): MapInfo {
    return readInfo(this.fd);
  }

  pin(path: string): void {
    pinObject(this.fd, path);
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#mapped?.unmap();
    this.#mapped = undefined;
    closeFd(this.fd);
  }

  /** Touching it after `close()` crashes the process. */
  memory(): Uint8Array {
    if (this.#mapped === undefined) {
      if (!this.#open) throw new Error(`Cannot share the memory of map "${this.name}": it is closed`);
      checkShared(this, this.info().flags);
      const bytes = Math.ceil(this.valueSize / pageSize()) * pageSize();
      this.#mapped = mapMemory(this.fd, 0, bytes, 'read-write');
    }
    return new Uint8Array(this.#mapped.buffer, 0, this.valueSize);
  }

  lookup(key: Uint8Array): Uint8Array | null {
    this.#refusePerCpu('lookupPerCpu');
    return this.#lookup(key) ? this.#value.slice() : null;
  }

  /** Copies the value into `into` instead of allocating; for callers who read many. */
  lookupInto(key: Uint8Array, into: Uint8Array): boolean {
    this.#refusePerCpu('lookupPerCpu');
    if (!this.#lookup(key)) return false;
    into.set(this.#value);
    return true;
  }

  lookupPerCpu(key: Uint8Array): Uint8Array[] {
    return this.#lookup(key) ? this.#splitCpus(this.#value.slice()) : [];
  }

  update(key: Uint8Array, value: Uint8Array, mode: UpdateMode = 'any'): void {
    checkSize(this, 'key', key, this.keySize);
    this.#key.set(key);
    this.#value.set(this.#spreadCpus(value));
    this.#call('update', 'MAP_UPDATE_ELEM', MODES[mode]);
  }

  delete(key: Uint8Array): boolean {
    checkSize(this, 'key', key, this.keySize);
    this.#key.set(key);
    return this.#call('delete from', 'MAP_DELETE_ELEM', 0, ENOENT);
  }

  /** The value, which is gone from the map afterwards; null where there was none. Hash maps need Linux 5.14. */
  lookupAndDelete(key: Uint8Array): Uint8Array | null {
    this.#refusePerCpu('lookupPerCpu and delete');
    checkSize(this, 'key', key, this.keySize);
    this.#key.set(key);
    const found = this.#call('take from', 'MAP_LOOKUP_AND_DELETE_ELEM', 0, ENOENT);
    return found ? this.#value.slice() : null;
  }

  /** What a tail call through this program array finds at `index`; a swap is atomic. */
  setProgram(index: number, program: { readonly fd: number }): void {
    this.update(u32Bytes(index), u32Bytes(program.fd));
  }

  /** Queues and stacks. */
  push(value: Uint8Array): void {
    this.#value.set(this.#spreadCpus(value));
    this.#call('push to', 'MAP_UPDATE_ELEM', 0);
  }

  /** Queues and stacks; null when empty. */
  pop(): Uint8Array | null {
    return this.#call('pop from', 'MAP_LOOKUP_AND_DELETE_ELEM', 0, ENOENT) ? this.#value.slice() : null;
  }

  *entries(): Generator<[key: Uint8Array, value: Uint8Array]> {
    this.#refusePerCpu('entriesPerCpu');
    yield* this.#entries();
  }

  *entriesPerCpu(): Generator<[key: Uint8Array, values: Uint8Array[]]> {
    for (const [key, value] of this.#entries()) yield [key, this.#splitCpus(value)];
  }

  *keys(): Generator<Uint8Array> {
    for (const [key] of this.#entries()) yield key;
  }

  /** Values of an array map from index `start` on; those of a per-CPU array are `valuesPerCpu`. */
  values(start = 0, count = this.maxEntries - start): Uint8Array[] {
    this.#refusePerCpu('valuesPerCpu');
    return this.#values(start, count);
  }

  valuesPerCpu(start = 0, count = this.maxEntries - start): Uint8Array[][] {
    return this.#values(start, count).map((value) => this.#splitCpus(value));
  }

  /** In batches where the kernel has them, else one by one. When one is refused, those before it are in the map. */
  updateMany(pairs: Iterable<readonly [key: Uint8Array, value: Uint8Array]>, mode: UpdateMode = 'any'): void {
    const room = Array.isArray(pairs) ? Math.min(BATCH, pairs.length) : BATCH;
    const keys = new Uint8Array(room * this.keySize);
    const values = new Uint8Array(room * this.#elementSize);
    let count = 0;
    for (const [key, value] of pairs) {
      checkSize(this, 'key', key, this.keySize);
      keys.set(key, count * this.keySize);
      values.set(this.#spreadCpus(value), count * this.#elementSize);
      if (++count === BATCH) {
        this.#updateBatch(keys, values, count, mode);
        count = 0;
      }
    }
    if (count > 0) this.#updateBatch(keys, values, count, mode);
  }

  /** Removes every entry of a hash map; returns how many there were. */
  clear(): number {
    let removed = 0;
    for (const key of [...this.keys()]) if (this.delete(key)) removed++;
    return removed;
  }

  #lookup(key: Uint8Array): boolean {
    checkSize(this, 'key', key, this.keySize);
    this.#key.set(key);
    return this.#call('look up in', 'MAP_LOOKUP_ELEM', 0, ENOENT);
  }

  /** False for `absent`, true for success; other refusals are thrown. */
  #call(verb: string, command: Command, flags: number, absent?: number): boolean {
    if (!this.#open) throw new Error(`Cannot ${verb} map "${this.name}": it is closed`);
    this.#flags[0] = BigInt(flags);
    const result = rawCall('bpf', COMMAND[command], this.#attr, command === 'MAP_DELETE_ELEM' ? 16 : 32);
    if (result >= 0) return true;
    if (-result === absent) return false;
    throw bpfError(`${verb} map "${this.name}"`, command, -result, this.#hint(command, -result));
  }

  #hint(command: Command, errno: number): string | undefined {
    if (command === 'MAP_UPDATE_ELEM' && errno === errnoNumber('E2BIG')) return `it holds ${this.maxEntries} entries`;
    return undefined;
  }

  *#entries(): Generator<[key: Uint8Array, value: Uint8Array]> {
    const position = new ArrayBuffer(Math.max(8, align8(this.keySize)));
    let first = true;
    for (let size = Math.min(BATCH, Math.max(1, this.maxEntries)); ; ) {
      const keys = new Uint8Array(size * this.keySize);
      const values = new Uint8Array(size * this.#elementSize);
      const attr = this.#batchAttr(keys, values, size).pointer(8, position);
      if (!first) attr.pointer(0, position);
      const result = tryBpf('MAP_LOOKUP_BATCH', attr);
      if (first && NO_BATCH.has(-result)) return yield* this.#entriesOneByOne();
      // One bucket of a hash map is read whole or not at all.
      if (-result === ENOSPC) {
        size *= 2;
        continue;
      }
      if (result < 0 && -result !== ENOENT) throw bpfError(`list map "${this.name}"`, 'MAP_LOOKUP_BATCH', -result);
      const count = attr.getU32(32);
      for (let i = 0; i < count; i++) {
        yield [
          keys.subarray(i * this.keySize, (i + 1) * this.keySize),
          values.subarray(i * this.#elementSize, (i + 1) * this.#elementSize),
        ];
      }
      if (result < 0) return;
      first = false;
    }
  }

  /** A key that is deleted while we stand on it sends the kernel back to the start, hence the bound and the memory. */
  *#entriesOneByOne(): Generator<[key: Uint8Array, value: Uint8Array]> {
    const seen = new Set<string>();
    let key: Uint8Array | null = null;
    for (let steps = 0; steps <= 2 * this.maxEntries; steps++) {
      const next = new Uint8Array(this.keySize);
      const attr = new Attr().u32(0, this.fd).pointer(16, next);
      if (key !== null) attr.pointer(8, key);
      const result = tryBpf('MAP_GET_NEXT_KEY', attr);
      if (-result === ENOENT) return;
      if (result < 0) throw bpfError(`list map "${this.name}"`, 'MAP_GET_NEXT_KEY', -result);
      key = next;
      const text = next.join();
      if (seen.has(text)) continue;
      seen.add(text);
      if (this.#lookup(next)) yield [next, this.#value.slice()];
    }
  }

  #values(start: number, count: number): Uint8Array[] {
    if (start < 0 || count < 0 || start + count > this.maxEntries) {
      throw new RangeError(
        `Cannot read map "${this.name}" from ${start} to ${start + count}: it has ${this.maxEntries} entries`,
      );
    }
    const out: Uint8Array[] = [];
    while (out.length < count) {
      const size = Math.min(BATCH, count - out.length);
      const at = start + out.length;
      const keys = new Uint32Array(size);
      const values = new Uint8Array(size * this.#elementSize);
      // The position of an array batch is the key before; without one it starts at 0.
      const attr = this.#batchAttr(keys, values, size).pointer(8, new ArrayBuffer(8));
      if (at > 0) attr.pointer(0, Uint32Array.of(at - 1));
      const result = tryBpf('MAP_LOOKUP_BATCH', attr);
      if (NO_BATCH.has(-result)) return this.#valuesOneByOne(start, count);
      if (result < 0 && -result !== ENOENT) throw bpfError(`read map "${this.name}"`, 'MAP_LOOKUP_BATCH', -result);
      const got = attr.getU32(32);
      if (got === 0) throw new Error(`Cannot read map "${this.name}": the kernel gave nothing from index ${at} on`);
      for (let i = 0; i < got; i++) out.push(values.subarray(i * this.#elementSize, (i + 1) * this.#elementSize));
    }
    return out;
  }

  #valuesOneByOne(start: number, count: number): Uint8Array[] {
    return Array.from({ length: count }, (_, i) => {
      this.#lookup(u32Bytes(start + i));
      return this.#value.slice();
    });
  }

  #updateBatch(keys: Uint8Array, values: Uint8Array, count: number, mode: UpdateMode): void {
    const attr = this.#batchAttr(keys, values, count).u64(40, MODES[mode]);
    const result = tryBpf('MAP_UPDATE_BATCH', attr);
    if (result >= 0) return;
    if (!NO_BATCH.has(-result) || attr.getU32(32) > 0) {
      throw bpfError(`update map "${this.name}"`, 'MAP_UPDATE_BATCH', -result, this.#hint('MAP_UPDATE_ELEM', -result));
    }
    for (let i = 0; i < count; i++) {
      this.#key.set(keys.subarray(i * this.keySize, (i + 1) * this.keySize));
      this.#value.set(values.subarray(i * this.#elementSize, (i + 1) * this.#elementSize));
      this.#call('update', 'MAP_UPDATE_ELEM', MODES[mode]);
    }
  }

  #batchAttr(keys: ArrayBufferView, values: ArrayBufferView, count: number): Attr {
    return new Attr().pointer(16, keys).pointer(24, values).u32(32, count).u32(36, this.fd);
  }

  #splitCpus(element: Uint8Array): Uint8Array[] {
    if (!this.perCpu) return [element];
    const stride = align8(this.valueSize);
    return Array.from({ length: possibleCpus() }, (_, cpu) =>
      element.subarray(cpu * stride, cpu * stride + this.valueSize),
    );
  }

  #spreadCpus(value: Uint8Array): Uint8Array {
    checkSize(this, 'value', value, this.valueSize);
    if (!this.perCpu) return value;
    const stride = align8(this.valueSize);
    const all = new Uint8Array(this.#elementSize);
    for (let cpu = 0; cpu < possibleCpus(); cpu++) all.set(value, cpu * stride);
    return all;
  }

  #refusePerCpu(instead: string): void {
    if (this.perCpu) throw new TypeError(`Cannot read map "${this.name}" as one value: it is per CPU, use ${instead}`);
  }
}

function readInfo(fd: number): MapInfo {
  const info = objectInfo(fd, INFO_BYTES);
  const number = info.getUint32(0, true);
  const type = (Object.keys(MAP_TYPES) as MapType[]).find((name) => MAP_TYPES[name] === number);
  if (type === undefined)
    throw new Error(`Cannot use map "${infoName(info, 24)}": its type ${number} is not one of ours`);
  return {
    id: info.getUint32(4, true),
    type,
    name: infoName(info, 24),
    keySize: info.getUint32(8, true),
    valueSize: info.getUint32(12, true),
    maxEntries: info.getUint32(16, true),
    flags: info.getUint32(20, true),
    btfId: info.getUint32(64, true),
  };
}

function u32Bytes(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}

function align8(bytes: number): number {
  return (bytes + 7) & ~7;
}
