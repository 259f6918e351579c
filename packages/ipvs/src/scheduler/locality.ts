/**
 * What the locality schedulers remember: for each destination address the real servers that have been serving it, so that a
 * cache keeps being asked for what it holds.
 *
 * Entries belong to a scheduler's life at a service (`Service.era`): another scheduler never finds them. What is not used
 * goes by itself, the oldest first, when the map is full.
 */
import { ANY, array, loop, lruHashMap, single, struct, u32, type ViewOf } from '@ipvsd/bpf';
import { Address6 } from '../packet/address.ts';
import {
  type RealServer,
  SERVER_AVAILABLE,
  type Service,
  type Standing,
  servers,
  standingOf,
} from '../service/service.ts';
import { memberAt } from './scheduler.ts';

/**
 * Real servers that may share a destination; a set that grows beyond loses its oldest. The kernel's sets have no limit: ours lie
 * in one map value, and a destination that 32 real servers serve is spread as widely as wlc would.
 */
export const MAX_SET = 32;

export const LocalityKey = struct('locality_key', { destination: Address6, era: u32 });
export type LocalityKey = ViewOf<typeof LocalityKey>;
export const Locality = struct('locality', {
  lastUse: u32,
  /** When the set changed last. */
  lastChange: u32,
  count: u32,
  /** Oldest first. */
  servers: array(u32, MAX_SET),
});
export type Locality = ViewOf<typeof Locality>;

/** What a new entry starts from: too large for a program's stack. Always zero. */
export const blankLocality = single('blank_locality', Locality);

export const localities = lruHashMap('localities', LocalityKey, Locality, { maxEntries: 65_536 });

/** Whether the real server of that number belongs to the service, and has not left. */
export function isServing(service: Service, number: u32): boolean {
  const server: RealServer | null = servers.at(number);
  return server !== null && server.service === service.index && (server.flags & SERVER_AVAILABLE) !== 0;
}

/** More active connections than its weight, while another real server is not even half loaded. */
export function isBusy(service: Service, number: u32): boolean {
  const server: Standing = standingOf(number);
  if (server.active <= server.weight) return false;
  let idle: u32 = 0;
  loop(service.count, (place) => {
    const other = memberAt(service, place);
    if (other.active * 2 >= other.weight) return 0;
    idle = 1;
    return 1;
  });
  return idle === 1;
}

/** Remember that `number` serves the destination of `key`. */
export function remember(key: LocalityKey, number: u32, now: u32): void {
  localities.update(key, blankLocality.only, ANY);
  const fresh = localities.lookup(key);
  if (fresh === null) return;
  fresh.lastUse = now;
  fresh.lastChange = now;
  fresh.count = 1;
  fresh.servers.set(0, number);
}
