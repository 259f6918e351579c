/**
 * Which numbers are taken: of services, of real servers, and of places in the lists of members. One map value that only user
 * space reads and writes, under the plane's lock.
 */

import type { MapStore } from '@ipvsd/bpf';
import { array, bytesOf, single, struct, u8, u32, type ViewOf } from '@ipvsd/bpf';
import { MAX_SERVERS, MAX_SERVICES, NONE } from '@ipvsd/ipvs';

/** Members are given out by runs of this many, so that one bit stands for a run. */
const GRAIN = 8;
const MAX_GRAINS = (2 * MAX_SERVERS) / GRAIN;

const Allocation = struct('allocation', {
  services: array(u8, MAX_SERVICES / 8),
  servers: array(u8, MAX_SERVERS / 8),
  grains: array(u8, MAX_GRAINS / 8),
  /** The number the next new service gets as its age. */
  sequence: u32,
  /** Where the search for a run of members goes on, so that a list just given back is not at once another's. */
  nextGrain: u32,
});

export const allocation = single('allocation', Allocation);

const KEY = new Uint8Array(4);

export class Allocator {
  readonly #store: MapStore;
  readonly #state: ViewOf<typeof Allocation>;
  readonly #services: Bits;
  readonly #servers: Bits;
  readonly #grains: Bits;

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
    this.#grains = bits('grains', MAX_GRAINS);
    this.#grains.next = this.#state.nextGrain;
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
    const grain = this.#grains.take(grainsFor(count));
    return grain === undefined ? undefined : grain * GRAIN;
  }
  freeMembers(first: number, count: number): void {
    if (first !== NONE) this.#grains.free(first / GRAIN, grainsFor(count));
  }
  nextSequence(): number {
    return this.#state.sequence++;
  }

  save(): void {
    this.#state.nextGrain = this.#grains.next;
    this.#store.update(KEY, bytesOf(this.#state));
  }
}

const grainsFor = (count: number): number => Math.max(1, Math.ceil(count / GRAIN));

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

  free(first: number, count: number): void {
    for (let i = first; i < first + count; i++) this.#bytes[i >> 3]! &= ~(1 << (i & 7));
  }

  #has(at: number): boolean {
    return (this.#bytes[at >> 3]! & (1 << (at & 7))) !== 0;
  }
}
