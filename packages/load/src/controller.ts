/**
 * From loads to weights, for the real servers of one virtual server. Pure: time and reports come in.
 *
 * A balancer that gives all work to whoever was idle a moment ago makes a herd that runs from server to server. So loads
 * are smoothed; a weight moves by a bounded share of itself in each step, and only while its server's load differs from
 * the others' by more than the dead band; it stays within bounds around the configured weight, so no server gets all and
 * none is starved; and all factors together are brought back to 1, so that nothing drifts. A server that falls silent
 * goes back to its configured weight, in the same small steps.
 */
import type { LoadReport } from './report.ts';

export interface ControllerSettings {
  /** A change in load has half its effect after this. */
  readonly halfLifeMs: number;
  /** Older than this a report counts as none. */
  readonly staleMs: number;
  /** How much of the difference in load becomes a change of the factor in one second. */
  readonly gainPerSecond: number;
  /** The factor moves by no more than this share of itself in one second. */
  readonly mostPerSecond: number;
  /** Differences in load below this are noise. */
  readonly deadBand: number;
  readonly minimumFactor: number;
  readonly maximumFactor: number;
  /** False where the scheduler goes by the loads themselves (`ll`): then only what an agent asks for outright moves a weight. */
  readonly movesWeights: boolean;
}

export const defaultSettings: ControllerSettings = {
  halfLifeMs: 2000,
  staleMs: 10_000,
  gainPerSecond: 0.5,
  mostPerSecond: 0.15,
  deadBand: 0.04,
  minimumFactor: 0.1,
  maximumFactor: 3,
  movesWeights: true,
};

/** Integer weights need room: the smallest configured one becomes at least this. */
const RESOLUTION = 100;

/** What all weights of a service are multiplied by while they move; to a scheduler only ratios matter. */
export function weightScale(configured: readonly number[]): number {
  const smallest = Math.min(...configured.filter((weight) => weight > 0));
  return Math.max(1, Math.ceil(RESOLUTION / smallest));
}

export interface ControlledServer {
  readonly key: string;
  readonly configuredWeight: number;
}

/** Everything that went into a weight, for `explain`. */
export interface Reason {
  readonly key: string;
  readonly configuredWeight: number;
  /** Undefined: the configured weight is to stand, as it is. */
  readonly weight: number | undefined;
  /** What the agent says the server takes at most; undefined where it says nothing, or nothing any more. */
  readonly maxConnections: number | undefined;
  readonly report: LoadReport | undefined;
  readonly ageMs: number | undefined;
  readonly stale: boolean;
  readonly smoothedLoad: number | undefined;
  readonly meanLoad: number | undefined;
  readonly factor: number;
  /** Why it moved, or did not. */
  readonly because: string;
}

interface Track {
  report: LoadReport | undefined;
  atMs: number;
  smoothed: number | undefined;
  factor: number;
  because: string;
}

export class Controller {
  #settings: ControllerSettings = defaultSettings;
  #tracks = new Map<string, Track>();
  #servers: readonly ControlledServer[] = [];
  #reasons: readonly Reason[] = [];
  #lastMs: number | undefined;

  constructor(settings: Partial<ControllerSettings> = {}) {
    this.changeSettings(settings);
  }

  changeSettings(settings: Partial<ControllerSettings>): void {
    this.#settings = { ...defaultSettings, ...settings };
  }

  /** Those who stay keep what is known of them. */
  setServers(servers: readonly ControlledServer[]): void {
    this.#servers = servers;
    const fresh = (): Track => ({
      report: undefined,
      atMs: 0,
      smoothed: undefined,
      factor: 1,
      because: 'no report yet',
    });
    this.#tracks = new Map(servers.map(({ key }) => [key, this.#tracks.get(key) ?? fresh()]));
  }

  report(key: string, report: LoadReport, nowMs: number): void {
    const track = this.#tracks.get(key);
    if (track === undefined) return;
    if (report.load !== undefined) {
      // The weight of the old value halves with each half-life that has passed.
      const keep = track.smoothed === undefined ? 0 : 2 ** (-(nowMs - track.atMs) / this.#settings.halfLifeMs);
      track.smoothed = (track.smoothed ?? 0) * keep + report.load * (1 - keep);
    }
    track.report = report;
    track.atMs = nowMs;
  }

  /** One step; to be called about once a second. */
  step(nowMs: number): readonly Reason[] {
    const seconds = this.#lastMs === undefined ? 0 : Math.min(5, (nowMs - this.#lastMs) / 1000);
    this.#lastMs = nowMs;
    const fresh = [...this.#tracks.values()].filter((track) => this.#isFresh(track, nowMs));
    const loads = fresh.filter(({ report }) => report?.load !== undefined).map(({ smoothed }) => smoothed ?? 0);
    const mean = loads.length > 0 ? loads.reduce((sum, load) => sum + load, 0) / loads.length : undefined;
    for (const track of this.#tracks.values()) this.#move(track, mean, loads.length, seconds, nowMs);
    this.#recentre(seconds);
    this.#reasons = this.#servers.map((server) => this.#reason(server, mean, fresh.length > 0, nowMs));
    return this.#reasons;
  }

  explain(key: string): Reason | undefined {
    return this.#reasons.find((reason) => reason.key === key);
  }

  #isFresh({ report, atMs }: Track, nowMs: number): boolean {
    return report !== undefined && nowMs - atMs <= this.#settings.staleMs;
  }

  #move(track: Track, mean: number | undefined, comparable: number, seconds: number, nowMs: number): void {
    const { gainPerSecond, deadBand, movesWeights } = this.#settings;
    const { report, smoothed } = track;
    if (!this.#isFresh(track, nowMs)) {
      track.because = report === undefined ? 'no report yet' : 'silent: going back to the configured weight';
      if (report !== undefined) track.smoothed = undefined;
      this.#approach(track, 1, seconds);
    } else if (report?.weightPercent !== undefined) {
      track.because = `the agent asks for ${report.weightPercent}%`;
      this.#approach(track, report.weightPercent / 100, seconds);
    } else if (!movesWeights) {
      track.because = 'its scheduler goes by the load itself';
      this.#approach(track, 1, seconds);
    } else if (report?.load === undefined || smoothed === undefined || mean === undefined || comparable < 2) {
      track.because = 'nothing to compare with';
      this.#approach(track, 1, seconds);
    } else if (Math.abs(mean - smoothed) <= deadBand) {
      track.because = 'as loaded as the others';
    } else {
      const lighter = smoothed < mean;
      track.because = lighter ? 'lighter than the others: more work' : 'busier than the others: less work';
      this.#approach(track, track.factor * (1 + (mean - smoothed) * gainPerSecond * Math.max(seconds, 0)), seconds);
    }
  }

  /** Towards `target`, by no more than a step may be, and never out of bounds. */
  #approach(track: Track, target: number, seconds: number): void {
    const { mostPerSecond, minimumFactor, maximumFactor } = this.#settings;
    const most = 1 + mostPerSecond * seconds;
    const step = Math.min(track.factor * most, Math.max(track.factor / most, target));
    const bounded = Math.min(maximumFactor, Math.max(minimumFactor, step));
    if (bounded !== step)
      track.because += bounded === minimumFactor ? ' (at the lower bound)' : ' (at the upper bound)';
    track.factor = bounded;
  }

  /** Only ratios matter to a scheduler, so the weighted mean of those that load moves is kept at 1. */
  #recentre(seconds: number): void {
    if (seconds === 0) return;
    const moved = this.#servers.filter(({ key }) => this.#tracks.get(key)?.report?.load !== undefined);
    const total = moved.reduce((sum, { configuredWeight }) => sum + configuredWeight, 0);
    if (total === 0) return;
    const sum = moved.reduce(
      (all, { key, configuredWeight }) => all + this.#tracks.get(key)!.factor * configuredWeight,
      0,
    );
    const { minimumFactor, maximumFactor } = this.#settings;
    for (const { key } of moved) {
      const track = this.#tracks.get(key)!;
      track.factor = Math.min(maximumFactor, Math.max(minimumFactor, (track.factor * total) / sum));
    }
  }

  #reason(
    { key, configuredWeight }: ControlledServer,
    meanLoad: number | undefined,
    anyFresh: boolean,
    nowMs: number,
  ): Reason {
    const track = this.#tracks.get(key)!;
    const stale = !this.#isFresh(track, nowMs);
    const base = {
      key,
      configuredWeight,
      report: track.report,
      maxConnections: stale ? undefined : track.report?.maxConnections,
      ageMs: track.report && nowMs - track.atMs,
      stale,
      smoothedLoad: track.smoothed,
      meanLoad,
      factor: track.factor,
    };
    const state = stale ? undefined : track.report?.state;
    if (state === 'drain' || state === 'maint' || state === 'down') {
      return { ...base, weight: 0, because: `the agent says ${state}` };
    }
    const mayMove = anyFresh && (this.#settings.movesWeights || this.#isAskedFor());
    const settled = !mayMove && [...this.#tracks.values()].every(({ factor }) => Math.abs(factor - 1) < 0.01);
    if (settled) return { ...base, weight: undefined, because: track.because };
    return { ...base, weight: this.#weight(configuredWeight, track, stale), because: track.because };
  }

  /** A weight of 0 is the operator's word and stays; everyone else keeps at least 1. */
  #weight(configured: number, { factor, report }: Track, stale: boolean): number {
    if (configured === 0) return 0;
    const scale = this.#scale();
    const base = (!stale && report?.weight !== undefined ? report.weight : configured) * scale;
    return base === 0 ? 0 : Math.max(1, Math.round(base * factor));
  }

  #scale(): number {
    return weightScale(this.#servers.map(({ configuredWeight }) => configuredWeight));
  }

  /** Whether some agent asks for a weight, rather than telling its load. */
  #isAskedFor(): boolean {
    return [...this.#tracks.values()].some(
      ({ report }) => report?.weight !== undefined || report?.weightPercent !== undefined,
    );
  }
}
