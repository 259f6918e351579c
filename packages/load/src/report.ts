/** What a real server says about its load, whoever asked and however. */

export interface LoadReport {
  /** 0 idle, 1 fully used, above 1 with work waiting. */
  readonly load?: number;
  /** Of the configured weight, in percent: the agent has made up its mind itself. */
  readonly weightPercent?: number;
  /** In place of the configured weight. */
  readonly weight?: number;
  readonly maxConnections?: number;
  /** `drain`: no new connections; `maint` and `down`: none at all. */
  readonly state?: 'ready' | 'drain' | 'maint' | 'up' | 'down';
  /** What it said besides, for people: `cpu 0.4, run queue 2`. */
  readonly detail?: string;
}

export interface Source {
  /** One question. Rejects where there is no answer, or none that can be read. */
  ask(address: string): Promise<LoadReport>;
}
