/**
 * Least load: the real server that says it is the least loaded (`ipvsd run` asks it, once a second), corrected by the
 * connections that were opened to it since, so that a second's new connections do not all run to who was idle before it.
 *
 * What a connection adds is learnt from what came between reports, and shared by weight (director's `plane/loads.ts`). Who does
 * not report is taken to be as loaded as the others together; where nobody reports this is `wlc`.
 */
import { arrayMap, atomicAdd, loop, percpuArray, struct, u32, u64, type ViewOf } from '@ipvsd/bpf';
import { MAX_SERVERS, type RealServer, servers } from '../service/service.ts';
import { now, ticksOf } from '../settings.ts';
import { EMPTY, isEligible, memberNumber, NONE, type Scheduler } from './scheduler.ts';
import { wlc } from './wlc.ts';

/** A load of 1: fully used. */
export const FULL_LOAD = 1 << 24;

/** By number of the real server; written by user space alone. */
export const Load = struct('load', {
  load: u32,
  /** What one more connection is taken to add. */
  cost: u32,
  /** `opened` when the load was reported. */
  opened: u32,
  /** When, in ticks. */
  at: u32,
  /** The sequence of the service that it was reported for: a number may have had another owner. */
  owner: u32,
  reserved: u32,
});
export type Load = ViewOf<typeof Load>;
export const loads = arrayMap('loads', Load, { maxEntries: MAX_SERVERS });

/** Connections that `ll` has opened, ever; written by packets alone. */
export const Opened = struct('opened', { count: u32 });
export const opened = arrayMap('opened', Opened, { maxEntries: MAX_SERVERS });

/** Older than this a load is none, be it that the daemon is gone. */
export const STALE_LOAD = ticksOf(15);
/** User space's clock may be this far ahead of a packet's. */
const AHEAD = ticksOf(1);

const isKnown = (load: Load, server: RealServer): boolean =>
  load.owner === server.owner && load.cost !== 0 && u32(now() + AHEAD - load.at) <= STALE_LOAD + AHEAD;

/** What the two rounds over the real servers work on; in a map, as the verifier follows no changing captures for long. */
const Round = struct('ll_round', { load: u64, cost: u64, least: u64, known: u32, chosen: u32 });
type Round = ViewOf<typeof Round>;
const rounds = percpuArray('ll_rounds', Round, { maxEntries: 1 });

export const ll: Scheduler = {
  name: 'll',
  number: 15,
  schedule(service, state, asking) {
    const round: Round | null = rounds.at(0);
    if (round === null) return NONE;
    round.load = 0n;
    round.cost = 0n;
    round.known = 0;
    loop(service.count, (place) => {
      addUp(round, memberNumber(service, place));
      return 0;
    });
    const known: u32 = round.known;
    if (known === 0) return wlc.schedule(service, state, asking);
    // Of those who have not reported.
    round.load = u64(round.load / u64(known));
    round.cost = u64(round.cost / u64(known));
    round.chosen = NONE;
    round.least = 0xffff_ffff_ffff_ffffn;
    loop(service.count, (place) => {
      compare(round, memberNumber(service, place));
      return 0;
    });
    const count = opened.at(round.chosen);
    if (count !== null) atomicAdd(count, 'count', 1);
    return round.chosen;
  },
  prepare: () => EMPTY,
};

function addUp(round: Round, number: u32): void {
  const server: RealServer | null = servers.at(number);
  const load: Load | null = loads.at(number);
  if (server === null || load === null || !isKnown(load, server)) return;
  round.known = u32(round.known + 1);
  round.load = u64(round.load + u64(load.load));
  round.cost = u64(round.cost + u64(load.cost));
}

function compare(round: Round, number: u32): void {
  const server: RealServer | null = servers.at(number);
  const load: Load | null = loads.at(number);
  const count = opened.at(number);
  if (server === null || load === null || count === null || !isEligible(server)) return;
  const estimate: u64 = isKnown(load, server)
    ? u64(u64(load.load) + u64(load.cost) * u64(u32(count.count - load.opened)))
    : u64(round.load + round.cost * u64(server.active));
  if (estimate >= round.least) return;
  round.least = estimate;
  round.chosen = number;
}
