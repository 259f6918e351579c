/** All schedulers. A service names its own by number; each is a program of its own. */
import { type Skb, tailCall } from '@ipvsd/bpf';
import { OF_PACKET, openings, planOf } from '../connection/opening.ts';
import { because, REASONS } from '../counters.ts';
import { serviceStates } from '../service/service.ts';
import { CONNECT, stages } from '../stages.ts';
import { dh } from './dh.ts';
import { fo } from './fo.ts';
import { lblc } from './lblc.ts';
import { lblcr } from './lblcr.ts';
import { lc } from './lc.ts';
import { ll } from './ll.ts';
import { mh } from './mh.ts';
import { nq } from './nq.ts';
import { ovf } from './ovf.ts';
import { rr } from './rr.ts';
import type { Scheduler } from './scheduler.ts';
import { sed } from './sed.ts';
import { sh } from './sh.ts';
import { twos } from './twos.ts';
import { wlc } from './wlc.ts';
import { wrr } from './wrr.ts';

export const SCHEDULERS: readonly Scheduler[] = [wlc, rr, wrr, lc, sh, mh, sed, nq, fo, ovf, dh, lblc, lblcr, twos, ll];

/** The stage of a scheduler's program: asks it for a real server and goes on to connect. */
export function choose(skb: Skb, scheduler: Scheduler): number {
  const plan = planOf();
  const opening = openings.at(OF_PACKET);
  if (plan === null || opening === null) return because(REASONS.corrupt);
  const state = serviceStates.at(plan.service.index);
  if (state === null) return because(REASONS.corrupt);
  plan.chosen = scheduler.schedule(plan.service, state, opening);
  return tailCall(skb, stages, CONNECT);
}

/** All names by number: those of the kernel in its modules' order, then ours; 0 schedules nothing. */
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
  'll',
];
