/**
 * Figures out of slices. Systems are measured in turn within a round, so what the machine does meanwhile is alike for all of a
 * round: a system's figure is the median over rounds of its ratio to plain routing in the same round, and its spread comes
 * from drawing rounds anew (bootstrap).
 */

export interface Estimate {
  readonly median: number;
  /** Bounds of the 95 % interval. */
  readonly low: number;
  readonly high: number;
  /** Half of the interval. */
  readonly spread: number;
}

const DRAWS = 2000;

export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** Between neighbours in proportion; NaN of nothing. */
export function quantile(values: readonly number[], share: number): number {
  if (values.length === 0) return Number.NaN;
  const sorted = [...values].sort((a, b) => a - b);
  const at = (sorted.length - 1) * share;
  const below = sorted[Math.floor(at)]!;
  const above = sorted[Math.ceil(at)]!;
  return below + (above - below) * (at - Math.floor(at));
}

/** The median and how far it can be trusted. */
export function estimate(values: readonly number[], random: () => number): Estimate {
  const usable = values.filter(Number.isFinite);
  const medians = Array.from({ length: DRAWS }, () =>
    median(usable.map(() => usable[Math.floor(random() * usable.length)]!)),
  );
  const [low, high] = [quantile(medians, 0.025), quantile(medians, 0.975)];
  return { median: median(usable), low, high, spread: (high - low) / 2 };
}

/** Ratios round by round; a round without both is left out. */
export function ratios(of: readonly (number | undefined)[], to: readonly (number | undefined)[]): number[] {
  return of.flatMap((value, round) => {
    const base = to[round];
    return value === undefined || base === undefined || base === 0 ? [] : [value / base];
  });
}

/** Numbers in [0, 1) that a seed replays (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
}

export function shuffle<T>(items: readonly T[], random: () => number): T[] {
  const result = [...items];
  for (let i = result.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [result[i], result[j]] = [result[j]!, result[i]!];
  }
  return result;
}

export interface Noise {
  /** What the probe takes when nothing disturbs it. */
  readonly calmUs: number;
  /** Share of probes above 1.5 times that. */
  readonly disturbed: number;
  /** Share of slices that were left out, as somebody else had the core. */
  readonly taken: number;
  readonly noisy: boolean;
}

const DISTURBED = 1.5;
/** A run where more than this share was disturbed is marked. */
const TOLERATED = 0.1;

/** What the spin probes say of the machine. The host takes CPU without showing it as steal. */
export function judgeNoise(probesUs: readonly number[], taken = 0): Noise {
  const calmUs = quantile(probesUs, 0.1);
  const disturbed = probesUs.filter((us) => us > DISTURBED * calmUs).length / Math.max(1, probesUs.length);
  return { calmUs, disturbed, taken, noisy: disturbed > TOLERATED || taken > TOLERATED };
}
