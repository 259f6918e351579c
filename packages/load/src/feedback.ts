/**
 * The loop around sources and controllers: each real server's host is asked once per turn and source, whatever the number
 * of services it is in, and the controller of each service whose turn it is makes its step.
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
  /** Whom to ask, as `openSource` knows it: `agent:3333`. */
  readonly source: string;
  /** Between two questions. */
  readonly everyMs: number;
  readonly settings?: Partial<ControllerSettings>;
}

export interface FeedbackOptions {
  readonly openSource: (source: string) => Source;
  readonly now: () => number;
  /** The outcome of a step, for one service: an undefined weight gives the configured one back. */
  readonly apply: (service: string, reasons: readonly Reason[]) => void;
  readonly complain?: (address: string, error: Error) => void;
}

/** Turns come about once a second; one that is due within this is due now. */
const SLACK_MS = 500;

export class Feedback {
  readonly #options: FeedbackOptions;
  #controllers = new Map<string, Controller>();
  #services: readonly FeedbackService[] = [];
  readonly #sources = new Map<string, Source>();
  /** By service: when its turn was. */
  readonly #turns = new Map<string, number>();
  readonly #asking = new Set<string>();
  readonly #silent = new Set<string>();

  constructor(options: FeedbackOptions) {
    this.#options = options;
  }

  /** After a reload too: controllers of services that stay keep what they know. */
  setServices(services: readonly FeedbackService[]): void {
    this.#services = services;
    this.#controllers = new Map(
      services.map(({ key, servers, settings = {} }) => {
        const controller = this.#controllers.get(key) ?? new Controller();
        controller.changeSettings(settings);
        controller.setServers(servers);
        return [key, controller];
      }),
    );
    for (const key of this.#turns.keys()) if (!this.#controllers.has(key)) this.#turns.delete(key);
  }

  /**
   * To be called once a second. Asks for those whose turn it is, and makes a step with what is known so far; answers count
   * in the next one.
   */
  turn(): Promise<void> {
    const now = this.#options.now();
    const due = this.#services.filter(
      ({ key, everyMs }) => now - (this.#turns.get(key) ?? Number.NEGATIVE_INFINITY) >= everyMs - SLACK_MS,
    );
    const asked = this.#ask(due);
    for (const { key } of due) {
      this.#turns.set(key, now);
      this.#options.apply(key, this.#controllers.get(key)?.step(now) ?? []);
    }
    return asked;
  }

  explain(service: string, server: string): Reason | undefined {
    return this.#controllers.get(service)?.explain(server);
  }

  async #ask(due: readonly FeedbackService[]): Promise<void> {
    const questions = new Map<string, Question>();
    for (const { key, servers, source } of due) {
      for (const { key: server, address } of servers) {
        const question = questions.get(`${source} ${address}`) ?? { source, address, asking: [] };
        question.asking.push({ service: key, server });
        questions.set(`${source} ${address}`, question);
      }
    }
    await Promise.all(
      [...questions].filter(([key]) => !this.#asking.has(key)).map(([key, question]) => this.#askOne(key, question)),
    );
  }

  async #askOne(key: string, { source, address, asking }: Question): Promise<void> {
    const { now, complain } = this.#options;
    this.#asking.add(key);
    try {
      const report = await this.#source(source).ask(address);
      this.#silent.delete(key);
      for (const { service, server } of asking) this.#controllers.get(service)?.report(server, report, now());
    } catch (error) {
      // Once per silence: an agent that is down is down every second.
      if (!this.#silent.has(key)) complain?.(address, error instanceof Error ? error : new Error(String(error)));
      this.#silent.add(key);
    } finally {
      this.#asking.delete(key);
    }
  }

  /** Sources remember what they were told last, so each is opened once. */
  #source(name: string): Source {
    const source = this.#sources.get(name) ?? this.#options.openSource(name);
    this.#sources.set(name, source);
    return source;
  }
}

interface Question {
  readonly source: string;
  readonly address: string;
  readonly asking: { readonly service: string; readonly server: string }[];
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
  if (reason.maxConnections !== undefined) lines.push(`takes ${reason.maxConnections} connections at most, as it says`);
  if (smoothedLoad !== undefined && meanLoad !== undefined) {
    lines.push(`smoothed load ${number(smoothedLoad)}, mean of all ${number(meanLoad)}`);
  }
  return lines.join('\n');
}
