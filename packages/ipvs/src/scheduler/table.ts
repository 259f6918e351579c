/**
 * Tables of slots, for schedulers that hash: filled in Node when real servers change, read by packets.
 *
 * A table is a run of blocks under a number of its own. A new one is written beside the old, the service record that names it
 * is replaced at once, and then the old one goes: no packet sees half a table.
 */
import { array, hashMap, stack, struct, u32 } from '@ipvsd/bpf';
import { NONE, type RealServer, SERVER_AVAILABLE, type Service, servers, standingOf } from '../service/service.ts';
import { isEligible } from './scheduler.ts';

export const SLOTS_PER_BLOCK = 64;

export const TableKey = struct('table_key', { table: u32, block: u32 });
export const TableBlock = struct('table_block', { servers: array(u32, SLOTS_PER_BLOCK) });
/** About 4,000 services with mh, or 16,384 with sh. */
export const schedulerTables = hashMap('sched_tables', TableKey, TableBlock, {
  maxEntries: 262_144,
  noPreallocation: true,
});

/** The number of the real server that has the slot, or NONE. */
export function serverInSlot(service: Service, slot: u32): u32 {
  const key = stack(TableKey, { table: service.table, block: slot >>> 6 });
  const block = schedulerTables.lookup(key);
  return block === null ? NONE : block.servers.get(slot & 63);
}

/** Whether the real server of that number belongs to the service and takes new connections. */
export function takesConnections(service: Service, number: u32): boolean {
  const server: RealServer | null = servers.at(number);
  if (server === null) return false;
  if (server.service !== service.index || (server.flags & SERVER_AVAILABLE) === 0) return false;
  return isEligible(standingOf(number));
}
