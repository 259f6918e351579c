/**
 * A map as the rest of ipvsd sees it: in the kernel (`KernelMap`) or in Node's memory, the same to the caller.
 *
 * Keys and values are bytes in the layout of their structs. Results are copies: changing one changes no map.
 */

import type { MapType } from './spec.ts';

/** `any`: add or replace; `noexist`: add only; `exist`: replace only. */
export type UpdateMode = 'any' | 'noexist' | 'exist';

export interface MapStore {
  readonly name: string;
  readonly type: MapType;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  /** Null where there is no such key. Not for per-CPU maps. */
  lookup(key: Uint8Array): Uint8Array | null;
  /** One value per CPU; one in all for maps that are not per CPU; none where there is no such key. */
  lookupPerCpu(key: Uint8Array): Uint8Array[];
  /**
   * For per-CPU maps every CPU gets the value. Refusals are errors with a `code`: EEXIST (`noexist`, but there is one),
   * ENOENT (`exist`, but there is none), E2BIG (the map is full, or an array's index is out of range).
   */
  update(key: Uint8Array, value: Uint8Array, mode?: UpdateMode): void;
  /** False where there was none. */
  delete(key: Uint8Array): boolean;
  /** In no order. Changes made meanwhile may or may not be seen; an entry that stays is seen once. */
  entries(): Iterable<[key: Uint8Array, value: Uint8Array]>;
  /** Values of an array map from index `first` on. Not for per-CPU maps. */
  values(first: number, count: number): Uint8Array[];
  updateMany(pairs: Iterable<readonly [key: Uint8Array, value: Uint8Array]>): void;
  /**
   * The one value of a `single` that was declared as shared: no copy, but what programs read and write. Ends with the map: to be
   * asked for anew each time.
   */
  memory(): Uint8Array;
}

export type MapErrorCode = 'EEXIST' | 'ENOENT' | 'E2BIG' | 'EINVAL';

/** A refusal of a map that lives in Node; those of the kernel are `SystemCallError`s with the same `code`. */
export class MapError extends Error {
  override readonly name = 'MapError';
  readonly code: MapErrorCode;

  constructor(code: MapErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

/** Whether the map refused for this reason, whichever kind of map it is. */
export function isMapError(error: unknown, code: MapErrorCode): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}

/** A check that every implementation makes alike: sizes are those of the map. */
export function checkSize(map: MapStore, part: 'key' | 'value', bytes: Uint8Array, expected: number): void {
  if (bytes.length !== expected) {
    throw new RangeError(`Cannot use map "${map.name}": the ${part} has ${bytes.length} bytes, must be ${expected}`);
  }
}

/** The kernel's flag of a map whose memory user space may have. */
export const BPF_F_MMAPABLE = 1 << 10;

export function checkShared(map: MapStore, flags: number): void {
  if ((flags & BPF_F_MMAPABLE) === 0) {
    throw new TypeError(`Cannot share the memory of map "${map.name}": it was not declared as shared`);
  }
}
