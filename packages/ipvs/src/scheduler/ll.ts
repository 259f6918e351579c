/**
 * Least load: the real server that says it is the least loaded (`ipvsd run` asks it, once a second), corrected by the
 * connections that were opened to it since, so that a second's new connections do not all run to who was idle before it.
 *
 * What a connection adds is learnt from what came between reports, and shared by weight (director's `plane/loads.ts`). Who does
 * not report is taken to be as loaded as the others together; where nobody reports this is `wlc`.
 */
import { array, atomicAdd, percpuArray, single, struct, u32, u64, type ViewOf } from '@ipvsd/bpf';
import { MAX_SERVERS, type Standing } from '../service/service.ts';
import { now as clock, ticksOf } from '../settings.ts';
import { EMPTY, eachMember, isEligible, NONE, type Scheduler } from './scheduler.ts';
import { wlc } from './wlc.ts';

/** A load of 1: fully used. */
export const FULL_LOAD = 1 << 24;

/** What was reported of a real server; written by user space, forgotten when its number gets another service. */
const Load = struct('load', {
  load: u32,
  /** What one more connection is taken to add; 0: nothing was reported. */
  cost: u32,
  /** `opened` when the load was reported. */
  opened: u32,
  /** When, in ticks. */
  at: u32,
});
type Load = ViewOf<typeof Load>;
/** By number of the real server. */
export const Loads = struct('loads', { of: array(Load, MAX_SERVERS) });
export const loads = single('loads', Loads, { shared: true });
export const loadOf = (number: u32): Load => loads.only.of.at(number & (MAX_SERVERS - 1));

/** Connections that `ll` has opened, ever; written by packets alone. */
const Opened = struct('opened', { count: u32 });
export const OpenedCounts = struct('opened_counts', { of: array(Opened, MAX_SERVERS) });
export const opened = single('opened', OpenedCounts, { shared: true });
const openedOf = (number: u32): ViewOf<typeof Opened> => opened.only.of.at(number & (MAX_SERVERS - 1));

/** Older than this a load is none, be it that the daemon is gone. */
export const STALE_LOAD = ticksOf(15);
/** User space's clock may be this far ahead of a packet's. */
const AHEAD = ticksOf(1);

const isKnown = (load: Load, now: u32): boolean => load.cost !== 0 && u32(now + AHEAD - load.at) <= STALE_LOAD + AHEAD;

/** What the rounds over the real servers work on; in a map, as the verifier follows no changing captures for long. */
const Round = struct('ll_round', { load: u64, cost: u64, least: u64, known: u32, silent: u32, chosen: u32 });
type Round = ViewOf<typeof Round>;
const rounds = percpuArray('ll_rounds', Round, { maxEntries: 1 });

export const ll: Scheduler = {
  name: 'll',
  number: 15,
  schedule(service, state, asking) {
    const round: Round | null = rounds.at(0);
    if (round === null) return NONE;
    const now = clock();
    round.load = 0n;
    round.cost = 0n;
    round.known = 0;
    round.silent = 0;
    begin(round);
    eachMember(service, (server, number) => {
      const load = loadOf(number);
      if (isKnown(load, now)) {
        round.known = u32(round.known + 1);
        round.load = u64(round.load + u64(load.load));
        round.cost = u64(round.cost + u64(load.cost));
        if (isEligible(server)) compare(round, number, estimateOf(load, number));
      } else if (isEligible(server)) round.silent = 1;
      return 0;
    });
    const known: u32 = round.known;
    if (known === 0) return wlc.schedule(service, state, asking);
    // Only now it is known what the silent ones are taken to carry, and all are compared once more: of equals the first counts.
    if (round.silent !== 0) {
      round.load = u64(round.load / u64(known));
      round.cost = u64(round.cost / u64(known));
      begin(round);
      eachMember(service, (server, number) => {
        const load = loadOf(number);
        if (!isEligible(server)) return 0;
        compare(round, number, isKnown(load, now) ? estimateOf(load, number) : estimateOfSilent(round, server));
        return 0;
      });
    }
    if (round.chosen !== NONE) atomicAdd(openedOf(round.chosen), 'count', 1);
    return round.chosen;
  },
  prepare: () => EMPTY,
};

function begin(round: Round): void {
  round.chosen = NONE;
  round.least = 0xffff_ffff_ffff_ffffn;
}

function compare(round: Round, number: u32, estimate: u64): void {
  if (estimate >= round.least) return;
  round.least = estimate;
  round.chosen = number;
}

const estimateOf = (load: Load, number: u32): u64 =>
  u64(u64(load.load) + u64(load.cost) * u64(u32(openedOf(number).count - load.opened)));

const estimateOfSilent = (round: Round, server: Standing): u64 => u64(round.load + round.cost * u64(server.active));
