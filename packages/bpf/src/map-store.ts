/** A map as user space sees it: bytes in, bytes out. Pinned kernel maps and the maps of a Node world are both such stores. */
import type { MapType } from './spec.ts';

export type UpdateFlag = 'any' | 'noexist' | 'exist';

export interface MapStore {
  readonly name: string;
  readonly type: MapType;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  /** A copy of the value, or null where there is none. */
  lookup(key: Uint8Array): Uint8Array | null;
  /** One copy per possible CPU of a per-CPU map. */
  lookupPerCpu(key: Uint8Array): Uint8Array[];
  /** Throws an error with `code` EEXIST, ENOENT or E2BIG. */
  update(key: Uint8Array, value: Uint8Array, flag?: UpdateFlag): void;
  updateMany(pairs: Iterable<readonly [Uint8Array, Uint8Array]>): void;
  /** Whether there was one. */
  delete(key: Uint8Array): boolean;
  entries(): Iterable<[Uint8Array, Uint8Array]>;
}
