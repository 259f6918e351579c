/** All schedulers. A service names its own by number; asking the others costs one comparison each. */
import type { u32 } from '@ipvsd/bpf';
import type { Service, ServiceState } from '../service/service.ts';
import { lc } from './lc.ts';
import { rr } from './rr.ts';
import { type Asking, NONE, type Scheduler } from './scheduler.ts';
import { wlc } from './wlc.ts';
import { wrr } from './wrr.ts';

export const SCHEDULERS: readonly Scheduler[] = [rr, wrr, lc, wlc];

export function schedule(service: Service, state: ServiceState, asking: Asking): u32 {
  for (const scheduler of SCHEDULERS) {
    if (service.scheduler === scheduler.number) return scheduler.schedule(service, state, asking);
  }
  return NONE;
}

/** All names by number, those of the kernel and in its modules' order; 0 schedules nothing. */
export const SCHEDULER_NAMES: readonly string[] = [
  'none',
  'rr',
  'wrr',
  'lc',
  'wlc',
  'lblc',
  'lblcr',
  'dh',
  'sh',
  'sed',
  'nq',
  'fo',
  'ovf',
  'mh',
  'twos',
];
