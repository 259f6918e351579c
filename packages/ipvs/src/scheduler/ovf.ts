/**
 * Overflow: the real server of the greatest weight until it has that many active connections, then the next. One more than
 * the weight fits, as the count is taken before the connection.
 */
import type { u32 } from '@ipvsd/bpf';
import { EMPTY, eachServer, NONE, type Scheduler } from './scheduler.ts';

export const ovf: Scheduler = {
  name: 'ovf',
  number: 12,
  schedule(service) {
    let chosen: u32 = NONE;
    let greatest: u32 = 0;
    eachServer(service, (server, number) => {
      if (server.active > server.weight || server.weight <= greatest) return 0;
      greatest = server.weight;
      chosen = number;
      return 0;
    });
    return chosen;
  },
  prepare: () => EMPTY,
};
