/**
 * The director over a plane's maps: reads what they hold, lets the pure half decide, writes what changed.
 *
 * A command touches one service, so one service is read and written, however many there are; what concerns all reads all.
 */
import { randomBytes } from 'node:crypto';
import { bytesOf } from '@ipvsd/bpf';
import {
  bucketsFor,
  Connection,
  connections,
  EngineKey,
  engineData,
  Population,
  population,
  reservedFor,
  Settings,
  settings,
  TICK_NS,
  traffic,
} from '@ipvsd/ipvs';
import { type Address, familyOf } from '../address.ts';
import type { Command } from '../command.ts';
import type { Director, EstimatedLoad, Totals } from '../director.ts';
import { createEnvironment, type Environment } from '../environment.ts';
import type { DirectorError } from '../errors.ts';
import {
  type ConnectionEntry,
  type EndPoint,
  type RealServer,
  type RealServerId,
  realServerKey,
  type ServiceId,
  type SyncDaemon,
  serviceKey,
  type Timeouts,
  type VirtualService,
} from '../model.ts';
import { type ServiceTable, TableDraft } from '../service-table.ts';
import { defaultSysctls } from '../sysctls.ts';
import { Allocator, allocation } from './allocation.ts';
import { connectionEntry } from './connection-entry.ts';
import { writeHelpedPorts } from './helper-table.ts';
import { readLoads, writeLoads } from './loads.ts';
import type { Plane } from './plane.ts';
import { type Document, readDocument, registry, writeDocument } from './registry.ts';
import { rehearse } from './rehearsal.ts';
import { SchedulerNames } from './scheduler-names.ts';
import { fillSettings, liveSysctls } from './settings-codec.ts';
import { StatsReader } from './stats.ts';
import { type Stored, StoredTable } from './stored-table.ts';

export interface MapDirectorOptions {
  /** What the host says of interfaces and addresses. */
  readonly environment?: Environment;
}

const KEY = new Uint8Array(4);

export class MapDirector<P extends Plane = Plane> implements Director {
  /** As the kernel's table has by default; ours has no buckets to show. */
  readonly connectionTableSize = 4096;
  readonly plane: P;
  readonly #environment: Environment;
  readonly #schedulers: SchedulerNames;
  readonly #stats: StatsReader;
  readonly #stored: StoredTable;

  constructor(plane: P, options: MapDirectorOptions = {}) {
    this.plane = plane;
    const host = options.environment ?? createEnvironment();
    const schedulers = new SchedulerNames(plane);
    this.#environment = { ...host, hasScheduler: (name) => schedulers.has(name) };
    this.#schedulers = schedulers;
    this.#stats = new StatsReader(plane);
    this.#stored = new StoredTable(plane, this.#stats, schedulers, () => this.#ticks());
  }

  execute(command: Command): void {
    const [error] = this.executeAll([command], { atomic: true });
    if (error) throw error;
  }

  executeAll(
    commands: readonly Command[],
    { atomic }: { readonly atomic: boolean },
  ): readonly (DirectorError | undefined)[] {
    return this.plane.exclusively(() => {
      this.#schedulers.refresh();
      const before = this.#readFor(commands);
      const document = readDocument(this.plane.store(registry));
      const draft = new TableDraft(tableOf(before, document), this.#environment);
      const errors = commands.map((command) => draft.apply(command));
      if (atomic && errors.some((error) => error !== undefined)) return errors;
      this.#write(before, draft.finish(), document, editedServers(commands, errors));
      for (const [i, command] of commands.entries()) {
        if (command.kind === 'zero' && errors[i] === undefined) this.#zero(command.service);
      }
      return errors;
    });
  }

  table(): ServiceTable {
    this.#schedulers.refresh();
    return tableOf(this.#stored.readAll(), readDocument(this.plane.store(registry)));
  }

  service(id: ServiceId): VirtualService | undefined {
    this.#schedulers.refresh();
    const stored = this.#stored.read(id);
    return stored?.service;
  }

  /** Real servers may not change their numbers meanwhile. */
  reportLoads(id: ServiceId, byAddress: ReadonlyMap<Address, number>): void {
    this.plane.exclusively(() => {
      const stored = this.#stored.read(id);
      if (stored !== undefined) writeLoads(this.plane, stored, byAddress, this.#ticks());
    });
  }

  loads(id: ServiceId): readonly EstimatedLoad[] | undefined {
    const stored = this.#stored.read(id);
    return stored && readLoads(this.plane, stored, this.#ticks());
  }

  choice(id: ServiceId, client: EndPoint, virtual: EndPoint): RealServer | undefined {
    const stored = this.#stored.read(id);
    const number = stored && rehearse(this.plane, stored, client, virtual);
    return number === undefined ? undefined : stored!.service.realServers[stored!.numbers.indexOf(number)];
  }

  *connections(): Iterable<ConnectionEntry> {
    const now = this.#ticks();
    const { highest } = Population.on(this.plane.store(population).lookup(KEY)!);
    let seen = 0;
    // Entries of an array come in the order of their numbers.
    for (const [key, value] of this.plane.store(connections).entries()) {
      if (seen++ >= highest) return;
      const entry = connectionEntry(Connection.on(value), now, () => this.#engineData(key));
      if (entry !== undefined) yield entry;
    }
  }

  /** What the persistence engine found for the template of that number. */
  #engineData(key: Uint8Array): string | null {
    const value = this.plane.store(engineData).lookup(key);
    if (value === null) return null;
    const { length, data } = EngineKey.on(value);
    return String.fromCharCode(...Array.from({ length }, (_, i) => data.get(i)));
  }

  timeouts(): Timeouts {
    return readDocument(this.plane.store(registry)).timeouts;
  }

  daemons(): readonly SyncDaemon[] {
    return readDocument(this.plane.store(registry)).daemons;
  }

  sysctls(): ReadonlyMap<string, string> {
    const live = Settings.on(this.plane.store(settings).lookup(KEY)!);
    return liveSysctls(sysctlsOf(readDocument(this.plane.store(registry))), live);
  }

  totals(): Totals {
    const { stats, rates } = this.#stats.total();
    return { stats, rates, perCpu: [stats] };
  }

  /** Write the settings that packets read; done once when the maps are made, and whenever they change. */
  writeSettings(document: Document = readDocument(this.plane.store(registry)), maxConnections?: number): void {
    const store = this.plane.store(settings);
    const s = Settings.on(store.lookup(KEY)!);
    if (maxConnections !== undefined) {
      s.maxConnections = maxConnections;
      s.reservedConnections = reservedFor(maxConnections);
      s.flowBuckets = bucketsFor(maxConnections + s.reservedConnections);
      // What is in the table was put there by the key that it has.
      if (s.flowKey === 0n) s.flowKey = randomBytes(8).readBigUInt64LE();
    }
    s.cpus = this.plane.store(traffic).lookupPerCpu(KEY).length;
    fillSettings(s, sysctlsOf(document), document);
    store.update(KEY, bytesOf(s));
    writeHelpedPorts(this.plane, sysctlsOf(document));
  }

  #ticks(): number {
    const fixed = Settings.on(this.plane.store(settings).lookup(KEY)!).clock;
    return fixed !== 0 ? fixed : Number(BigInt.asUintN(32, this.plane.now() / BigInt(TICK_NS)));
  }

  /** Only the services that the commands name, unless one of them concerns all. */
  #readFor(commands: readonly Command[]): Map<string, Stored> {
    const ids = new Map<string, ServiceId>();
    for (const command of commands) {
      if (command.kind === 'flush' || command.kind === 'startDaemon') return this.#stored.readAll();
      if ('service' in command && command.service !== undefined) ids.set(serviceKey(command.service), command.service);
    }
    const found = new Map<string, Stored>();
    for (const [key, id] of ids) {
      const stored = this.#stored.read(id);
      if (stored !== undefined) found.set(key, stored);
    }
    return found;
  }

  #write(
    before: ReadonlyMap<string, Stored>,
    after: ServiceTable,
    document: Document,
    edited: ReadonlySet<string>,
  ): void {
    const allocator = new Allocator(this.plane.store(allocation));
    this.#stored.begin();
    try {
      for (const [key, stored] of before) {
        if (!after.services.has(key)) this.#stored.write(stored, undefined, allocator);
      }
      for (const [key, wanted] of after.services) {
        const stored = before.get(key);
        const isEdited = (server: RealServerId): boolean => edited.has(`${key} ${realServerKey(server)}`);
        if (stored?.service !== wanted) this.#stored.write(stored, wanted, allocator, isEdited);
      }
    } finally {
      // Where numbers run out, those that were given are given.
      this.#stored.finish();
      allocator.save();
    }
    this.#countServices(before, after);
    this.#writeDocument(document, after);
  }

  /** The data plane works for a family only while it has services, or real servers of such that answer in it (NAT64). */
  #countServices(before: ReadonlyMap<string, Stored>, after: ServiceTable): void {
    const store = this.plane.store(settings);
    const s = Settings.on(store.lookup(KEY)!);
    const [four, six] = [s.services4, s.services6];
    const count = (service: VirtualService, by: number): void => {
      if (service.id.family === 'ipv4' || translates(service)) s.services4 += by;
      if (service.id.family === 'ipv6') s.services6 += by;
    };
    for (const { service } of before.values()) count(service, -1);
    for (const service of after.services.values()) count(service, 1);
    if (s.services4 !== four || s.services6 !== six) store.update(KEY, bytesOf(s));
  }

  #writeDocument(before: Document, after: ServiceTable): void {
    const defaults = defaultSysctls();
    const document: Document = {
      timeouts: after.timeouts,
      daemons: after.daemons,
      sysctls: Object.fromEntries([...after.sysctls].filter(([name, value]) => defaults.get(name) !== value)),
      schedulers: before.schedulers,
    };
    if (JSON.stringify(document) === JSON.stringify(before)) return;
    writeDocument(this.plane.store(registry), document);
    this.writeSettings(document);
  }

  #zero(id: ServiceId | undefined): void {
    const all = id === undefined ? [...this.#stored.readAll().values()] : [this.#stored.read(id)];
    for (const stored of all) if (stored) this.#stats.zeroService(stored.record.index, stored.numbers);
    if (id === undefined) this.#stats.zeroTotal();
  }
}

/** A service of IPv6 that may get replies of IPv4. */
const translates = ({ realServers, localAddresses }: VirtualService): boolean =>
  localAddresses.some((address) => familyOf(address) === 'ipv4') ||
  realServers.some(({ forwarding, family }) => forwarding === 'fullnat' && family === 'ipv4');

/** Real servers that commands edited, by the keys of service and server. */
function editedServers(
  commands: readonly Command[],
  errors: readonly (DirectorError | undefined)[],
): ReadonlySet<string> {
  const edited = new Set<string>();
  for (const [i, command] of commands.entries()) {
    if (command.kind !== 'editServer' || errors[i] !== undefined) continue;
    edited.add(`${serviceKey(command.service)} ${realServerKey(command.server)}`);
  }
  return edited;
}

function tableOf(stored: ReadonlyMap<string, Stored>, document: Document): ServiceTable {
  const services = new Map([...stored].map(([key, { service }]) => [key, service]));
  return { services, timeouts: document.timeouts, daemons: document.daemons, sysctls: sysctlsOf(document) };
}

const sysctlsOf = (document: Document): ReadonlyMap<string, string> =>
  new Map([...defaultSysctls(), ...Object.entries(document.sysctls)]);
