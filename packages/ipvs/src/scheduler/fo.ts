/** Weighted fail over: everything to the real server of the greatest weight that is not overloaded. */
import { loop, type u32 } from '@ipvsd/bpf';
import { EMPTY, isEligible, memberAt, memberNumber, NONE, type Scheduler } from './scheduler.ts';

export const fo: Scheduler = {
  name: 'fo',
  number: 11,
  schedule(service) {
    let chosen: u32 = NONE;
    let greatest: u32 = 0;
    loop(service.count, (place) => {
      const server = memberAt(service, place);
      if (server === null || !isEligible(server) || server.weight <= greatest) return 0;
      greatest = server.weight;
      chosen = memberNumber(service, place);
      return 0;
    });
    return chosen;
  },
  prepare: () => EMPTY,
};
