/**
 * Real servers that were removed and are remembered: where their connections and counts find them, and where adding one again
 * finds it too (spec section 1.2).
 */
import { be16, bytesOf, hashMap, htons, type MapStore, struct, u8, u32 } from '@ipvsd/bpf';
import { Address6, ServiceKey, Standings, RealServer as StoredServer, servers, standings, ticksOf } from '@ipvsd/ipvs';
import type { RealServer, ServiceId } from '../model.ts';
import { FAMILY_NUMBERS, keyOf, storeAddress } from './codec.ts';
import { indexKey } from './index-key.ts';
import type { Plane } from './plane.ts';

/** By what would make it the same again. */
const TrashKey = struct('trash_key', { service: ServiceKey, address: Address6, port: be16, family: u8, reserved: u8 });
/** `phase`: when the trash was empty last, from which the kernel counts the minutes at which it empties it. */
const TrashEntry = struct('trash_entry', { server: u32, phase: u32 });
export const trash = hashMap('trash', TrashKey, TrashEntry, { maxEntries: 131_072, noPreallocation: true });

const MINUTE = ticksOf(60);

export class Trash {
  readonly #plane: Plane;
  readonly #store: MapStore;
  readonly #ticks: () => number;
  /** What a change throws away; it is in the map when the change ends, or is asked what there is. */
  #thrown: [Uint8Array, Uint8Array][] = [];
  /** While a change goes on: when that began, when the trash that now is was begun, and whether there is any. */
  #now: number | undefined;
  #phase: number | undefined;
  #any: boolean | undefined;

  /** `ticks`: the time by the data plane's clock. */
  constructor(plane: Plane, ticks: () => number) {
    this.#plane = plane;
    this.#store = plane.store(trash);
    this.#ticks = ticks;
  }

  /** A change begins, which may throw away many real servers: they all come into one trash. */
  begin(): void {
    this.#now = undefined;
    this.#phase = undefined;
    this.#any = undefined;
  }

  /** What was thrown away is in the map when this returns. */
  finish(): void {
    if (this.#thrown.length > 0) this.#store.updateMany(this.#thrown);
    this.#thrown = [];
  }

  throwAway(number: number, id: ServiceId, server: RealServer): void {
    this.#any = true;
    this.#thrown.push([keyFor(id, server), bytesOf(TrashEntry.create({ server: number, phase: this.#phaseOfNow() }))]);
  }

  /** The number that the real server had, which it has again, and whether all else about it is forgotten by now. */
  takeBack(id: ServiceId, server: RealServer): { readonly number: number; readonly forgotten: boolean } | undefined {
    if (!this.#hasAny()) return undefined;
    this.finish();
    const key = keyFor(id, server);
    const value = this.#store.lookup(key);
    if (value === null) return undefined;
    const { server: number, phase } = TrashEntry.on(value);
    this.#store.delete(key);
    return { number, forgotten: this.#isForgotten(number, phase) };
  }

  /** Gives back the numbers that no connection remembers. */
  empty(free: (number: number) => void): void {
    this.finish();
    for (const [key, value] of this.#store.entries()) {
      const number = TrashEntry.on(value).server;
      if (this.#connections(number) + this.#record(number).persistent > 0) continue;
      this.#store.delete(key);
      free(number);
    }
  }

  #hasAny(): boolean {
    this.#any ??= this.#store.entries()[Symbol.iterator]().next().done !== true;
    return this.#any;
  }

  #time(): number {
    this.#now ??= this.#ticks();
    return this.#now;
  }

  #phaseOfNow(): number {
    this.#phase ??= this.#findPhase();
    return this.#phase;
  }

  /** When the trash that now is was begun: the time of the first of those that are still remembered. */
  #findPhase(): number {
    for (const [, value] of this.#store.entries()) {
      const { server, phase } = TrashEntry.on(value);
      if (!this.#isForgotten(server, phase)) return phase;
    }
    return this.#time();
  }

  /**
   * Whether the kernel would have forgotten it: every minute it looks through the trash; what nobody refers to when it
   * looks is noted, and gone two minutes later.
   */
  #isForgotten(number: number, phase: number): boolean {
    const { persistent, idleSince } = this.#record(number);
    if (this.#connections(number) + persistent > 0) return false;
    const noted = Math.floor(((idleSince - phase) >>> 0) / MINUTE) + 1;
    return (this.#time() - phase) >>> 0 >= (noted + 2) * MINUTE;
  }

  #connections(number: number): number {
    const { active, inactive } = Standings.on(this.#plane.store(standings).memory()).of.at(number);
    return active + inactive;
  }

  #record(number: number) {
    return StoredServer.on(this.#plane.store(servers).lookup(indexKey(number))!);
  }
}

/** Keys of one service begin alike, and mostly come in a row. */
let prefix: { readonly id: ServiceId; readonly bytes: Uint8Array } | undefined;

function keyFor(id: ServiceId, server: RealServer): Uint8Array {
  if (prefix?.id !== id) prefix = { id, bytes: bytesOf(keyOf(id)) };
  const key = TrashKey.create();
  key.port = htons(server.port);
  key.family = FAMILY_NUMBERS[server.family];
  const bytes = bytesOf(key);
  bytes.set(prefix.bytes);
  storeAddress(key.address, server.address);
  return bytes;
}
