/** Load feedback as part of the daemon: asks for the services that want it, and hands what comes of it to daemon and director. */
import { type Director, realServerKey, serviceKey } from '@ipvsd/director';
import type { Daemon, Log, VirtualServer } from '@ipvsd/keepalived';
import { describeReason, Feedback, type Reason, type Source } from '@ipvsd/load';

export interface LoadFeedbackTools {
  readonly daemon: Pick<Daemon, 'services' | 'setLoads'>;
  readonly director: Pick<Director, 'reportLoads'>;
  readonly log: Pick<Log, 'info' | 'warn'>;
  readonly openSource: (name: string) => Source;
  readonly now: () => number;
}

/** The scheduler that goes by loads instead of weights. */
const LEAST_LOAD = 'll';

export class LoadFeedback {
  readonly #tools: LoadFeedbackTools;
  readonly #feedback: Feedback;
  /** Those that want it, by key. */
  #services = new Map<string, VirtualServer>();

  constructor(tools: LoadFeedbackTools) {
    this.#tools = tools;
    this.#feedback = new Feedback({
      openSource: tools.openSource,
      now: tools.now,
      complain: (address, error) => tools.log.warn(`Cannot ask ${address} for its load: ${error.message}`),
      apply: (key, reasons) => this.#apply(key, reasons),
    });
  }

  /** After a reload: services that no longer want it get their configured weights back. */
  follow(): void {
    const before = this.#services;
    const wanting = this.#tools.daemon.services().filter(({ load }) => load !== undefined);
    this.#services = new Map(wanting.map((service) => [keyOf(service), service]));
    this.#feedback.setServices(wanting.map(feedbackService));
    for (const service of this.#tools.daemon.services()) {
      if (!before.has(keyOf(service)) || this.#services.has(keyOf(service))) continue;
      const configured = service.realServers.map((server) => [realServerKey(server), undefined] as const);
      this.#tools.daemon.setLoads(service, new Map(configured));
    }
  }

  /** To be called once a second. */
  turn(): Promise<void> {
    return this.#feedback.turn();
  }

  explain(service: VirtualServer, server: string): string | undefined {
    const reason = this.#feedback.explain(keyOf(service), server);
    return reason && describeReason(reason);
  }

  #apply(key: string, reasons: readonly Reason[]): void {
    const service = this.#services.get(key);
    if (service === undefined) return;
    this.#tools.daemon.setLoads(service, new Map(reasons.map((reason) => [reason.key, reason])));
    if (service.settings.scheduler !== LEAST_LOAD) return;
    const addresses = new Map(service.realServers.map((server) => [realServerKey(server), server.address]));
    const loads = reasons.flatMap(({ key: server, smoothedLoad, stale }) => {
      const address = addresses.get(server);
      return stale || smoothedLoad === undefined || address === undefined ? [] : [[address, smoothedLoad] as const];
    });
    for (const id of service.services) this.#tools.director.reportLoads(id, new Map(loads));
  }
}

function feedbackService(service: VirtualServer) {
  const { source, everyMs, settings } = service.load!;
  return {
    key: keyOf(service),
    source,
    everyMs,
    settings: { ...settings, movesWeights: service.settings.scheduler !== LEAST_LOAD },
    servers: service.realServers.map((server) => ({
      key: realServerKey(server),
      address: server.address,
      configuredWeight: server.settings.weight,
    })),
  };
}

function keyOf({ services: [id] }: VirtualServer): string {
  return id ? serviceKey(id) : '';
}
