/** Least connection: the eligible real server with the least overhead; the first in the list where several have it. */
import { u32 } from '@ipvsd/bpf';
import { EMPTY, lightest, overhead, type Scheduler } from './scheduler.ts';

export const lc: Scheduler = {
  name: 'lc',
  number: 3,
  schedule: (service) =>
    lightest(
      service,
      (server) => u32(overhead(server)),
      () => 1,
    ),
  prepare: () => EMPTY,
};
