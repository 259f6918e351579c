/**
 * The health of one virtual server: which of its real servers are alive, whether that makes its quorum, and which of
 * them belong into the table. No clock, no network: results and times come in, effects go out, and `placed()` says what the
 * table should hold.
 */
import { type RealServerSettings, realServerKey } from '@ipvsd/director';
import { weightScale } from '@ipvsd/load';
import type { Destination, RealServer, Script, VirtualServer } from '../model/configuration.ts';
import { checkKey } from './check-key.ts';

export type Effect =
  | { readonly kind: 'log'; readonly level: 'info' | 'warn'; readonly text: string }
  | { readonly kind: 'script'; readonly script: Script; readonly reason: string }
  | { readonly kind: 'fifo'; readonly line: string };

export interface ServerHealth {
  readonly server: RealServer;
  readonly alive: boolean;
  readonly failed: readonly string[];
  /** Configured weight and what checks add to it. */
  readonly weight: number;
  readonly drain: Drain;
  readonly load: ByLoad;
  /** When it came back, where it has not had its whole weight since. */
  readonly returnedMs: number | undefined;
}

/** `draining`: no new connections, the old ones live on. `drained`: gone from the table until it is called back. */
export type Drain = 'no' | 'draining' | 'drained';

/** What the load controller makes of a real server; undefined leaves alone what is configured. */
export interface ByLoad {
  readonly weight: number | undefined;
  readonly maxConnections: number | undefined;
}

const NOT_BY_LOAD: ByLoad = { weight: undefined, maxConnections: undefined };

/** What the table should hold for one destination. */
export interface Placed {
  readonly destination: Destination;
  readonly settings: RealServerSettings;
}

interface ServerState {
  server: RealServer;
  readonly failed: Set<string>;
  /** By check key: what a MISC_CHECK or FILE_CHECK adds to the weight. */
  readonly deltas: Map<string, number>;
  /** Has been in the table, so that inhibit_on_failure has something to keep. */
  placedOnce: boolean;
  drain: Drain;
  load: ByLoad;
  /** When it came back, while its weight still rises (slow start). */
  returnedMs: number | undefined;
}

/** What a real server begins with that comes back slowly: enough to be seen to work. */
const SLOW_START_SHARE = 0.1;

export class ServiceHealth {
  readonly virtualServer: VirtualServer;
  readonly #servers = new Map<string, ServerState>();
  /** By check: whom it speaks for. */
  readonly #byCheck = new Map<string, ServerState[]>();
  #quorumUp: boolean;

  /** `isUp` answers for checks that run already; `previous` is this service before a reload, `nowMs` the time of it. */
  constructor(
    virtualServer: VirtualServer,
    isUp: (key: string) => boolean | undefined = () => undefined,
    previous?: ServiceHealth,
    nowMs = 0,
  ) {
    this.virtualServer = virtualServer;
    for (const server of virtualServer.realServers) {
      const old = previous === undefined ? undefined : previous.#servers.get(realServerKey(server));
      const state: ServerState = {
        server,
        failed: new Set(),
        deltas: new Map(),
        placedOnce: old?.placedOnce ?? false,
        drain: old?.drain ?? 'no',
        load: old?.load ?? NOT_BY_LOAD,
        // What joins others that work already begins as one that comes back.
        returnedMs: previous !== undefined && old === undefined ? nowMs : old?.returnedMs,
      };
      for (const check of server.checks) {
        const key = checkKey(check);
        const others = this.#byCheck.get(key) ?? [];
        this.#byCheck.set(key, others.includes(state) ? others : [...others, state]);
        if (!(isUp(key) ?? !check.alpha)) state.failed.add(key);
        const delta = old?.deltas.get(key);
        if (delta !== undefined) state.deltas.set(key, delta);
      }
      this.#servers.set(realServerKey(server), state);
    }
    const gains = this.#live() >= virtualServer.quorum + virtualServer.hysteresis;
    this.#quorumUp = previous === undefined ? gains : previous.#quorumUp;
    this.#markPlaced();
  }

  get quorumUp(): boolean {
    return this.#quorumUp;
  }

  get sorryInUse(): boolean {
    return this.virtualServer.sorryServer !== undefined && !this.#quorumUp;
  }

  servers(): ServerHealth[] {
    return [...this.#servers.values()].map((state) => ({
      server: state.server,
      alive: isAlive(state),
      failed: [...state.failed],
      weight: weightOf(state),
      drain: state.drain,
      load: state.load,
      returnedMs: state.returnedMs,
    }));
  }

  /** What is said at the start, and the notifications of those that begin dead. */
  start(initNotifies: boolean): Effect[] {
    const { name, sorryServer } = this.virtualServer;
    const effects: Effect[] = [log('info', `Starting with quorum ${this.#quorumUp ? 'up' : 'down'} for VS ${name}`)];
    if (this.sorryInUse) effects.push(log('warn', `Adding sorry server ${sorryServer!.name} to VS ${name}`));
    if (initNotifies) for (const state of this.#servers.values()) effects.push(...this.#notify(state, isAlive(state)));
    return effects;
  }

  /** After a reload: other real servers or another quorum may decide differently. */
  settle(): Effect[] {
    const effects = this.#evaluateQuorum();
    this.#markPlaced();
    return effects;
  }

  /** A check went up or down; every real server it speaks for changes with it. */
  report(key: string, change: 'up' | 'down', nowMs = 0): Effect[] {
    const effects: Effect[] = [];
    for (const state of this.#byCheck.get(key) ?? []) {
      const before = isAlive(state);
      if (change === 'up') state.failed.delete(key);
      else state.failed.add(key);
      if (isAlive(state) === before) continue;
      if (!before) state.returnedMs = nowMs;
      effects.push(...this.#serverChanged(state, !before));
    }
    // The first success of a server that was taken for alive is no news.
    if (effects.length === 0) return effects;
    effects.push(...this.#evaluateQuorum());
    this.#markPlaced();
    return effects;
  }

  reportWeight(key: string, delta: number): Effect[] {
    const effects: Effect[] = [];
    for (const state of this.#byCheck.get(key) ?? []) {
      if ((state.deltas.get(key) ?? 0) === delta) continue;
      const before = weightOf(state);
      state.deltas.set(key, delta);
      effects.push(this.#weightChanged(state, before, weightOf(state)));
    }
    if (effects.length > 0) effects.push(...this.#evaluateQuorum());
    return effects;
  }

  /** Those a check speaks for. */
  serversOf(key: string): RealServer[] {
    return (this.#byCheck.get(key) ?? []).map(({ server }) => server);
  }

  /** False where there is no such real server. */
  setDrain(key: string, drain: Drain, nowMs = 0): boolean {
    const state = this.#servers.get(key);
    if (state === undefined) return false;
    if (state.drain !== 'no' && drain === 'no') state.returnedMs = nowMs;
    state.drain = drain;
    return true;
  }

  /**
   * Load never moves the quorum: a busy server is alive, and counts with the weight that was configured. True where
   * something is another than before.
   */
  setLoad(key: string, load: ByLoad = NOT_BY_LOAD): boolean {
    const state = this.#servers.get(key);
    if (state === undefined) return false;
    const { weight, maxConnections } = state.load;
    if (weight === load.weight && maxConnections === load.maxConnections) return false;
    state.load = { weight: load.weight, maxConnections: load.maxConnections };
    return true;
  }

  /** Ends what is over; true while some weight still rises, so that `placed` will say something else in a moment. */
  isRising(nowMs: number): boolean {
    let rising = false;
    for (const state of this.#servers.values()) {
      if (state.returnedMs === undefined) continue;
      if (nowMs - state.returnedMs < this.#slowStartMs) rising = true;
      else state.returnedMs = undefined;
    }
    return rising;
  }

  /** Oldest first, as they are configured. While the sorry server works the others wait outside. */
  placed(nowMs = 0): Placed[] {
    const found: Placed[] = [];
    const weights = this.#weights(nowMs);
    for (const state of this.#servers.values()) {
      const { server } = state;
      if (state.drain === 'drained') continue;
      const inService = isAlive(state) && !this.sorryInUse;
      if (!inService && !(server.inhibitOnFailure && state.placedOnce)) continue;
      const weight = inService ? (weights.get(state) ?? 0) : 0;
      found.push({ destination: server, settings: { ...limitedSettings(state), weight } });
    }
    const { sorryServer } = this.virtualServer;
    if (sorryServer && (this.sorryInUse || sorryServer.inhibit)) {
      const settings = { ...sorryServer.settings, weight: this.sorryInUse ? sorryServer.settings.weight : 0 };
      found.push({ destination: sorryServer, settings });
    }
    return found;
  }

  /** At the end of the daemon, or of this service: with omega the notifiers hear of it. */
  stop(): Effect[] {
    if (!this.virtualServer.omega) return [];
    const effects = [...this.#servers.values()].filter(isAlive).flatMap((state) => this.#notify(state, false));
    return this.#quorumUp ? [...effects, ...this.#notifyQuorum(false)] : effects;
  }

  /**
   * Weights for the table. While one rises all are multiplied, as the load controller does it too, so that there are steps
   * between a tenth of 1 and 1.
   */
  #weights(nowMs: number): Map<ServerState, number> {
    const states = [...this.#servers.values()];
    const byLoad = states.some(({ load }) => load.weight !== undefined);
    const scale = this.isRising(nowMs) && !byLoad ? weightScale(states.map(weightOf)) : 1;
    return new Map(
      states.map((state) => {
        const whole = (state.load.weight ?? weightOf(state)) * scale;
        const risen = Math.ceil(whole * this.#risen(state, nowMs));
        return [state, state.drain === 'no' ? Math.min(risen, 0x7fffffff) : 0];
      }),
    );
  }

  /** The share of its weight that a real server has. */
  #risen({ returnedMs }: ServerState, nowMs: number): number {
    if (returnedMs === undefined) return 1;
    const share = (nowMs - returnedMs) / this.#slowStartMs;
    return Math.min(1, Math.max(SLOW_START_SHARE, share));
  }

  get #slowStartMs(): number {
    return this.virtualServer.slowStartMs ?? 0;
  }

  #serverChanged(state: ServerState, alive: boolean): Effect[] {
    const { server } = state;
    const { name } = this.virtualServer;
    const verb = server.inhibitOnFailure ? (alive ? 'Enabling' : 'Disabling') : alive ? 'Adding' : 'Removing';
    const preposition = server.inhibitOnFailure ? 'of' : alive ? 'to' : 'from';
    const text = `${verb} service ${server.name} ${preposition} VS ${name}`;
    return [log(alive ? 'info' : 'warn', text), ...this.#notify(state, alive)];
  }

  #notify({ server }: ServerState, alive: boolean): Effect[] {
    const script = alive ? server.notifyUp : server.notifyDown;
    const state = alive ? 'UP' : 'DOWN';
    const line = `RS ${server.name} ${this.virtualServer.name} ${state}`;
    return [...(script ? [{ kind: 'script', script, reason: line } as const] : []), { kind: 'fifo', line }];
  }

  #weightChanged({ server, ...state }: ServerState, before: number, after: number): Effect {
    const activity = state.failed.size === 0 ? 'active' : 'inactive';
    const { name } = this.virtualServer;
    return log(
      'info',
      `Changing weight from ${before} to ${after} for ${activity} service ${server.name} of VS ${name}`,
    );
  }

  #evaluateQuorum(): Effect[] {
    const { quorum, hysteresis, name, sorryServer } = this.virtualServer;
    const live = this.#live();
    if (!this.#quorumUp && live >= quorum + hysteresis) {
      this.#quorumUp = true;
      const effects = [
        log('info', `Gained quorum ${quorum}+${hysteresis}=${quorum + hysteresis} <= ${live} for VS ${name}`),
      ];
      if (sorryServer) {
        const verb = sorryServer.inhibit ? 'Disabling' : 'Removing';
        effects.push(log('info', `${verb} sorry server ${sorryServer.name} from VS ${name}`));
      }
      return [...effects, ...this.#notifyQuorum(true)];
    }
    if (this.#quorumUp && (live === 0 || live < quorum - hysteresis)) {
      this.#quorumUp = false;
      const effects = [
        log('warn', `Lost quorum ${quorum}-${hysteresis}=${quorum - hysteresis} > ${live} for VS ${name}`),
      ];
      if (sorryServer) {
        const verb = sorryServer.inhibit ? 'Enabling' : 'Adding';
        effects.push(log('warn', `${verb} sorry server ${sorryServer.name} to VS ${name}`));
      }
      return [...effects, ...this.#notifyQuorum(false)];
    }
    return [];
  }

  #notifyQuorum(up: boolean): Effect[] {
    const { name, quorumUp, quorumDown } = this.virtualServer;
    const line = `VS ${name} ${up ? 'UP' : 'DOWN'}`;
    const script = up ? quorumUp : quorumDown;
    return [...(script ? [{ kind: 'script', script, reason: line } as const] : []), { kind: 'fifo', line }];
  }

  #live(): number {
    return [...this.#servers.values()].filter(isAlive).reduce((sum, state) => sum + weightOf(state), 0);
  }

  #markPlaced(): void {
    if (this.sorryInUse) return;
    for (const state of this.#servers.values()) if (isAlive(state)) state.placedOnce = true;
  }
}

function isAlive({ failed }: ServerState): boolean {
  return failed.size === 0;
}

/** Never below 0, whatever the checks take away. */
function weightOf({ server, deltas }: ServerState): number {
  return Math.max(
    0,
    [...deltas.values()].reduce((sum, delta) => sum + delta, server.settings.weight),
  );
}

/** What an agent says it takes at most is its upper threshold; it takes more again at three quarters of that. */
function limitedSettings({ server: { settings }, load: { maxConnections } }: ServerState): RealServerSettings {
  if (maxConnections === undefined) return settings;
  return { ...settings, upperThreshold: maxConnections, lowerThreshold: Math.floor((maxConnections * 3) / 4) };
}

function log(level: 'info' | 'warn', text: string): Effect {
  return { kind: 'log', level, text };
}
