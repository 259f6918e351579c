/** Weighted least connection, ipvsadm's default: the least overhead for its weight. */
import { u32 } from '@ipvsd/bpf';
import { EMPTY, lightest, overhead, type Scheduler } from './scheduler.ts';

export const wlc: Scheduler = {
  name: 'wlc',
  number: 4,
  schedule: (service) => lightest(service, (server) => u32(overhead(server))),
  prepare: () => EMPTY,
};
