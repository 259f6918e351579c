/** From slices to figures: each system against plain routing, round by round. */
import { type Estimate, estimate, median, quantile, ratios } from '../report/statistics.ts';
import type { Sample, Samples } from './measure.ts';

export interface TrafficRow {
  /** Name of the experiment. */
  readonly load: string;
  readonly system: string;
  /** Rate against plain routing's in the same rounds, and its 95 % interval. */
  readonly ratio: number;
  readonly spread: number;
  readonly low: number;
  readonly high: number;
  /** Per second: connections, requests, gigabytes. */
  readonly rate: number;
  readonly p50Us: number;
  readonly p99Us: number;
  /** Microseconds of CPU, all parts together, for a connection, a request or a gigabyte. */
  readonly cpuUs: number;
  /** Routing's CPU against this one's: the ratio as it were if nothing else ran on the machine. */
  readonly cpuRatio: number;
  readonly cpuSpread: number;
  /** What the director adds to a path without one, in microseconds of CPU for the same. */
  readonly directorCost: number;
  readonly errors: number;
}

export const BASE = 'routing';
export const NO_DIRECTOR = 'none';

export function rowsOf(load: string, samples: Samples, random: () => number): TrafficRow[] {
  const of = (system: string, value: (sample: Sample) => number): (number | undefined)[] =>
    (samples.get(system) ?? []).map((sample) => sample && value(sample));
  const rate = (sample: Sample): number => sample.perSecond;
  const cpu = (sample: Sample): number => sample.cpuUs;
  const quiet = (system: string): (number | undefined)[] =>
    undisturbed(samples.get(system) ?? []).map((s) => s && rate(s));
  const rows: TrafficRow[] = [];
  for (const [system, all] of samples) {
    const found = all.filter((sample) => sample !== undefined);
    if (found.length === 0) continue;
    const speed = relative(quiet(system), quiet(BASE), random);
    const economy = relative(of(BASE, cpu), of(system, cpu), random);
    const own = differences(of(system, cpu), of(NO_DIRECTOR, cpu));
    rows.push({
      load,
      system,
      ratio: rounded(speed.median, 4),
      spread: rounded(speed.spread, 4),
      low: rounded(speed.low, 4),
      high: rounded(speed.high, 4),
      rate: rounded(median(undisturbed(all).flatMap((s) => (s ? [rate(s)] : []))), 3),
      p50Us: Math.round(median(found.map(({ p50Us }) => p50Us))),
      p99Us: Math.round(median(found.map(({ p99Us }) => p99Us))),
      cpuUs: rounded(median(found.map(cpu)), 3),
      cpuRatio: rounded(economy.median, 4),
      cpuSpread: rounded(economy.spread, 4),
      directorCost: rounded(median(own), 3),
      errors: found.reduce((sum, { errors }) => sum + errors, 0),
    });
  }
  return rows;
}

/** Of the share of the machine that a system gets at best, what a slice must have had to count. */
const ENOUGH = 0.9;
/** With fewer left than this, nothing is thrown away. */
const FEWEST = 5;

/**
 * A rate says nothing of a slice in which somebody else had the core, so that is left out, for every system by the same rule. CPU
 * per operation needs no such care.
 */
export function undisturbed(samples: readonly (Sample | undefined)[]): readonly (Sample | undefined)[] {
  const best = quantile(
    samples.flatMap((sample) => (sample ? [sample.cpuShare] : [])),
    0.9,
  );
  const kept = samples.map((sample) => (sample && sample.cpuShare >= ENOUGH * best ? sample : undefined));
  return kept.filter((sample) => sample !== undefined).length < FEWEST ? samples : kept;
}

function relative(
  of: readonly (number | undefined)[],
  to: readonly (number | undefined)[],
  random: () => number,
): Estimate {
  return estimate(ratios(of, to), random);
}

function differences(of: readonly (number | undefined)[], less: readonly (number | undefined)[]): number[] {
  return of.flatMap((value, round) => {
    const base = less[round];
    return value === undefined || base === undefined ? [] : [value - base];
  });
}

/** NaN, which JSON does not have, becomes 0: no round had both. */
function rounded(value: number, decimals: number): number {
  return Number.isFinite(value) ? Number(value.toFixed(decimals)) : 0;
}
