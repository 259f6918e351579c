/**
 * The door to a director, whichever plane carries it: pinned eBPF maps in the kernel, the same data plane in Node, or
 * plain memory. ipvsadm, keepalived, the API and the daemon know nothing else.
 */
import type { Address } from './address.ts';
import type { Command } from './command.ts';
import type { DirectorError } from './errors.ts';
import type {
  ConnectionEntry,
  EndPoint,
  Rates,
  RealServer,
  ServiceId,
  Stats,
  SyncDaemon,
  Timeouts,
  VirtualService,
} from './model.ts';
import type { ServiceTable } from './service-table.ts';

export interface Director {
  /** Carries out one command, or throws the DirectorError that says why not. */
  execute(command: Command): void;

  /**
   * Carries out many as one piece of work and answers each with its error or undefined. Without `atomic` a refused
   * command is passed over; with it, one refusal and nothing at all has happened.
   */
  executeAll(
    commands: readonly Command[],
    options: { readonly atomic: boolean },
  ): readonly (DirectorError | undefined)[];

  /** Services with their real servers and live figures, and the settings beside them, as of now. */
  table(): ServiceTable;
  service(id: ServiceId): VirtualService | undefined;

  /** One at a time: a hundred thousand connections are never held at once. */
  connections(): Iterable<ConnectionEntry>;

  timeouts(): Timeouts;
  daemons(): readonly SyncDaemon[];
  sysctls(): ReadonlyMap<string, string>;

  /**
   * How loaded the hosts of a service's real servers are (0 idle, 1 fully used), for the scheduler `ll`; to be told about once a
   * second. Whoever is missing has not reported.
   */
  reportLoads(id: ServiceId, byAddress: ReadonlyMap<Address, number>): void;

  /** What `ll` goes by, for each real server of the service in its order; undefined where nobody reports. */
  loads(id: ServiceId): readonly EstimatedLoad[] | undefined;

  /**
   * Which real server the service's scheduler would choose now for a client without connection and persistence. Undefined where it
   * is none, and where that cannot be known: by a scheduler of an operator's own.
   */
  choice(id: ServiceId, client: EndPoint, virtual: EndPoint): RealServer | undefined;

  /** Buckets of the connection table, which every listing states in its first line. */
  readonly connectionTableSize: number;
  totals(): Totals;
}

/** A load as the scheduler `ll` sees it, 1 is fully used. */
export interface EstimatedLoad {
  /** Undefined: it has not reported, and counts as the others together. */
  readonly reported: number | undefined;
  /** Connections opened since; of one that has not reported, all that are active. */
  readonly since: number;
  readonly estimate: number;
}

/** The counters of the whole director; `perCpu` in CPU order. */
export interface Totals {
  readonly stats: Stats;
  readonly rates: Rates;
  readonly perCpu: readonly Stats[];
}
