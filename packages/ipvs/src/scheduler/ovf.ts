/**
 * Overflow: the real server of the greatest weight until it has that many active connections, then the next. One more than
 * the weight fits, as the count is taken before the connection.
 */
import { loop, type u32 } from '@ipvsd/bpf';
import { EMPTY, isEligible, memberAt, memberNumber, NONE, type Scheduler } from './scheduler.ts';

export const ovf: Scheduler = {
  name: 'ovf',
  number: 12,
  schedule(service) {
    let chosen: u32 = NONE;
    let greatest: u32 = 0;
    loop(service.count, (place) => {
      const server = memberAt(service, place);
      if (server === null || !isEligible(server)) return 0;
      if (server.active > server.weight || server.weight <= greatest) return 0;
      greatest = server.weight;
      chosen = memberNumber(service, place);
      return 0;
    });
    return chosen;
  },
  prepare: () => EMPTY,
};
