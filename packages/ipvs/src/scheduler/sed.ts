/**
 * Shortest expected delay: the least (active + 1) / weight, that is the wait if the connection went there. Inactive
 * connections do not count, so UDP sees all as equally idle.
 */
import { loop, u32 } from '@ipvsd/bpf';
import { EMPTY, isEligible, isLighter, memberAt, memberNumber, NONE, type Scheduler } from './scheduler.ts';

export const sed: Scheduler = {
  name: 'sed',
  number: 9,
  schedule(service) {
    let chosen: u32 = NONE;
    let least: u32 = 0;
    let weight: u32 = 0;
    loop(service.count, (place) => {
      const server = memberAt(service, place);
      if (server === null || !isEligible(server)) return 0;
      const delay = u32(server.active + 1);
      if (chosen === NONE || isLighter(delay, server.weight, least, weight)) {
        least = delay;
        weight = server.weight;
        chosen = memberNumber(service, place);
      }
      return 0;
    });
    return chosen;
  },
  prepare: () => EMPTY,
};
