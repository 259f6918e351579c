/** Least connection: the eligible real server with the least overhead; the first in the list where several have it. */
import { loop, u32 } from '@ipvsd/bpf';
import { EMPTY, isEligible, memberAt, memberNumber, NONE, overhead, type Scheduler } from './scheduler.ts';

export const lc: Scheduler = {
  name: 'lc',
  number: 3,
  schedule(service) {
    let chosen: u32 = NONE;
    let least: u32 = 0;
    loop(service.count, (place) => {
      const server = memberAt(service, place);
      if (server === null || !isEligible(server)) return 0;
      const load = u32(overhead(server));
      if (chosen === NONE || load < least) {
        least = load;
        chosen = memberNumber(service, place);
      }
      return 0;
    });
    return chosen;
  },
  prepare: () => EMPTY,
};
