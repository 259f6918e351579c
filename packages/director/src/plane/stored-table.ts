/**
 * The service table as the maps hold it: read whole or service by service, and changed one service at a time.
 *
 * A service record and a list of members are replaced at once, so a packet sees the old or the new. Real servers keep their
 * numbers for life; one that is removed goes to the trash, where its connections and counts find it and where adding it
 * again finds it too (spec section 1.2).
 */
import { be16, bytesOf, hashMap, htons, type MapStore, ntohs, struct, u8, u32, type View } from '@ipvsd/bpf';
import {
  Address6,
  EDIT,
  EMPTY,
  foldAddress,
  LocalAddress,
  LocalAddressKey,
  localAddresses,
  Member,
  type MemberChange,
  members,
  OTHER_LOCALS,
  PLACE,
  type Prepared,
  type PreparedMember,
  Ranges,
  RETIRE,
  REVIVE,
  ranges,
  SCHEDULERS,
  SegmentLimit,
  ServerOrder,
  ServiceKey,
  ServiceState,
  SLOTS_PER_BLOCK,
  RealServer as StoredServer,
  Service as StoredService,
  schedulerTables,
  segmentLimits,
  serverFigures,
  server as serverProgram,
  servers,
  serviceFigures,
  serviceStates,
  services,
  TableBlock,
  TableKey,
  ticksOf,
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
import type { Allocator } from './allocation.ts';
import {
  FAMILY_NUMBERS,
  idOf,
  keyOf,
  loadAddress,
  loadSettings,
  methodName,
  methodNumber,
  storeAddress,
  storeSettings,
  tunnelNumbers,
  tunnelOf,
} from './codec.ts';
import { EngineServers } from './engine-servers.ts';
import { indexKey } from './index-key.ts';
import type { Plane } from './plane.ts';
import type { SchedulerNames } from './scheduler-names.ts';
import { readFigures, type StatsReader } from './stats.ts';

type ServiceRecord = View<(typeof StoredService)['fields']>;
type ServerRecord = View<(typeof StoredServer)['fields']>;

/** A service as stored, with the numbers of its real servers in list order. */
export interface Stored {
  readonly record: ServiceRecord;
  readonly numbers: readonly number[];
  readonly service: VirtualService;
}

/** Real servers that were removed: by what would make them the same again. */
const TrashKey = struct('trash_key', { service: ServiceKey, address: Address6, port: be16, family: u8, reserved: u8 });
/** `phase`: when the trash was empty last, from which the kernel counts the minutes at which it empties it. */
const TrashEntry = struct('trash_entry', { server: u32, phase: u32 });
export const trash = hashMap('trash', TrashKey, TrashEntry, { maxEntries: 131_072, noPreallocation: true });

/** Values of arrays by their numbers, where they were read at once. */
interface Block {
  readonly members: readonly Uint8Array[];
  readonly servers: readonly Uint8Array[];
  readonly serverFigures: readonly Uint8Array[];
  readonly serviceFigures: readonly Uint8Array[];
}
const NOTHING_READ: Block = { members: [], servers: [], serverFigures: [], serviceFigures: [] };

const MINUTE = ticksOf(60);

const localKey = ({ index }: ServiceRecord, place: number): Uint8Array =>
  bytesOf(LocalAddressKey.create({ service: index, place }));
const otherFamily = (family: Family): Family => (family === 'ipv4' ? 'ipv6' : 'ipv4');

export class StoredTable {
  readonly #plane: Plane;
  readonly #stats: StatsReader;
  readonly #schedulers: SchedulerNames;
  readonly #services: MapStore;
  readonly #servers: MapStore;
  readonly #members: MapStore;
  readonly #states: MapStore;
  readonly #trash: MapStore;
  readonly #tables: MapStore;
  readonly #locals: MapStore;
  readonly #limits: MapStore;
  readonly #engineServers: EngineServers;
  readonly #now: () => number;
  /** When the trash that now is was begun, while a change goes on. */
  #phase: number | undefined;
  /** Whether there is any, as of its beginning or since. */
  #trashSeen: boolean | undefined;

  /** `now` in ticks, by the data plane's clock. */
  constructor(plane: Plane, stats: StatsReader, schedulers: SchedulerNames, now: () => number) {
    this.#plane = plane;
    this.#stats = stats;
    this.#schedulers = schedulers;
    this.#services = plane.store(services);
    this.#servers = plane.store(servers);
    this.#members = plane.store(members);
    this.#states = plane.store(serviceStates);
    this.#trash = plane.store(trash);
    this.#tables = plane.store(schedulerTables);
    this.#locals = plane.store(localAddresses);
    this.#limits = plane.store(segmentLimits);
    this.#engineServers = new EngineServers(plane);
    this.#now = now;
  }

  /** All services by `serviceKey`, oldest first. */
  readAll(): Map<string, Stored> {
    const found: Stored[] = [];
    const entries = [...this.#services.entries()];
    const block = this.#readBlock(entries.map(([, value]) => StoredService.on(value)));
    for (const [key, value] of entries) found.push(this.#decode(idOf(ServiceKey.on(key)), value, block));
    found.sort((a, b) => a.record.sequence - b.record.sequence);
    return new Map(found.map((stored) => [serviceKey(stored.service.id), stored]));
  }

  read(id: ServiceId): Stored | undefined {
    const value = this.#services.lookup(bytesOf(keyOf(id)));
    return value === null ? undefined : this.#decode(id, value);
  }

  /** What all services need, in few system calls. */
  #readBlock(records: readonly ServiceRecord[]): Block {
    if (records.length === 0) return NOTHING_READ;
    const used = Ranges.on(this.#plane.store(ranges).lookup(indexKey(0))!);
    const places = records.reduce((most, { first, count }) => Math.max(most, count === 0 ? 0 : first + count), 0);
    return {
      members: this.#members.values(0, places),
      servers: this.#servers.values(0, used.servers),
      serverFigures: this.#plane.store(serverFigures).values(0, used.servers),
      serviceFigures: this.#plane.store(serviceFigures).values(0, used.services),
    };
  }

  #decode(id: ServiceId, value: Uint8Array, block: Block = NOTHING_READ): Stored {
    const record = StoredService.on(value);
    const read =
      block.members.length > 0
        ? block.members.slice(record.first, record.first + record.count)
        : this.#members.values(record.first, record.count);
    const numbers = read.map((member) => Member.on(member).server);
    const realServers = numbers.map((number) => this.#decodeServer(number, block));
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

  serverRecord(number: number): ServerRecord {
    return StoredServer.on(this.#servers.lookup(indexKey(number))!);
  }

  #decodeServer(number: number, block: Block): RealServer {
    const record = block.servers[number];
    const s = record === undefined ? this.serverRecord(number) : StoredServer.on(record);
    const figures = block.serverFigures[number];
    const address = loadAddress(s.address, s.family);
    return {
      address,
      port: ntohs(s.port),
      family: familyOf(address),
      forwarding: methodName(s.method),
      weight: s.weight,
      upperThreshold: s.upper,
      lowerThreshold: s.lower,
      tunnel: tunnelOf(s),
      activeConnections: s.active,
      inactiveConnections: s.inactive,
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
    this.#states.update(indexKey(index), bytesOf(ServiceState.create()));
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
      const place = known.get(realServerKey(server));
      if (place === undefined) return this.#addServer(record, wanted.id, server, allocator);
      const number = before!.numbers[place]!;
      if (isEdited(server) || !sameSettings(server, before!.service.realServers[place]!)) {
        this.#order(EDIT, number, record, server);
        edited++;
      }
      return number;
    });
    return { numbers, edited };
  }

  #addServer(service: ServiceRecord, id: ServiceId, server: RealServer, allocator: Allocator): number {
    const key = bytesOf(trashKeyOf(id, server));
    const trashed = this.#hasTrash() ? this.#trash.lookup(key) : null;
    if (trashed !== null) {
      const { server: number, phase } = TrashEntry.on(trashed);
      this.#trash.delete(key);
      if (!this.#isForgotten(number, phase)) {
        this.#order(REVIVE, number, service, server);
        return number;
      }
      this.#order(PLACE, number, service, server);
      return number;
    }
    const number = allocator.takeServer() ?? this.#emptyTrash(allocator) ?? allocator.takeServer();
    if (number === undefined) throw full('real servers');
    this.#order(PLACE, number, service, server);
    return number;
  }

  #order(kind: number, number: number, service: ServiceRecord, server: RealServer): void {
    const { type, flags } = tunnelNumbers(server.tunnel);
    const order = ServerOrder.create({
      kind,
      number,
      service: service.index,
      owner: service.sequence,
      port: htons(server.port),
      family: FAMILY_NUMBERS[server.family],
      method: methodNumber(server.forwarding),
      tunnelType: type,
      tunnelFlags: flags,
      tunnelPort: htons(server.tunnel.port),
      weight: server.weight,
      upper: server.upperThreshold,
      lower: server.lowerThreshold,
    });
    storeAddress(order.address, server.address);
    const answer = this.#plane.call(serverProgram, order);
    if (answer !== 0) throw new Error(`Cannot change real server ${number}: the data plane answered ${answer}`);
  }

  #writeMembers(record: ServiceRecord, numbers: readonly number[], allocator: Allocator): void {
    const first = allocator.takeMembers(numbers.length);
    if (first === undefined) throw full('places for real servers');
    this.#members.updateMany(numbers.map((server, i) => [indexKey(first + i), bytesOf(Member.create({ server }))]));
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
    const list = numbers.map((number) => new StoredMember(number, () => this.serverRecord(number)));
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
    this.#plane.call(serverProgram, ServerOrder.create({ kind: RETIRE, number }));
    const entry = TrashEntry.create({ server: number, phase: this.#trashPhase() });
    this.#trashSeen = true;
    this.#trash.update(bytesOf(trashKeyOf(id, server)), bytesOf(entry));
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

  /** A change begins, which may retire many real servers: they all come into one trash. */
  begin(): void {
    this.#phase = undefined;
    this.#trashSeen = undefined;
  }

  #hasTrash(): boolean {
    this.#trashSeen ??= this.#trash.entries()[Symbol.iterator]().next().done !== true;
    return this.#trashSeen;
  }

  #trashPhase(): number {
    this.#phase ??= this.#findPhase();
    return this.#phase;
  }

  /** When the trash that now is was begun: the time of the first of those that are still remembered. */
  #findPhase(): number {
    for (const [, value] of this.#trash.entries()) {
      const { server, phase } = TrashEntry.on(value);
      if (!this.#isForgotten(server, phase)) return phase;
    }
    return this.#now();
  }

  /**
   * Whether the kernel would have forgotten it: every minute it looks through the trash; what nobody refers to when it
   * looks is noted, and gone two minutes later.
   */
  #isForgotten(number: number, phase: number): boolean {
    const { active, inactive, persistent, idleSince } = this.serverRecord(number);
    if (active + inactive + persistent > 0) return false;
    const noted = Math.floor(((idleSince - phase) >>> 0) / MINUTE) + 1;
    return (this.#now() - phase) >>> 0 >= (noted + 2) * MINUTE;
  }

  /** Give back the numbers that no connection remembers. */
  #emptyTrash(allocator: Allocator): undefined {
    for (const [key, value] of this.#trash.entries()) {
      const number = TrashEntry.on(value).server;
      const { active, inactive, persistent } = this.serverRecord(number);
      if (active + inactive + persistent > 0) continue;
      this.#trash.delete(key);
      allocator.freeServer(number);
    }
  }
}

/** A real server as schedulers prepare for it; most ask for nothing but its number, so the rest is read when it is asked for. */
class StoredMember implements PreparedMember {
  readonly server: number;
  readonly #read: () => ServerRecord;
  #known: ServerRecord | undefined;

  constructor(server: number, read: () => ServerRecord) {
    this.server = server;
    this.#read = read;
  }

  get weight(): number {
    return this.#record().weight;
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

function trashKeyOf(id: ServiceId, server: RealServer): View<(typeof TrashKey)['fields']> {
  const key = TrashKey.create({ port: htons(server.port), family: FAMILY_NUMBERS[server.family] });
  bytesOf(key.service).set(bytesOf(keyOf(id)));
  storeAddress(key.address, server.address);
  return key;
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
