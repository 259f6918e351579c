/** Never queue: the first idle real server however light, and only where all are busy the shortest expected delay. */
import { u32 } from '@ipvsd/bpf';
import { EMPTY, eachServer, isLighter, NONE, type Scheduler } from './scheduler.ts';

export const nq: Scheduler = {
  name: 'nq',
  number: 10,
  schedule(service) {
    let chosen: u32 = NONE;
    // Heavier than anyone: a load for no weight at all.
    let least: u32 = 1;
    let weight: u32 = 0;
    eachServer(service, (server, number) => {
      const delay = u32(server.active + 1);
      if (delay === 1 || isLighter(delay, server.weight, least, weight)) {
        least = delay;
        weight = server.weight;
        chosen = number;
      }
      return delay === 1 ? 1 : 0;
    });
    return chosen;
  },
  prepare: () => EMPTY,
};
