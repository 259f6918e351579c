/**
 * Which numbers are taken: of services, of real servers, and of places in the lists of members. One map value that only user
 * space reads and writes, under the plane's lock.
 */

import type { MapStore } from '@ipvsd/bpf';
import { array, bytesOf, single, struct, u8, u32, type ViewOf } from '@ipvsd/bpf';
import { MAX_ROWS, MAX_SERVERS, MAX_SERVICES, NONE, ROW } from '@ipvsd/ipvs';

const Allocation = struct('allocation', {
  services: array(u8, MAX_SERVICES / 8),
  servers: array(u8, MAX_SERVERS / 8),
  /** Rows of members. */
  rows: array(u8, MAX_ROWS / 8),
  /** The number the next new service gets as its age. */
  sequence: u32,
  /** Where the search for a run of members goes on, so that a list just given back is not at once another's. */
  nextRow: u32,
});

export const allocation = single('allocation', Allocation);

const KEY = new Uint8Array(4);

export class Allocator {
  readonly #store: MapStore;
  readonly #state: ViewOf<typeof Allocation>;
  readonly #services: Bits;
  readonly #servers: Bits;
  readonly #rows: Bits;

  constructor(store: MapStore) {
    this.#store = store;
    this.#state = Allocation.on(store.lookup(KEY)!);
    const bytes = bytesOf(this.#state);
    const bits = (name: string, count: number): Bits => {
      const { offset } = Allocation.layout.find((l) => l.name === name)!;
      return new Bits(bytes.subarray(offset, offset + count / 8));
    };
    this.#services = bits('services', MAX_SERVICES);
    this.#servers = bits('servers', MAX_SERVERS);
    this.#rows = bits('rows', MAX_ROWS);
    this.#rows.next = this.#state.nextRow;
    this.#servers.keep(MAX_SERVERS - 1);
  }

  takeService(): number | undefined {
    return this.#services.take(1);
  }
  freeService(index: number): void {
    this.#services.free(index, 1);
  }
  takeServer(): number | undefined {
    return this.#servers.take(1);
  }
  freeServer(number: number): void {
    this.#servers.free(number, 1);
  }
  /** The first place of a run for `count` members. */
  takeMembers(count: number): number | undefined {
    const row = this.#rows.take(rowsFor(count));
    return row === undefined ? undefined : row * ROW;
  }
  freeMembers(first: number, count: number): void {
    if (first !== NONE) this.#rows.free(first / ROW, rowsFor(count));
  }
  nextSequence(): number {
    return this.#state.sequence++;
  }

  save(): void {
    this.#state.nextRow = this.#rows.next;
    this.#store.update(KEY, bytesOf(this.#state));
  }
}

export const rowsFor = (count: number): number => Math.max(1, Math.ceil(count / ROW));

/** Next fit: what was freed last is taken last, so that a packet still reading an old list finds it whole. */
class Bits {
  readonly #bytes: Uint8Array;
  next = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  take(count: number): number | undefined {
    const size = this.#bytes.length * 8;
    let run = 0;
    for (let seen = 0, at = this.next; seen < size + count; seen++, at = at + 1 === size ? 0 : at + 1) {
      if (at === 0) run = 0;
      run = this.#has(at) ? 0 : run + 1;
      if (run < count) continue;
      const first = at - count + 1;
      for (let i = first; i <= at; i++) this.#bytes[i >> 3]! |= 1 << (i & 7);
      this.next = at + 1 === size ? 0 : at + 1;
      return first;
    }
    return undefined;
  }

  /** Nobody gets this one. */
  keep(at: number): void {
    this.#bytes[at >> 3]! |= 1 << (at & 7);
  }

  free(first: number, count: number): void {
    for (let i = first; i < first + count; i++) this.#bytes[i >> 3]! &= ~(1 << (i & 7));
  }

  #has(at: number): boolean {
    return (this.#bytes[at >> 3]! & (1 << (at & 7))) !== 0;
  }
}
