/** The checks that run, each once however many real servers of however many services it speaks for. */
import { type CheckListener, CheckRun } from '../checkers/check-run.ts';
import type { ProbeTools } from '../checkers/probe.ts';
import { checkKey } from '../health/check-key.ts';
import type { Check, VirtualServer } from '../model/configuration.ts';

export class Checks {
  readonly #tools: ProbeTools;
  readonly #random: () => number;
  readonly #runs = new Map<string, CheckRun>();
  /** By check: the virtual servers that listen. */
  readonly #listeners = new Map<string, Set<VirtualServer>>();

  constructor(tools: ProbeTools, random: () => number) {
    this.#tools = tools;
    this.#random = random;
  }

  get size(): number {
    return this.#runs.size;
  }

  run(key: string): CheckRun | undefined {
    return this.#runs.get(key);
  }

  /** Up or down where a check is known; undefined for one that has yet to be made. */
  isUp(key: string): boolean | undefined {
    return this.#runs.get(key)?.state.up;
  }

  /** Ends checks that nobody asks for any more, makes those that are new, and leaves the others running as they are. */
  change(virtualServers: readonly VirtualServer[], listener: CheckListener): void {
    const wanted = new Map<string, Check>();
    this.#listeners.clear();
    for (const virtualServer of virtualServers) {
      for (const check of virtualServer.realServers.flatMap(({ checks }) => checks)) {
        const key = checkKey(check);
        wanted.set(key, check);
        const listeners = this.#listeners.get(key) ?? new Set();
        this.#listeners.set(key, listeners.add(virtualServer));
      }
    }
    for (const [key, run] of this.#runs) {
      if (wanted.has(key)) continue;
      run.suspend();
      this.#runs.delete(key);
    }
    for (const [key, check] of wanted) {
      if (!this.#runs.has(key)) this.#runs.set(key, new CheckRun(key, check, this.#tools, listener));
    }
  }

  listeners(key: string): readonly VirtualServer[] {
    return [...(this.#listeners.get(key) ?? [])];
  }

  /** A check rests while all who listen to it are suspended. */
  resume(isSuspended: (virtualServer: VirtualServer) => boolean): void {
    for (const [key, run] of this.#runs) {
      if (this.listeners(key).every(isSuspended)) run.suspend();
      else run.start(this.#random);
    }
  }

  stop(): void {
    for (const run of this.#runs.values()) run.suspend();
  }
}
