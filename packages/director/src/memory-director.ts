/**
 * A director without a data plane: it keeps the table and schedules nothing. Tests and dry runs need no more.
 */
import type { Command } from './command.ts';
import type { Director, Totals } from './director.ts';
import { createEnvironment, type Environment } from './environment.ts';
import type { DirectorError } from './errors.ts';
import {
  type ConnectionEntry,
  noFigures,
  type ServiceId,
  type SyncDaemon,
  serviceKey,
  type Timeouts,
  type VirtualService,
} from './model.ts';
import { emptyTable, type ServiceTable, TableDraft } from './service-table.ts';

export interface MemoryDirectorOptions {
  readonly environment?: Environment;
  readonly table?: ServiceTable;
  readonly connections?: Iterable<ConnectionEntry>;
  readonly totals?: Totals;
  readonly connectionTableSize?: number;
}

export class MemoryDirector implements Director {
  readonly connectionTableSize: number;
  readonly #environment: Environment;
  readonly #connections: Iterable<ConnectionEntry>;
  readonly #totals: Totals;
  #table: ServiceTable;

  constructor(options: MemoryDirectorOptions = {}) {
    this.connectionTableSize = options.connectionTableSize ?? 4096;
    this.#environment = options.environment ?? createEnvironment();
    this.#connections = options.connections ?? [];
    this.#totals = options.totals ?? { stats: noFigures, rates: noFigures, perCpu: [noFigures] };
    this.#table = options.table ?? emptyTable();
  }

  execute(command: Command): void {
    const [error] = this.executeAll([command], { atomic: true });
    if (error) throw error;
  }

  executeAll(commands: readonly Command[], { atomic }: { readonly atomic: boolean }): (DirectorError | undefined)[] {
    const draft = new TableDraft(this.#table, this.#environment);
    const errors = commands.map((command) => draft.apply(command));
    if (!atomic || errors.every((error) => error === undefined)) this.#table = draft.finish();
    return errors;
  }

  table(): ServiceTable {
    return this.#table;
  }

  service(id: ServiceId): VirtualService | undefined {
    return this.#table.services.get(serviceKey(id));
  }

  /** Without a data plane nobody schedules by it. */
  reportLoads(): void {}

  loads(): undefined {}
  choice(): undefined {}

  connections(): Iterable<ConnectionEntry> {
    return this.#connections;
  }

  timeouts(): Timeouts {
    return this.#table.timeouts;
  }

  daemons(): readonly SyncDaemon[] {
    return this.#table.daemons;
  }

  sysctls(): ReadonlyMap<string, string> {
    return this.#table.sysctls;
  }

  totals(): Totals {
    return this.#totals;
  }
}
