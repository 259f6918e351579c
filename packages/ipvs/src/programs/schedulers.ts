/** A program for each scheduler, at its number. A user's own is one more. */
import { tcProgram } from '@ipvsd/bpf';
import { dh } from '../scheduler/dh.ts';
import { fo } from '../scheduler/fo.ts';
import { choose } from '../scheduler/index.ts';
import { lblc } from '../scheduler/lblc.ts';
import { lblcr } from '../scheduler/lblcr.ts';
import { lc } from '../scheduler/lc.ts';
import { ll } from '../scheduler/ll.ts';
import { mh } from '../scheduler/mh.ts';
import { nq } from '../scheduler/nq.ts';
import { ovf } from '../scheduler/ovf.ts';
import { rr } from '../scheduler/rr.ts';
import { sed } from '../scheduler/sed.ts';
import { sh } from '../scheduler/sh.ts';
import { twos } from '../scheduler/twos.ts';
import { wlc } from '../scheduler/wlc.ts';
import { wrr } from '../scheduler/wrr.ts';
import { schedulers } from '../stages.ts';

export const dhProgram = schedulers.set(
  dh.number,
  tcProgram('ipvsd_dh', (skb) => choose(skb, dh)),
);
export const foProgram = schedulers.set(
  fo.number,
  tcProgram('ipvsd_fo', (skb) => choose(skb, fo)),
);
export const lblcProgram = schedulers.set(
  lblc.number,
  tcProgram('ipvsd_lblc', (skb) => choose(skb, lblc)),
);
export const lblcrProgram = schedulers.set(
  lblcr.number,
  tcProgram('ipvsd_lblcr', (skb) => choose(skb, lblcr)),
);
export const lcProgram = schedulers.set(
  lc.number,
  tcProgram('ipvsd_lc', (skb) => choose(skb, lc)),
);
export const llProgram = schedulers.set(
  ll.number,
  tcProgram('ipvsd_ll', (skb) => choose(skb, ll)),
);
export const mhProgram = schedulers.set(
  mh.number,
  tcProgram('ipvsd_mh', (skb) => choose(skb, mh)),
);
export const nqProgram = schedulers.set(
  nq.number,
  tcProgram('ipvsd_nq', (skb) => choose(skb, nq)),
);
export const ovfProgram = schedulers.set(
  ovf.number,
  tcProgram('ipvsd_ovf', (skb) => choose(skb, ovf)),
);
export const rrProgram = schedulers.set(
  rr.number,
  tcProgram('ipvsd_rr', (skb) => choose(skb, rr)),
);
export const sedProgram = schedulers.set(
  sed.number,
  tcProgram('ipvsd_sed', (skb) => choose(skb, sed)),
);
export const shProgram = schedulers.set(
  sh.number,
  tcProgram('ipvsd_sh', (skb) => choose(skb, sh)),
);
export const twosProgram = schedulers.set(
  twos.number,
  tcProgram('ipvsd_twos', (skb) => choose(skb, twos)),
);
export const wlcProgram = schedulers.set(
  wlc.number,
  tcProgram('ipvsd_wlc', (skb) => choose(skb, wlc)),
);
export const wrrProgram = schedulers.set(
  wrr.number,
  tcProgram('ipvsd_wrr', (skb) => choose(skb, wrr)),
);
