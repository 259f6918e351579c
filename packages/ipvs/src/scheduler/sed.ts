/**
 * Shortest expected delay: the least (active + 1) / weight, that is the wait if the connection went there. Inactive
 * connections do not count, so UDP sees all as equally idle.
 */
import { u32 } from '@ipvsd/bpf';
import { EMPTY, eachServer, isLighter, NONE, type Scheduler } from './scheduler.ts';

export const sed: Scheduler = {
  name: 'sed',
  number: 9,
  schedule(service) {
    let chosen: u32 = NONE;
    // Heavier than anyone: a load for no weight at all.
    let least: u32 = 1;
    let weight: u32 = 0;
    eachServer(service, (server, number) => {
      const delay = u32(server.active + 1);
      if (isLighter(delay, server.weight, least, weight)) {
        least = delay;
        weight = server.weight;
        chosen = number;
      }
      return 0;
    });
    return chosen;
  },
  prepare: () => EMPTY,
};
