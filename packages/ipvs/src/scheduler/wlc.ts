/** Weighted least connection, ipvsadm's default: the least overhead for its weight. */
import { u32 } from '@ipvsd/bpf';
import { EMPTY, eachServer, isLighter, NONE, overhead, type Scheduler } from './scheduler.ts';

export const wlc: Scheduler = {
  name: 'wlc',
  number: 4,
  schedule(service) {
    let chosen: u32 = NONE;
    // Heavier than anyone: a load for no weight at all.
    let least: u32 = 1;
    let weight: u32 = 0;
    eachServer(service, (server, number) => {
      const load = u32(overhead(server));
      if (isLighter(load, server.weight, least, weight)) {
        least = load;
        weight = server.weight;
        chosen = number;
      }
      return 0;
    });
    return chosen;
  },
  prepare: () => EMPTY,
};
