/**
 * One-packet scheduling: the entry ends with its packet. Nothing else finds it, but a packet that goes on in another stage never
 * comes back to who made it; so who sends it there ends the entry.
 */
import { u32 } from '@ipvsd/bpf';
import { errandOf } from '../stages.ts';
import { type Connection, connections, ONE_PACKET } from './connection.ts';
import { expire } from './lifecycle.ts';

export const isOnce = (c: Connection): boolean => (c.flags & ONE_PACKET) !== 0;

/** The packet that comes now has an entry of its own: number `index`. */
export function beginOnce(index: u32): void {
  const errand = errandOf();
  if (errand !== null) errand.once = u32(index + 1);
}

/** The packet is done with its entry, if it had one of its own. */
export function endOnce(): void {
  const errand = errandOf();
  if (errand === null || errand.once === 0) return;
  const index = u32(errand.once - 1);
  errand.once = 0;
  const c = connections.at(index);
  if (c !== null && isOnce(c)) expire(index);
}
