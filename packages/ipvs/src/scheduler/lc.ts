/** Least connection: the eligible real server with the least overhead; the first in the list where several have it. */
import { u32 } from '@ipvsd/bpf';
import { EMPTY, eachServer, NONE, overhead, type Scheduler } from './scheduler.ts';

export const lc: Scheduler = {
  name: 'lc',
  number: 3,
  schedule(service) {
    let chosen: u32 = NONE;
    let least: u32 = 0;
    eachServer(service, (server, number) => {
      const load = u32(overhead(server));
      if (chosen === NONE || load < least) {
        least = load;
        chosen = number;
      }
      return 0;
    });
    return chosen;
  },
  prepare: () => EMPTY,
};
