/**
 * The loop around sources and controllers: each real server's host is asked once per period, whatever the number of
 * services it is in, and each service's controller makes its step.
 */
import { Controller, type ControllerSettings, type Reason } from './controller.ts';
import type { Source } from './report.ts';

export interface FeedbackServer {
  readonly key: string;
  readonly address: string;
  readonly configuredWeight: number;
}

export interface FeedbackService {
  readonly key: string;
  readonly servers: readonly FeedbackServer[];
}

export interface FeedbackOptions {
  readonly source: Source;
  readonly settings?: Partial<ControllerSettings>;
  readonly now: () => number;
  /** The outcome of a step, for one service: undefined gives a configured weight back. */
  readonly apply: (service: string, weights: ReadonlyMap<string, number | undefined>) => void;
  readonly complain?: (address: string, error: Error) => void;
}

export class Feedback {
  readonly #options: FeedbackOptions;
  #controllers = new Map<string, Controller>();
  #services: readonly FeedbackService[] = [];
  readonly #asking = new Set<string>();
  readonly #silent = new Set<string>();

  constructor(options: FeedbackOptions) {
    this.#options = options;
  }

  /** After a reload too: controllers of services that stay keep what they know. */
  setServices(services: readonly FeedbackService[]): void {
    this.#services = services;
    this.#controllers = new Map(
      services.map(({ key, servers }) => {
        const controller = this.#controllers.get(key) ?? new Controller(this.#options.settings);
        controller.setServers(servers);
        return [key, controller];
      }),
    );
  }

  /** Asks everybody and makes a step with what is known so far; answers count in the next one. */
  turn(): Promise<void> {
    const asked = this.#ask();
    for (const { key } of this.#services) {
      const reasons = this.#controllers.get(key)?.step(this.#options.now()) ?? [];
      this.#options.apply(key, new Map(reasons.map((reason) => [reason.key, reason.weight])));
    }
    return asked;
  }

  explain(service: string, server: string): Reason | undefined {
    return this.#controllers.get(service)?.explain(server);
  }

  async #ask(): Promise<void> {
    const addresses = new Set(this.#services.flatMap(({ servers }) => servers.map(({ address }) => address)));
    await Promise.all(
      [...addresses].filter((address) => !this.#asking.has(address)).map((address) => this.#askOne(address)),
    );
  }

  async #askOne(address: string): Promise<void> {
    const { source, now, complain } = this.#options;
    this.#asking.add(address);
    try {
      const report = await source.ask(address);
      this.#silent.delete(address);
      for (const { key, servers } of this.#services) {
        for (const server of servers) {
          if (server.address === address) this.#controllers.get(key)?.report(server.key, report, now());
        }
      }
    } catch (error) {
      // Once per silence: an agent that is down is down every second.
      if (!this.#silent.has(address)) complain?.(address, error instanceof Error ? error : new Error(String(error)));
      this.#silent.add(address);
    } finally {
      this.#asking.delete(address);
    }
  }
}

/** A weight and all that went into it, for people. */
export function describeReason(reason: Reason): string {
  const { configuredWeight, weight, report, ageMs, stale, smoothedLoad, meanLoad, factor, because } = reason;
  const number = (value: number): string => value.toFixed(2);
  const lines = [
    `weight ${weight ?? configuredWeight}: ${because}`,
    `configured ${configuredWeight}, factor ${number(factor)}`,
  ];
  if (report === undefined || ageMs === undefined) lines.push('it has not reported');
  else {
    const said = report.load === undefined ? 'no load' : `load ${number(report.load)}`;
    const { detail } = report;
    lines.push(
      `reported ${said} ${number(ageMs / 1000)} s ago${stale ? ' (too old to count)' : ''}${detail ? `: ${detail}` : ''}`,
    );
  }
  if (smoothedLoad !== undefined && meanLoad !== undefined) {
    lines.push(`smoothed load ${number(smoothedLoad)}, mean of all ${number(meanLoad)}`);
  }
  return lines.join('\n');
}
