/** All schedulers. A service names its own by number; asking the others costs one comparison each. */
import type { u32 } from '@ipvsd/bpf';
import { type Service, type ServiceState, serviceStates } from '../service/service.ts';
import { dh } from './dh.ts';
import { fo } from './fo.ts';
import { lblc } from './lblc.ts';
import { lblcr } from './lblcr.ts';
import { lc } from './lc.ts';
import { mh } from './mh.ts';
import { nq } from './nq.ts';
import { ovf } from './ovf.ts';
import { rr } from './rr.ts';
import { type Asking, NONE, type Scheduler } from './scheduler.ts';
import { sed } from './sed.ts';
import { sh } from './sh.ts';
import { twos } from './twos.ts';
import { wlc } from './wlc.ts';
import { wrr } from './wrr.ts';

export const SCHEDULERS: readonly Scheduler[] = [wlc, rr, wrr, lc, sh, mh, sed, nq, fo, ovf, dh, lblc, lblcr, twos];

function schedule(service: Service, state: ServiceState, asking: Asking): u32 {
  for (const scheduler of SCHEDULERS) {
    if (service.scheduler === scheduler.number) return scheduler.schedule(service, state, asking);
  }
  return NONE;
}

/**
 * The number of the real server that the service's scheduler gives it to, or NONE.
 * @subprog
 */
export function chooseServer(service: Service, asking: Asking): u32 {
  const state = serviceStates.at(service.index);
  return state === null ? NONE : schedule(service, state, asking);
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
