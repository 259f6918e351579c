/**
 * The daemon without its process: a configuration in, checks running, the director kept as their results say. A reload
 * is a start with a memory: checks that are the same run on undisturbed, and the table is changed only where it differs.
 */
import { type Command, type Director, realServerKey, type ServiceId } from '@ipvsd/director';
import type { CheckListener, CheckRun } from '../checkers/check-run.ts';
import type { ProbeResult } from '../checkers/probe.ts';
import type { Sockets } from '../checkers/sockets.ts';
import type { Timer, Timers } from '../checkers/timers.ts';
import { checkKey } from '../health/check-key.ts';
import { type ByLoad, type Drain, type Effect, type ServerHealth, ServiceHealth } from '../health/service-health.ts';
import type { Configuration, VirtualServer } from '../model/configuration.ts';
import { commandsFor, commandsToDelete, serviceKeys } from '../reconcile.ts';
import { Checks } from './checks.ts';
import { carryOut, type Log } from './effects.ts';
import { withoutInsecureChecks } from './script-security.ts';

export interface DaemonOptions {
  readonly director: Pick<Director, 'service' | 'executeAll' | 'timeouts' | 'daemons'>;
  readonly sockets: Sockets;
  readonly timers: Timers;
  readonly log: Log;
  readonly random?: () => number;
  /** Whether an address is on this host, for ha_suspend. */
  readonly hasAddress?: (address: string) => boolean;
}

const RISE_MS = 1000;

export interface ServerReport extends ServerHealth {
  readonly service: VirtualServer;
  readonly checks: readonly { readonly kind: string; readonly up: boolean; readonly hasRun: boolean }[];
}

export class Daemon {
  readonly #options: DaemonOptions;
  readonly #checks: Checks;
  readonly #listener: CheckListener;
  #healths = new Map<string, ServiceHealth>();
  #configuration: Configuration | undefined;
  readonly #rising = new Set<ServiceHealth>();
  #riseTimer: Timer | undefined;
  /** Those whose place in the table has yet to be changed. */
  readonly #waiting = new Set<ServiceHealth>();
  /** And what is said when that is done. */
  readonly #effects: Effect[] = [];
  #placeTimer: Timer | undefined;

  constructor(options: DaemonOptions) {
    this.#options = options;
    this.#checks = new Checks(options, options.random ?? Math.random);
    this.#listener = {
      changed: (run, change, result) => this.#changed(run, change, result),
      weighed: (run, delta) => this.#weighed(run, delta),
      failed: (run, result) => this.#failed(run, result),
    };
  }

  get checkCount(): number {
    return this.#checks.size;
  }

  /** The first configuration, or another in place of the one before. */
  configure(given: Configuration): void {
    const configuration = withoutInsecureChecks(given, this.#options.log);
    this.#placeWaiting();
    const before = this.#healths;
    const isFirst = this.#configuration === undefined;
    this.#configuration = configuration;
    if (isFirst && configuration.global.flushAtStart) this.#execute([{ kind: 'flush' }]);
    const isUp = (key: string): boolean | undefined => this.#checks.isUp(key);
    this.#healths = new Map(
      configuration.virtualServers.map((server) => {
        const identity = identityOf(server);
        return [identity, new ServiceHealth(server, isUp, before.get(identity), this.#now())];
      }),
    );
    this.#checks.change(configuration.virtualServers, this.#listener);
    const gone = [...before].filter(([identity]) => !this.#healths.has(identity)).map(([, health]) => health);
    this.#say(gone.flatMap((health) => health.stop()));
    this.#deleteServices(serviceKeys(before.values()));
    this.#execute(this.#settingCommands());
    for (const [identity, health] of this.#healths) {
      this.#inheritWeights(health);
      this.#say(before.has(identity) ? health.settle() : health.start(configuration.global.initNotifies));
    }
    this.#place([...this.#healths.values()]);
    this.resume();
  }

  /** Checks rest while the address of their ha_suspend service is elsewhere; to be called when addresses change. */
  resume(): void {
    const { hasAddress } = this.#options;
    this.#checks.resume(({ haSuspend, services }) => {
      if (!haSuspend || hasAddress === undefined) return false;
      return !services.some((id) => id.kind === 'address' && hasAddress(id.address));
    });
  }

  /** `leave`: the services stay as they are, for the next daemon or for none. */
  stop({ leave = false }: { readonly leave?: boolean } = {}): void {
    this.#checks.stop();
    this.#riseTimer?.cancel();
    this.#placeWaiting();
    this.#say([...this.#healths.values()].flatMap((health) => health.stop()));
    const mode = this.#configuration?.global.flushAtStop;
    if (!leave) {
      const running = this.#configuration?.global.syncDaemon ? this.#options.director.daemons() : [];
      this.#execute(running.map(({ role }) => ({ kind: 'stopDaemon', role })));
      if (mode === 'all') this.#execute([{ kind: 'flush' }]);
      else this.#execute(commandsToDelete(serviceKeys(this.#healths.values()).values(), this.#options.director));
    }
    this.#healths.clear();
  }

  /** Real servers at an address, of one port or of any; says which of them there are. */
  setDrain(address: string, port: number | undefined, drain: Drain): ServerReport[] {
    const found = this.servers().filter(({ server }) => isAt(server, address, port));
    for (const { service, server } of found) {
      const health = this.#healths.get(identityOf(service))!;
      health.setDrain(realServerKey(server), drain, this.#now());
      this.#place([health]);
    }
    return found;
  }

  /** What load asks for, by real server; undefined gives back what is configured. */
  setLoads(service: VirtualServer, loads: ReadonlyMap<string, ByLoad | undefined>): void {
    const health = this.#healths.get(identityOf(service));
    if (health === undefined) return;
    const changed = [...loads].filter(([key, load]) => health.setLoad(key, load));
    if (changed.length > 0) this.#placeSoon(health, []);
  }

  services(): VirtualServer[] {
    return [...this.#healths.values()].map(({ virtualServer }) => virtualServer);
  }

  servers(): ServerReport[] {
    return [...this.#healths.values()].flatMap((health) =>
      health.servers().map((server) => ({
        ...server,
        service: health.virtualServer,
        checks: server.server.checks.map((check) => {
          const state = this.#checks.run(checkKey(check))?.state;
          return { kind: check.kind, up: state?.up ?? true, hasRun: state?.hasRun ?? false };
        }),
      })),
    );
  }

  /** What `configure` would do to the table, without doing it. */
  plan(given: Configuration): Command[] {
    const { virtualServers } = withoutInsecureChecks(given, this.#options.log);
    const isUp = (key: string): boolean | undefined => this.#checks.isUp(key);
    const planned = virtualServers.map((server) => {
      const health = new ServiceHealth(server, isUp, this.#healths.get(identityOf(server)), this.#now());
      this.#inheritWeights(health);
      health.settle();
      return health;
    });
    const now = serviceKeys(planned);
    const gone = [...serviceKeys(this.#healths.values())].filter(([key]) => !now.has(key)).map(([, id]) => id);
    const { director } = this.#options;
    return [
      ...commandsToDelete(gone, director),
      ...planned.flatMap((health) => commandsFor(health, director, this.#now())),
    ];
  }

  #changed(run: CheckRun, change: 'up' | 'down', { reason }: ProbeResult): void {
    const { log } = this.#options;
    for (const health of this.#healthsOf(run)) {
      for (const server of health.serversOf(run.key)) {
        if (change === 'up') log.info(successText(run, server.name, reason));
        else
          log.warn(
            `${run.check.kind} on service ${server.name} failed after ${run.check.timing.retry} retries: ${reason}`,
          );
      }
      const effects = health.report(run.key, change, this.#now());
      if (effects.length > 0) this.#placeSoon(health, effects);
    }
  }

  #weighed(run: CheckRun, delta: number): void {
    for (const health of this.#healthsOf(run)) {
      const effects = health.reportWeight(run.key, delta);
      if (effects.length > 0) this.#placeSoon(health, effects);
    }
  }

  #failed({ check, state }: CheckRun, { reason }: ProbeResult): void {
    if (check.logAllFailures && state.up) this.#options.log.warn(`${check.kind} failed, will try again: ${reason}`);
  }

  #healthsOf(run: CheckRun): ServiceHealth[] {
    return this.#checks.listeners(run.key).flatMap((server) => this.#healths.get(identityOf(server)) ?? []);
  }

  /** A real server that joins a check which has spoken already takes its word. */
  #inheritWeights(health: ServiceHealth): void {
    for (const check of health.virtualServer.realServers.flatMap(({ checks }) => checks)) {
      const delta = this.#checks.run(checkKey(check))?.weightDelta;
      if (delta !== undefined) health.reportWeight(checkKey(check), delta);
    }
  }

  /** One piece of work for the director, however many services. */
  #place(healths: readonly ServiceHealth[]): void {
    const now = this.#now();
    for (const health of healths) {
      this.#waiting.delete(health);
      if (health.isRising(now)) this.#riseLater(health);
    }
    this.#execute(healths.flatMap((health) => commandsFor(health, this.#options.director, now)));
  }

  /**
   * What checks find comes in crowds: a thousand real servers that fail are a few changes of the table, not a thousand,
   * each of which would read and write all that are left. Who is notified finds the table changed.
   */
  #placeSoon(health: ServiceHealth, effects: readonly Effect[]): void {
    this.#waiting.add(health);
    this.#effects.push(...effects);
    this.#placeTimer ??= this.#options.timers.after(0, () => this.#placeWaiting());
  }

  #placeWaiting(): void {
    this.#placeTimer?.cancel();
    this.#placeTimer = undefined;
    this.#placeCurrent(this.#waiting);
    this.#say(this.#effects.splice(0));
  }

  /** Weights of real servers that come back slowly rise once a second. */
  #riseLater(health: ServiceHealth): void {
    this.#rising.add(health);
    this.#riseTimer ??= this.#options.timers.after(RISE_MS, () => {
      this.#riseTimer = undefined;
      this.#placeCurrent(this.#rising);
    });
  }

  /** Those of before a reload have nothing to say any more. */
  #placeCurrent(healths: Set<ServiceHealth>): void {
    const current = [...healths].filter((health) => this.#healths.get(identityOf(health.virtualServer)) === health);
    healths.clear();
    this.#place(current);
  }

  #now(): number {
    return this.#options.timers.now();
  }

  #deleteServices(before: ReadonlyMap<string, ServiceId>): void {
    const now = serviceKeys(this.#healths.values());
    const gone = [...before].filter(([key]) => !now.has(key)).map(([, id]) => id);
    this.#execute(commandsToDelete(gone, this.#options.director));
  }

  #settingCommands(): Command[] {
    const { timeouts, syncDaemon } = this.#configuration!.global;
    const commands: Command[] = timeouts ? [{ kind: 'setTimeouts', timeouts }] : [];
    if (syncDaemon) {
      const running = new Set(this.#options.director.daemons().map(({ role }) => role));
      for (const role of ['master', 'backup'] as const) {
        if (!running.has(role)) commands.push({ kind: 'startDaemon', daemon: { ...syncDaemon, role } });
      }
    }
    return commands;
  }

  #say(effects: readonly Effect[]): void {
    if (effects.length > 0) carryOut(effects, this.#configuration!.global, this.#options);
  }

  #execute(commands: readonly Command[]): void {
    if (commands.length === 0) return;
    for (const error of this.#options.director.executeAll(commands, { atomic: false })) {
      if (error) this.#options.log.error(error.message);
    }
  }
}

/** By what keepalived knows a virtual server again after a reload: address, port and protocol, mark, or group. */
function identityOf({ name, services: [id] }: VirtualServer): string {
  return `${name} ${id?.family} ${id?.kind === 'address' ? id.protocol : ''}`;
}

function isAt(server: { address: string; port: number }, address: string, port: number | undefined): boolean {
  return server.address === address && (port === undefined || server.port === port);
}

function successText({ check }: CheckRun, name: string, reason: string): string {
  if (check.kind === 'TCP_CHECK') return `TCP connection to ${name} success.`;
  return `${check.kind} on service ${name} success: ${reason}.`;
}
