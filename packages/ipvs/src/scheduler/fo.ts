/** Weighted fail over: everything to the real server of the greatest weight that is not overloaded. */
import type { u32 } from '@ipvsd/bpf';
import { EMPTY, eachServer, NONE, type Scheduler } from './scheduler.ts';

export const fo: Scheduler = {
  name: 'fo',
  number: 11,
  schedule(service) {
    let chosen: u32 = NONE;
    let greatest: u32 = 0;
    eachServer(service, (server, number) => {
      if (server.weight <= greatest) return 0;
      greatest = server.weight;
      chosen = number;
      return 0;
    });
    return chosen;
  },
  prepare: () => EMPTY,
};
