/**
 * What operators set and packets do not ask for: sync daemons, the texts of sysctls, timeouts as typed. One
 * JSON document in one map value, so that everything a director knows lies in the kernel and none of it in a file.
 */
import { array, type MapStore, single, struct, u8, u32 } from '@ipvsd/bpf';
import type { SyncDaemon, Timeouts } from '../model.ts';

const SIZE = 65_536;
const Registry = struct('registry', { length: u32, text: array(u8, SIZE - 4) });

export const registry = single('registry', Registry);

export interface Document {
  readonly timeouts: Timeouts;
  readonly daemons: readonly SyncDaemon[];
  /** Only those that differ from the default. */
  readonly sysctls: Readonly<Record<string, string>>;
  /** Operators' own schedulers, by name: the place of the program in the table `schedulers`, and its source. */
  readonly schedulers?: Readonly<Record<string, { readonly number: number; readonly file: string }>> | undefined;
}

const EMPTY: Document = { timeouts: { tcp: 900, tcpFin: 120, udp: 300 }, daemons: [], sysctls: {} };

const KEY = new Uint8Array(4);

export function readDocument(store: MapStore): Document {
  const bytes = store.lookup(KEY)!;
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  if (length === 0) return EMPTY;
  return JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length))) as Document;
}

export function writeDocument(store: MapStore, document: Document): void {
  const text = new TextEncoder().encode(JSON.stringify(document));
  if (text.length > SIZE - 4) {
    throw new RangeError(`Cannot store settings: they take ${text.length} bytes, must be at most ${SIZE - 4}`);
  }
  const bytes = new Uint8Array(SIZE);
  new DataView(bytes.buffer).setUint32(0, text.length, true);
  bytes.set(text, 4);
  store.update(KEY, bytes);
}
