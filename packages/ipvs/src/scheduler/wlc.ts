/** Weighted least connection, ipvsadm's default: the least overhead for its weight. */
import { loop, u32 } from '@ipvsd/bpf';
import { EMPTY, isEligible, isLighter, memberAt, memberNumber, NONE, overhead, type Scheduler } from './scheduler.ts';

export const wlc: Scheduler = {
  name: 'wlc',
  number: 4,
  schedule(service) {
    let chosen: u32 = NONE;
    let least: u32 = 0;
    let weight: u32 = 0;
    loop(service.count, (place) => {
      const server = memberAt(service, place);
      if (server === null || !isEligible(server)) return 0;
      const load = u32(overhead(server));
      if (chosen === NONE || isLighter(load, server.weight, least, weight)) {
        least = load;
        weight = server.weight;
        chosen = memberNumber(service, place);
      }
      return 0;
    });
    return chosen;
  },
  prepare: () => EMPTY,
};
