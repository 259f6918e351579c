/**
 * Reads a ring buffer map: records from programs to user space, through shared memory, without a system call per record.
 *
 *     page 0      consumer position, ours to write
 *     page 1      producer position, the kernel's
 *     page 2...   the data, mapped twice in a row, so that a record that wraps around is still in one piece
 *
 *     record: | length u32, bit 31 busy, bit 30 discarded | page offset u32 | data | padding to 8 |
 */

import { type MappedMemory, mapMemory, pageSize, waitReadable, watchReadable } from '@ipvsd/linux';
import type { KernelMap } from './map.ts';

const BUSY = 0x8000_0000;
const DISCARD = 0x4000_0000;
const RECORD_HEADER = 8;

export class RingBuffer implements AsyncIterable<Uint8Array> {
  readonly #fd: number;
  readonly #size: number;
  readonly #memory: readonly MappedMemory[];
  #consumer: BigInt64Array;
  #producer: BigInt64Array;
  #headers: Int32Array;
  #data: Uint8Array;
  #open = true;
  readonly #closing = new Set<() => void>();

  constructor(map: KernelMap) {
    if (map.type !== 'ringBuffer') {
      throw new TypeError(`Cannot read map "${map.name}" as a ring buffer: its type is ${map.type}`);
    }
    this.#fd = map.fd;
    this.#size = map.maxEntries;
    const page = pageSize();
    const consumer = mapMemory(map.fd, 0, page, 'read-write');
    const rest = mapMemory(map.fd, page, page + 2 * this.#size, 'read');
    this.#memory = [consumer, rest];
    this.#consumer = new BigInt64Array(consumer.buffer, 0, 1);
    this.#producer = new BigInt64Array(rest.buffer, 0, 1);
    this.#headers = new Int32Array(rest.buffer, page);
    this.#data = new Uint8Array(rest.buffer, page);
  }

  /** Hands every record that is complete to `handle`, as a copy; returns how many there were. */
  consume(handle: (record: Uint8Array) => void, limit = Number.POSITIVE_INFINITY): number {
    let count = 0;
    while (count < limit) {
      const record = this.#next();
      if (record === undefined) break;
      if (record === null) continue;
      count++;
      handle(record);
    }
    return count;
  }

  /** Blocks until there is something to consume; false when `timeoutMs` passed first. */
  wait(timeoutMs: number): boolean {
    this.#check();
    return waitReadable(this.#fd, timeoutMs);
  }

  /** Consumes on the event loop as records come. Keeps the process alive until closed. */
  watch(handle: (record: Uint8Array) => void): { close(): void; unref(): void } {
    this.#check();
    const watcher = watchReadable(this.#fd, () => this.#open && this.consume(handle));
    const close = (): void => {
      if (this.#closing.delete(close)) watcher.close();
    };
    this.#closing.add(close);
    return { close, unref: () => watcher.unref() };
  }

  /** Ends when the ring buffer is closed. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    const waiting: Uint8Array[] = [];
    let wake = (): void => {};
    const watcher = this.watch((record) => {
      waiting.push(record);
      wake();
    });
    const closed = (): void => wake();
    this.#closing.add(closed);
    try {
      while (this.#open) {
        if (waiting.length === 0) {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
        yield* waiting.splice(0);
      }
    } finally {
      this.#closing.delete(closed);
      watcher.close();
    }
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    // Nobody may touch the memory after munmap, so nobody keeps a view of it.
    this.#consumer = new BigInt64Array(1);
    this.#producer = new BigInt64Array(1);
    this.#headers = new Int32Array();
    this.#data = new Uint8Array();
    for (const close of [...this.#closing]) close();
    for (const memory of this.#memory) memory.unmap();
  }

  /** The next record; null for one that its writer discarded; undefined when there is none, or it is not complete. */
  #next(): Uint8Array | null | undefined {
    this.#check();
    const position = Atomics.load(this.#consumer, 0);
    if (position >= Atomics.load(this.#producer, 0)) return undefined;
    const at = Number(position & BigInt(this.#size - 1));
    const header = Atomics.load(this.#headers, at >> 2) >>> 0;
    if (header & BUSY) return undefined;
    const length = (header & ~(BUSY | DISCARD)) >>> 0;
    const record = header & DISCARD ? null : this.#data.slice(at + RECORD_HEADER, at + RECORD_HEADER + length);
    // One 64-bit store: the kernel may write over the record from here on.
    Atomics.store(this.#consumer, 0, position + BigInt((RECORD_HEADER + length + 7) & ~7));
    return record;
  }

  #check(): void {
    if (!this.#open) throw new Error('Cannot read the ring buffer: it is closed');
  }
}
