/** Never queue: the first idle real server however light, and only where all are busy the shortest expected delay. */
import { loop, u32 } from '@ipvsd/bpf';
import { EMPTY, isEligible, isLighter, memberAt, memberNumber, NONE, type Scheduler } from './scheduler.ts';

export const nq: Scheduler = {
  name: 'nq',
  number: 10,
  schedule(service) {
    let chosen: u32 = NONE;
    let least: u32 = 0;
    let weight: u32 = 0;
    loop(service.count, (place) => {
      const server = memberAt(service, place);
      if (server === null || !isEligible(server)) return 0;
      const delay = u32(server.active + 1);
      if (chosen === NONE || delay === 1 || isLighter(delay, server.weight, least, weight)) {
        least = delay;
        weight = server.weight;
        chosen = memberNumber(service, place);
      }
      return delay === 1 ? 1 : 0;
    });
    return chosen;
  },
  prepare: () => EMPTY,
};
