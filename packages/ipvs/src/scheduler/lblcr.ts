/**
 * Locality-based least connection with replication: a destination address is served by a set of real servers, the least
 * loaded first. When that one is busy the set grows by who is least loaded of all; when it has not changed for a day its
 * most loaded member goes.
 */
import { assign, loop, stack, u32 } from '@ipvsd/bpf';
import { type Service, standingOf } from '../service/service.ts';
import { now as clock, settings } from '../settings.ts';
import { isBusy, isServing, type Locality, LocalityKey, localities, MAX_SET, remember } from './locality.ts';
import { EMPTY, isLighter, isOverloaded, NONE, overhead, type Scheduler } from './scheduler.ts';
import { wlc } from './wlc.ts';

export const lblcr: Scheduler = {
  name: 'lblcr',
  number: 6,
  schedule(service, state, asking) {
    const now = clock();
    const key = stack(LocalityKey, { era: service.era });
    assign(key.destination, asking.virtual);
    const set = localities.lookup(key);
    if (set === null || u32(now - set.lastUse) >= settings.only.replicationExpiration) {
      const first = wlc.schedule(service, state, asking);
      if (first === NONE) return NONE;
      remember(key, first, now);
      return first;
    }
    set.lastUse = now;
    const least = leastLoaded(service, set);
    if (set.count > 1 && u32(now - set.lastChange) > settings.only.replicationExpiration) {
      removeMostLoaded(service, set);
      set.lastChange = now;
    }
    if (isServing(service, least) && !isBusy(service, least)) return least;
    const chosen = wlc.schedule(service, state, asking);
    if (chosen !== NONE) insert(set, chosen, now);
    return chosen;
  },
  prepare: () => EMPTY,
};

/** The member with the least overhead for its weight, the newest where several have it; NONE where none may be used. */
function leastLoaded(service: Service, set: Locality): u32 {
  let chosen: u32 = NONE;
  let least: u32 = 0;
  let weight: u32 = 0;
  loop(MAX_SET, (i) => {
    if (i >= set.count) return 1;
    const number = set.servers.get((set.count - 1 - i) & (MAX_SET - 1));
    const server = standingOf(number);
    if (!isServing(service, number) || server.weight === 0) return 0;
    // Where the search begins an overloaded one is passed over; a later one that is less loaded is taken all the same.
    if (chosen === NONE && isOverloaded(server)) return 0;
    const load = u32(overhead(server));
    if (chosen === NONE || isLighter(load, server.weight, least, weight)) {
      least = load;
      weight = server.weight;
      chosen = number;
    }
    return 0;
  });
  return chosen;
}

function removeMostLoaded(service: Service, set: Locality): void {
  let place: u32 = MAX_SET;
  let most: u32 = 0;
  let weight: u32 = 0;
  loop(MAX_SET, (i) => {
    if (i >= set.count) return 1;
    const at = (set.count - 1 - i) & (MAX_SET - 1);
    const number = set.servers.get(at);
    const server = standingOf(number);
    if (!isServing(service, number) || server.weight === 0) return 0;
    const load = u32(overhead(server));
    if (place === MAX_SET || isLighter(most, weight, load, server.weight)) {
      most = load;
      weight = server.weight;
      place = at;
    }
    return 0;
  });
  if (place !== MAX_SET) removeAt(set, place);
}

function removeAt(set: Locality, place: u32): void {
  loop(MAX_SET - 1, (i) => {
    if (i >= place) set.servers.set(i & (MAX_SET - 1), set.servers.get((i + 1) & (MAX_SET - 1)));
    return 0;
  });
  set.count = u32(set.count - 1);
}

function insert(set: Locality, number: u32, now: u32): void {
  let known: u32 = 0;
  loop(MAX_SET, (i) => {
    if (i >= set.count) return 1;
    if (set.servers.get(i & (MAX_SET - 1)) !== number) return 0;
    known = 1;
    return 1;
  });
  if (known === 1) return;
  if (set.count >= MAX_SET) removeAt(set, 0);
  set.servers.set(set.count & (MAX_SET - 1), number);
  set.count = u32(set.count + 1);
  set.lastChange = now;
}
