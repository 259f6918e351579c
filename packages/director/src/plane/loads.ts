/**
 * What `ll` schedules by (ipvs/scheduler/ll.ts): loads as they were reported, and what one connection more is taken to add.
 *
 * In the time between two reports the service got some connections, and the servers' mean load is what they, those before
 * them and all other work come to. A real server that gets its share of as many again is taken to be loaded by half of the mean
 * more. As reports are smoothed (load's controller), even a cost of a third of the true one would settle; the true one is at
 * most the whole mean. The last cost and this one meet at their geometric mean: one second is not like the next, and the first after a
 * start knows of no connections at all.
 */
import { FULL_LOAD, Loads, loads, OpenedCounts, opened, STALE_LOAD } from '@ipvsd/ipvs';
import type { Address } from '../address.ts';
import type { EstimatedLoad } from '../director.ts';
import type { Plane } from './plane.ts';
import type { Stored } from './stored-table.ts';

/** Below this all are idle, and differences are noise. */
const LEAST_MEAN = 0.1;
const MOST_LOAD = 100;
/** Of the mean load: what each one's share of the connections between two reports is taken to bring. */
const BROUGHT = 0.5;

interface Reported {
  readonly number: number;
  readonly weight: number;
  readonly load: number;
  readonly opened: number;
  readonly before: { readonly cost: number; readonly opened: number } | undefined;
}

/** By numbers of real servers, as packets see them. */
const tablesOf = (plane: Plane) =>
  [Loads.on(plane.store(loads).memory()).of, OpenedCounts.on(plane.store(opened).memory()).of] as const;

/** `now` in ticks. Of a real server without a report the one before is forgotten. */
export function writeLoads(plane: Plane, stored: Stored, byAddress: ReadonlyMap<Address, number>, now: number): void {
  const [records, counts] = tablesOf(plane);
  const reported = stored.numbers.flatMap((number, place): Reported[] => {
    const { address, weight } = stored.service.realServers[place]!;
    const load = byAddress.get(address);
    const record = records.at(number);
    const before = record.cost === 0 ? undefined : { cost: record.cost, opened: record.opened };
    if (load === undefined) {
      record.cost = 0;
      return [];
    }
    const { count } = counts.at(number);
    return [{ number, weight, load: Math.min(MOST_LOAD, Math.max(0, load)), opened: count, before }];
  });
  const unit = costOfWeight(reported);
  for (const { number, weight, load, opened: count, before } of reported) {
    const fresh = unit / Math.max(1, weight);
    const cost = before === undefined ? fresh : Math.sqrt((before.cost / FULL_LOAD) * fresh);
    Object.assign(records.at(number), { load: fixed(load), opened: count, at: now, cost: Math.max(1, fixed(cost)) });
  }
}

/**
 * What `ll` takes the real servers' loads to be, in list order: as reported, corrected by what was opened since; those who have
 * not reported, by the others' mean. Undefined where nobody has.
 */
export function readLoads(plane: Plane, stored: Stored, now: number): readonly EstimatedLoad[] | undefined {
  const [records, counts] = tablesOf(plane);
  const read = stored.numbers.map((number) => {
    const load = records.at(number);
    const { count } = counts.at(number);
    const known = load.cost !== 0 && (now - load.at) >>> 0 <= STALE_LOAD;
    return { known, load: load.load / FULL_LOAD, cost: load.cost / FULL_LOAD, since: (count - load.opened) >>> 0 };
  });
  const known = read.filter((one) => one.known);
  if (known.length === 0) return undefined;
  const mean = (of: (one: (typeof read)[number]) => number): number =>
    known.reduce((sum, one) => sum + of(one), 0) / known.length;
  const [meanLoad, meanCost] = [mean(({ load }) => load), mean(({ cost }) => cost)];
  return read.map((one, place) => {
    if (one.known) return { reported: one.load, since: one.since, estimate: one.load + one.since * one.cost };
    const { activeConnections } = stored.service.realServers[place]!;
    return { reported: undefined, since: activeConnections, estimate: meanLoad + activeConnections * meanCost };
  });
}

/** What a connection adds to a real server of weight 1. */
function costOfWeight(reported: readonly Reported[]): number {
  const sum = (of: (one: Reported) => number): number => reported.reduce((all, one) => all + of(one), 0);
  const mean = Math.max(LEAST_MEAN, sum(({ load }) => load) / reported.length);
  const came = sum(({ opened: count, before }) => (before === undefined ? 0 : (count - before.opened) >>> 0));
  const weights = Math.max(
    1,
    sum(({ weight }) => weight),
  );
  // At least one for each, so that a quiet second does not make the next connection weigh the world.
  return (BROUGHT * mean) / Math.max(came / weights, reported.length / weights);
}

const fixed = (value: number): number => Math.min(0xffff_ffff, Math.round(value * FULL_LOAD));
