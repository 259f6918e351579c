/**
 * The service table as the maps hold it: read whole or service by service, and changed one service at a time.
 *
 * A service record and a list of members are replaced at once, so a packet sees the old or the new. Real servers keep their
 * numbers for life; one that is removed goes to the trash (trash.ts).
 */
import { bytesOf, htons, type MapStore, ntohs, type View } from '@ipvsd/bpf';
import {
  EDIT,
  EMPTY,
  foldAddress,
  LocalAddress,
  LocalAddressKey,
  localAddresses,
  type MemberChange,
  Members,
  members,
  NONE,
  OTHER_LOCALS,
  PLACE,
  type Prepared,
  type PreparedMember,
  Ranges,
  REVIVE,
  ROW,
  ranges,
  SCHEDULERS,
  SegmentLimit,
  ServiceKey,
  ServiceState,
  SLOTS_PER_BLOCK,
  type Standing,
  Standings,
  RealServer as StoredServer,
  Service as StoredService,
  schedulerTables,
  segmentLimits,
  serverFigures,
  servers,
  serviceFigures,
  serviceStates,
  services,
  standings,
  TableBlock,
  TableKey,
} from '@ipvsd/ipvs';
import { type Address, type Family, familyOf } from '../address.ts';
import { DirectorError } from '../errors.ts';
import {
  type RealServer,
  type RealServerSettings,
  realServerKey,
  type ServiceId,
  serviceKey,
  type VirtualService,
} from '../model.ts';
import { type Allocator, rowsFor } from './allocation.ts';
import {
  FAMILY_NUMBERS,
  idOf,
  keyOf,
  loadAddress,
  loadSettings,
  methodName,
  storeAddress,
  storeSettings,
  tunnelOf,
} from './codec.ts';
import { EngineServers } from './engine-servers.ts';
import { indexKey } from './index-key.ts';
import type { Plane } from './plane.ts';
import type { SchedulerNames } from './scheduler-names.ts';
import { ServerOrders } from './server-orders.ts';
import { readFigures, type StatsReader } from './stats.ts';
import { Trash } from './trash.ts';

type ServiceRecord = View<(typeof StoredService)['fields']>;
type ServerRecord = View<(typeof StoredServer)['fields']>;

/** A service as stored, with the numbers of its real servers in list order. */
export interface Stored {
  readonly record: ServiceRecord;
  readonly numbers: readonly number[];
  readonly service: VirtualService;
}

/** Values of arrays by their numbers, where they were read at once. */
interface Block {
  readonly servers: readonly Uint8Array[];
  readonly serverFigures: readonly Uint8Array[];
  readonly serviceFigures: readonly Uint8Array[];
}
const NOTHING_READ: Block = { servers: [], serverFigures: [], serviceFigures: [] };

const localKey = ({ index }: ServiceRecord, place: number): Uint8Array =>
  bytesOf(LocalAddressKey.create({ service: index, place }));
const otherFamily = (family: Family): Family => (family === 'ipv4' ? 'ipv6' : 'ipv4');

export class StoredTable {
  readonly #plane: Plane;
  readonly #stats: StatsReader;
  readonly #schedulers: SchedulerNames;
  readonly #services: MapStore;
  readonly #servers: MapStore;
  readonly #states: MapStore;
  readonly #tables: MapStore;
  readonly #locals: MapStore;
  readonly #limits: MapStore;
  readonly #engineServers: EngineServers;
  readonly #orders: ServerOrders;
  readonly #trash: Trash;

  /** `now` in ticks, by the data plane's clock. */
  constructor(plane: Plane, stats: StatsReader, schedulers: SchedulerNames, now: () => number) {
    this.#plane = plane;
    this.#stats = stats;
    this.#schedulers = schedulers;
    this.#services = plane.store(services);
    this.#servers = plane.store(servers);
    this.#states = plane.store(serviceStates);
    this.#tables = plane.store(schedulerTables);
    this.#locals = plane.store(localAddresses);
    this.#limits = plane.store(segmentLimits);
    this.#engineServers = new EngineServers(plane);
    this.#orders = new ServerOrders(plane);
    this.#trash = new Trash(plane, now);
  }

  /** All services by `serviceKey`, oldest first. */
  readAll(): Map<string, Stored> {
    const found: Stored[] = [];
    const entries = [...this.#services.entries()];
    const block = entries.length === 0 ? NOTHING_READ : this.#readBlock();
    for (const [key, value] of entries) found.push(this.#decode(idOf(ServiceKey.on(key)), value, block));
    found.sort((a, b) => a.record.sequence - b.record.sequence);
    return new Map(found.map((stored) => [serviceKey(stored.service.id), stored]));
  }

  read(id: ServiceId): Stored | undefined {
    const value = this.#services.lookup(bytesOf(keyOf(id)));
    return value === null ? undefined : this.#decode(id, value);
  }

  /** What all services need, in few system calls. */
  #readBlock(): Block {
    const used = Ranges.on(this.#plane.store(ranges).lookup(indexKey(0))!);
    return {
      servers: this.#servers.values(0, used.servers),
      serverFigures: this.#plane.store(serverFigures).values(0, used.servers),
      serviceFigures: this.#plane.store(serviceFigures).values(0, used.services),
    };
  }

  #decode(id: ServiceId, value: Uint8Array, block: Block = NOTHING_READ): Stored {
    const record = StoredService.on(value);
    const list = this.#places();
    const numbers = Array.from(list.subarray(record.first, record.first + record.count));
    const { of } = Standings.on(this.#plane.store(standings).memory());
    const realServers = numbers.map((number) => this.#decodeServer(number, of.at(number), block));
    const figures = block.serviceFigures[record.index];
    const service = {
      id,
      ...loadSettings(record, id.family, this.#schedulers),
      realServers,
      localAddresses: this.#decodeLocalAddresses(record, id),
      ...(figures === undefined ? this.#stats.service(record.index) : readFigures(figures)),
    };
    return { record, numbers, service };
  }

  #decodeLocalAddresses(record: ServiceRecord, { family }: ServiceId): Address[] {
    const found: Address[] = [];
    const read = (first: number, count: number, of: Family): void => {
      for (let place = first; place < first + count; place++) {
        const { address, order } = LocalAddress.on(this.#locals.lookup(localKey(record, place))!);
        found[order] = loadAddress(address, FAMILY_NUMBERS[of]);
      }
    };
    read(0, record.locals, family);
    read(OTHER_LOCALS, record.otherLocals, otherFamily(family));
    return found;
  }

  /** The lists of members, place by place. */
  #places(): Uint32Array {
    const memory = this.#plane.store(members).memory();
    return new Uint32Array(memory.buffer, memory.byteOffset, Members.size / 4);
  }

  serverRecord(number: number): ServerRecord {
    return StoredServer.on(this.#servers.lookup(indexKey(number))!);
  }

  #decodeServer(number: number, standing: Standing, block: Block): RealServer {
    const record = block.servers[number];
    const s = record === undefined ? this.serverRecord(number) : StoredServer.on(record);
    const figures = block.serverFigures[number];
    const address = loadAddress(s.address, s.family);
    return {
      address,
      port: ntohs(s.port),
      family: familyOf(address),
      forwarding: methodName(s.method),
      weight: standing.weight,
      upperThreshold: s.upper,
      lowerThreshold: s.lower,
      tunnel: tunnelOf(s),
      activeConnections: standing.active,
      inactiveConnections: standing.inactive,
      persistentConnections: s.persistent,
      ...(figures === undefined ? this.#stats.server(number) : readFigures(figures)),
    };
  }

  // Change ---------------------------------------------------------------------------------------------------------

  /**
   * Make the stored service what `wanted` says, or remove it. `isEdited`: whether an operator edited the real server, be it
   * to what it was: some schedulers begin anew then.
   */
  write(
    before: Stored | undefined,
    wanted: VirtualService | undefined,
    allocator: Allocator,
    isEdited: (server: RealServer) => boolean = () => false,
  ): void {
    if (wanted === undefined) {
      if (before !== undefined) this.#remove(before, allocator);
      return;
    }
    const record = before === undefined ? this.#newRecord(allocator) : StoredService.on(bytesOf(before.record).slice());
    storeSettings(record, wanted.id.family, wanted, this.#schedulers);
    if (wanted.id.kind === 'fwmark') record.mark = wanted.id.fwmark;
    else record.port = htons(wanted.id.port);
    const newScheduler = before === undefined || before.record.scheduler !== record.scheduler;
    if (newScheduler) record.era = allocator.nextSequence();
    const { numbers, edited } = this.#writeServers(record, before, wanted, allocator, isEdited);
    this.#orders.flush();
    const oldNumbers = before?.numbers ?? [];
    const sameList = numbers.length === oldNumbers.length && numbers.every((n, i) => n === oldNumbers[i]);
    if (before === undefined || !sameList) this.#writeMembers(record, numbers, allocator);
    const change: MemberChange = sameList && !newScheduler ? { kind: 'edit' } : { kind: 'list', before: oldNumbers };
    // Editing the service alone leaves its scheduler alone.
    if (newScheduler || !sameList || edited > 0) this.#prepare(record, numbers, newScheduler, change, allocator);
    if (wanted.localAddresses !== before?.service.localAddresses) this.#writeLocalAddresses(record, wanted);
    this.#writeSegmentLimit(record, before?.record);
    this.#services.update(bytesOf(keyOf(wanted.id)), bytesOf(record));
    this.#engineServers.write(before?.service, wanted, numbers);
    if (before !== undefined && before.record.table !== record.table) this.#removeTable(before.record.table);
    if (before !== undefined && !sameList) allocator.freeMembers(before.record.first, before.record.count);
    if (before !== undefined) this.#retireGone(before, numbers, wanted.id);
  }

  /**
   * Those that are wanted are there before the record counts them. Where there are fewer now, the last places stay until the
   * service goes or has them again: a packet may still be told the old number.
   */
  #writeLocalAddresses(record: ServiceRecord, { id, localAddresses }: VirtualService): void {
    let [own, others] = [0, 0];
    for (const [order, address] of localAddresses.entries()) {
      const value = LocalAddress.create({ order });
      storeAddress(value.address, address);
      const place = familyOf(address) === id.family ? own++ : OTHER_LOCALS + others++;
      this.#locals.update(localKey(record, place), bytesOf(value));
    }
    record.locals = own;
    record.otherLocals = others;
  }

  /** Before any connection may ask for it. */
  #writeSegmentLimit({ index, sequence, segmentSize: size }: ServiceRecord, before: ServiceRecord | undefined): void {
    if (size === (before?.segmentSize ?? 0)) return;
    this.#limits.update(indexKey(index), bytesOf(SegmentLimit.create({ size, sequence })));
  }

  #newRecord(allocator: Allocator): ServiceRecord {
    const index = allocator.takeService();
    if (index === undefined) throw full('virtual services');
    this.#stats.beginService(index);
    return StoredService.create({ index, sequence: allocator.nextSequence() });
  }

  /** Place, revive or edit each wanted real server; answers with their numbers in list order, and how many were edited. */
  #writeServers(
    record: ServiceRecord,
    before: Stored | undefined,
    wanted: VirtualService,
    allocator: Allocator,
    isEdited: (server: RealServer) => boolean,
  ): { readonly numbers: number[]; readonly edited: number } {
    let edited = 0;
    const known = new Map(before?.service.realServers.map((s, i) => [realServerKey(s), i]));
    const numbers = wanted.realServers.map((server) => {
      const place = known.size === 0 ? undefined : known.get(realServerKey(server));
      if (place === undefined) return this.#addServer(record, wanted.id, server, allocator);
      const number = before!.numbers[place]!;
      if (isEdited(server) || !sameSettings(server, before!.service.realServers[place]!)) {
        this.#orders.give(EDIT, number, record, server);
        edited++;
      }
      return number;
    });
    return { numbers, edited };
  }

  #addServer(service: ServiceRecord, id: ServiceId, server: RealServer, allocator: Allocator): number {
    const back = this.#trash.takeBack(id, server);
    const number = back?.number ?? this.#takeServer(allocator);
    this.#orders.give(back?.forgotten === false ? REVIVE : PLACE, number, service, server);
    return number;
  }

  #takeServer(allocator: Allocator): number {
    const free = allocator.takeServer();
    if (free !== undefined) return free;
    this.#orders.flush();
    this.#trash.empty((number) => allocator.freeServer(number));
    const number = allocator.takeServer();
    if (number === undefined) throw full('real servers');
    return number;
  }

  #writeMembers(record: ServiceRecord, numbers: readonly number[], allocator: Allocator): void {
    const first = allocator.takeMembers(numbers.length);
    if (first === undefined) throw full('places for real servers');
    const places = this.#places();
    places.set(numbers, first);
    places.fill(NONE, first + numbers.length, first + rowsFor(numbers.length) * ROW);
    record.first = first;
    record.count = numbers.length;
  }

  /** Let the scheduler remake what it remembers. */
  #prepare(
    record: ServiceRecord,
    numbers: readonly number[],
    newScheduler: boolean,
    change: MemberChange,
    allocator: Allocator,
  ): void {
    const scheduler = SCHEDULERS.find(({ number }) => number === record.scheduler);
    const key = indexKey(record.index);
    const remembered: Prepared = newScheduler ? EMPTY : this.#stateOf(key);
    const { of } = Standings.on(this.#plane.store(standings).memory());
    const list = numbers.map((number) => new StoredMember(number, of, () => this.serverRecord(number)));
    // An operator's own begins anew when its list changes, and remembers when a real server is edited.
    const unprepared = change.kind === 'edit' ? remembered : EMPTY;
    const { cursor, current, maximum, divisor } = scheduler?.prepare(list, remembered, change) ?? unprepared;
    this.#states.update(key, bytesOf(ServiceState.create({ cursor, current, maximum, divisor })));
    if (scheduler?.table === undefined) {
      record.table = 0;
      return;
    }
    const table = scheduler.table(list, change);
    if (table !== undefined) record.table = this.#writeTable(table, allocator.nextSequence() + 1);
  }

  #writeTable(slots: readonly number[], table: number): number {
    const pairs: [Uint8Array, Uint8Array][] = [];
    for (let block = 0; block * SLOTS_PER_BLOCK < slots.length; block++) {
      const value = TableBlock.create();
      const part = slots.slice(block * SLOTS_PER_BLOCK, (block + 1) * SLOTS_PER_BLOCK);
      for (const [i, number] of part.entries()) value.servers.set(i, number);
      pairs.push([bytesOf(TableKey.create({ table, block })), bytesOf(value)]);
    }
    this.#tables.updateMany(pairs);
    return table;
  }

  #removeTable(table: number): void {
    if (table === 0) return;
    for (let block = 0; this.#tables.delete(bytesOf(TableKey.create({ table, block }))); block++);
  }

  #stateOf(key: Uint8Array): Prepared {
    const { cursor, current, maximum, divisor } = ServiceState.on(this.#states.lookup(key)!);
    return { cursor, current, maximum, divisor };
  }

  #retireGone(before: Stored, numbers: readonly number[], id: ServiceId): void {
    const kept = new Set(numbers);
    for (const [place, number] of before.numbers.entries()) {
      if (!kept.has(number)) this.#retire(number, id, before.service.realServers[place]!);
    }
  }

  #retire(number: number, id: ServiceId, server: RealServer): void {
    this.#orders.retire(number);
    this.#trash.throwAway(number, id, server);
  }

  #remove({ record, numbers, service }: Stored, allocator: Allocator): void {
    this.#services.delete(bytesOf(keyOf(service.id)));
    this.#engineServers.write(service, undefined, []);
    for (const [place, number] of numbers.entries()) this.#retire(number, service.id, service.realServers[place]!);
    this.#removeTable(record.table);
    for (const first of [0, OTHER_LOCALS]) {
      for (let place = first; this.#locals.delete(localKey(record, place)); place++);
    }
    allocator.freeMembers(record.first, record.count);
    allocator.freeService(record.index);
  }

  /** A change of the table begins. */
  begin(): void {
    this.#trash.begin();
  }

  /** It has ended: what was left for last is done. */
  finish(): void {
    this.#orders.flush();
    this.#trash.finish();
  }
}

/** A real server as schedulers prepare for it; most ask for nothing but its number, so the rest is read when it is asked for. */
class StoredMember implements PreparedMember {
  readonly server: number;
  readonly #standings: { at(number: number): Standing };
  readonly #read: () => ServerRecord;
  #known: ServerRecord | undefined;

  constructor(server: number, standings: { at(number: number): Standing }, read: () => ServerRecord) {
    this.server = server;
    this.#standings = standings;
    this.#read = read;
  }

  get weight(): number {
    return this.#standings.at(this.server).weight;
  }
  get lastWeight(): number {
    return this.#record().lastWeight;
  }
  get address(): number {
    return foldAddress(this.#record().address);
  }
  get port(): number {
    return ntohs(this.#record().port);
  }

  #record(): ServerRecord {
    this.#known ??= this.#read();
    return this.#known;
  }
}

function sameSettings(a: RealServerSettings, b: RealServerSettings): boolean {
  return (
    a.weight === b.weight &&
    a.forwarding === b.forwarding &&
    a.upperThreshold === b.upperThreshold &&
    a.lowerThreshold === b.lowerThreshold &&
    a.tunnel.type === b.tunnel.type &&
    a.tunnel.port === b.tunnel.port &&
    a.tunnel.checksum === b.tunnel.checksum
  );
}

const full = (what: string): DirectorError =>
  new DirectorError('ENOMEM', `Cannot add: all numbers for ${what} are taken`);
