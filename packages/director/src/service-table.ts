/**
 * The service table and the one function that changes it. A table is a value: `apply` answers with a new one that shares
 * whatever stayed the same, or with the error the kernel's ip_vs would give, and the old table is still good.
 *
 * Many commands in a row go through one `TableDraft`, which copies the map of services once and indexes the real
 * servers of a service when it is first touched: ten thousand lines of ipvsadm-restore are ten thousand map updates.
 */
import { type Address, addressKind, familyOf } from './address.ts';
import type { Command, EditServer, EditService } from './command.ts';
import type { Environment } from './environment.ts';
import { DirectorError, type ErrorCode } from './errors.ts';
import { clashOf } from './helped-ports.ts';
import {
  type IdleRule,
  mayCross,
  noFigures,
  type ProxyProtocol,
  type RealServer,
  type RealServerSettings,
  realServerKey,
  type SegmentSize,
  type ServiceId,
  type ServiceSettings,
  type SyncDaemon,
  type SyncDaemonSettings,
  type SyncRole,
  segmentSizes,
  serviceKey,
  type Timeouts,
  type VirtualService,
} from './model.ts';
import { runningDaemon } from './sync-daemon.ts';
import { acceptSysctl, defaultSysctls } from './sysctls.ts';

export interface ServiceTable {
  /** By `serviceKey`, oldest first. */
  readonly services: ReadonlyMap<string, VirtualService>;
  readonly timeouts: Timeouts;
  /** Master before backup, at most one of each. */
  readonly daemons: readonly SyncDaemon[];
  readonly sysctls: ReadonlyMap<string, string>;
}

export type Applied =
  | { readonly ok: ServiceTable; readonly error?: never }
  | { readonly ok?: never; readonly error: DirectorError };

export function emptyTable(): ServiceTable {
  return {
    services: new Map(),
    timeouts: { tcp: 900, tcpFin: 120, udp: 300 },
    daemons: [],
    sysctls: defaultSysctls(),
  };
}

export function apply(table: ServiceTable, command: Command, environment: Environment): Applied {
  const draft = new TableDraft(table, environment);
  const error = draft.apply(command);
  return error ? { error } : { ok: draft.finish() };
}

/** 31 days, as the longest timeout that ipvsadm takes. */
const LONGEST_SILENCE = 2_678_400;

/** A table being changed. Its commands are checked completely before anything is touched, so a refused one leaves no trace. */
export class TableDraft {
  readonly #environment: Environment;
  readonly #services: Map<string, DraftService>;
  #timeouts: Timeouts;
  #daemons: readonly SyncDaemon[];
  #sysctls: ReadonlyMap<string, string>;

  constructor(table: ServiceTable, environment: Environment) {
    this.#environment = environment;
    this.#services = new Map([...table.services].map(([key, service]) => [key, { service, servers: undefined }]));
    this.#timeouts = table.timeouts;
    this.#daemons = table.daemons;
    this.#sysctls = table.sysctls;
  }

  apply(command: Command): DirectorError | undefined {
    switch (command.kind) {
      case 'addService':
        return this.#addService(command.service, command.settings);
      case 'editService':
        return this.#editService(command);
      case 'deleteService':
        return this.#services.delete(serviceKey(command.service))
          ? undefined
          : noSuchService('delete', command.service);
      case 'flush':
        this.#services.clear();
        return undefined;
      case 'addServer':
      case 'editServer':
      case 'deleteServer':
        return this.#changeServer(command);
      case 'addLocalAddress':
      case 'deleteLocalAddress':
        return this.#changeLocalAddresses(command.kind, command.service, command.address);
      case 'zero':
        return this.#zero(command.service);
      case 'setTimeouts':
        return this.#setTimeouts(command.timeouts);
      case 'startDaemon':
        return this.#startDaemon(command.daemon);
      case 'stopDaemon':
        return this.#stopDaemon(command.role);
      case 'setSysctl':
        return this.#setSysctl(command.name, command.value);
    }
  }

  finish(): ServiceTable {
    const services = new Map<string, VirtualService>();
    for (const [key, draft] of this.#services) services.set(key, finishService(draft));
    return { services, timeouts: this.#timeouts, daemons: this.#daemons, sysctls: this.#sysctls };
  }

  #addService(id: ServiceId, settings: ServiceSettings): DirectorError | undefined {
    if (this.#services.has(serviceKey(id))) return refuse('EEXIST', 'add', id, 'it is there already');
    const error = this.#checkSettings('add', id, settings);
    if (error) return error;
    const service = { id, ...settings, realServers: [], localAddresses: [], stats: noFigures, rates: noFigures };
    this.#services.set(serviceKey(id), { service, servers: undefined });
    return undefined;
  }

  #editService(command: EditService): DirectorError | undefined {
    const draft = this.#services.get(serviceKey(command.service));
    if (!draft) return noSuchService('edit', command.service);
    const error = this.#checkSettings('edit', command.service, command.settings);
    const servers = draft.servers?.values() ?? draft.service.realServers;
    if (!error && command.settings.onePacket && [...servers].some(({ forwarding }) => forwarding === 'fullnat')) {
      return new DirectorError('EINVAL', `Cannot edit ${serviceKey(command.service)}: ${ONE_PACKET_FULLNAT}`, true);
    }
    if (error) return error;
    // Replaced whole: what is left out is no longer so.
    const { idle: _, proxyProtocol: __, segmentSize: ___, ...rest } = draft.service;
    draft.service = { ...rest, ...command.settings };
    return undefined;
  }

  #checkSettings(verb: string, id: ServiceId, settings: ServiceSettings): DirectorError | undefined {
    const { scheduler, persistenceEngine: engine, persistence } = settings;
    if (!this.#environment.hasScheduler(scheduler)) {
      return refuse('ENOENT', verb, id, `there is no scheduler "${scheduler}"`);
    }
    if (engine !== null && !this.#environment.hasPersistenceEngine(engine)) {
      return refuse('ENOENT', verb, id, `there is no persistence engine "${engine}"`);
    }
    if (id.family === 'ipv6' && persistence && (persistence.netmask < 1 || persistence.netmask > 128)) {
      return refuse('EINVAL', verb, id, `prefix length is ${persistence.netmask}, must be 1..128`);
    }
    const wrong = wrongWithProxy(id, settings.proxyProtocol);
    if (wrong) return new DirectorError('EINVAL', `Cannot ${verb} virtual service ${serviceKey(id)}: ${wrong}`, true);
    return this.#checkIdle(verb, id, settings.idle) ?? checkSegmentSize(verb, id, settings.segmentSize);
  }

  #checkIdle(verb: string, id: ServiceId, idle: IdleRule | undefined): DirectorError | undefined {
    if (idle === undefined) return undefined;
    const { timeoutSeconds, reset } = idle;
    if (!Number.isInteger(timeoutSeconds) || timeoutSeconds < 0 || timeoutSeconds > LONGEST_SILENCE) {
      return refuse('EINVAL', verb, id, `connections may be silent ${timeoutSeconds} s, must be 0..${LONGEST_SILENCE}`);
    }
    if (reset && id.kind === 'address' && id.protocol !== 'tcp') {
      return refuse('EINVAL', verb, id, 'it resets at expiry, which only TCP can');
    }
    return undefined;
  }

  #changeServer(command: Extract<Command, { kind: 'addServer' | 'editServer' | 'deleteServer' }>) {
    const { service: id, server, kind } = command;
    const draft = this.#services.get(serviceKey(id));
    const refuseServer = (code: ErrorCode, reason: string): DirectorError =>
      new DirectorError(code, `Cannot ${kind} ${key} of ${serviceKey(id)}: ${reason}`);
    const key = realServerKey(server);
    if (!draft) return refuseServer('ESRCH', 'there is no such virtual service');
    const servers = serversOf(draft);
    const old = servers.get(key);
    if (kind === 'deleteServer') return servers.delete(key) ? undefined : refuseServer('ENOENT', 'it is not there');

    const wrong = this.#checkServer(command) ?? checkNumbers(command.settings);
    if (wrong) return refuseServer(wrong.code, wrong.reason);
    if (draft.service.onePacket && command.settings.forwarding === 'fullnat') {
      return new DirectorError('EINVAL', `Cannot ${kind} ${realServerKey(server)}: ${ONE_PACKET_FULLNAT}`, true);
    }
    if (kind === 'editServer' && !old) return refuseServer('ENOENT', 'it is not there');
    if (kind === 'addServer' && old) return refuseServer('EEXIST', 'it is there already');
    if (!old && !this.#environment.mayBeRealServer(server.address)) {
      return refuseServer('EINVAL', `the address is ${addressKind(server.address)}, must be unicast`);
    }
    servers.set(key, withSettings(old ?? newServer(server.address, server.port), command.settings));
    return undefined;
  }

  /** Only a tunnel and NAT64 lead into the other family, and sync messages cannot say so: one excludes the other. */
  #checkServer(command: Pick<EditServer, 'service' | 'server' | 'settings'>): Wrong | undefined {
    if (familyOf(command.server.address) === command.service.family) return undefined;
    if (!mayCross(command.settings.forwarding, command.service.family)) {
      return wrong('EINVAL', 'only a tunnel may lead into the other family, and FULLNAT from IPv6 to IPv4');
    }
    return this.#daemons.length > 0 ? wrong('EINVAL', 'a sync daemon runs, which knows one family only') : undefined;
  }

  #changeLocalAddresses(kind: 'addLocalAddress' | 'deleteLocalAddress', id: ServiceId, address: Address) {
    const draft = this.#services.get(serviceKey(id));
    if (!draft) return refuse('ESRCH', 'change local addresses of', id, 'there is no such virtual service');
    const family = familyOf(address);
    if (family !== id.family && !mayCross('fullnat', id.family)) {
      const reason = `${address} is of another family, must be of the service's own`;
      return new DirectorError('EINVAL', `Cannot change local addresses of ${serviceKey(id)}: ${reason}`, true);
    }
    const others = draft.service.localAddresses.filter((other) => other !== address);
    const known = others.length < draft.service.localAddresses.length;
    if (kind === 'addLocalAddress' && known) return refuse('EEXIST', 'add a local address to', id, `it has ${address}`);
    if (kind === 'deleteLocalAddress' && !known) {
      return refuse('ENOENT', 'delete a local address of', id, `it does not have ${address}`);
    }
    const localAddresses = kind === 'addLocalAddress' ? [...others, address] : others;
    draft.service = { ...draft.service, localAddresses };
    return undefined;
  }

  #zero(id: ServiceId | undefined): DirectorError | undefined {
    const drafts = id ? [this.#services.get(serviceKey(id))] : this.#services.values();
    for (const draft of drafts) {
      if (!draft) return noSuchService('zero', id!);
      const servers = serversOf(draft);
      for (const [key, server] of servers) servers.set(key, { ...server, stats: noFigures, rates: noFigures });
      draft.service = { ...draft.service, stats: noFigures, rates: noFigures };
    }
    return undefined;
  }

  #setTimeouts({ tcp, tcpFin, udp }: Timeouts): DirectorError | undefined {
    const old = this.#timeouts;
    this.#timeouts = { tcp: tcp || old.tcp, tcpFin: tcpFin || old.tcpFin, udp: udp || old.udp };
    return undefined;
  }

  #startDaemon(settings: SyncDaemonSettings): DirectorError | undefined {
    const { role, interfaceName } = settings;
    const refuseDaemon = (code: ErrorCode, reason: string): DirectorError =>
      new DirectorError(code, `Cannot start the sync ${role}: ${reason}`);
    if (this.#mixesFamilies()) return refuseDaemon('EINVAL', 'a real server is of another family than its service');
    const mtu = this.#environment.interfaceMtu(interfaceName);
    if (mtu === undefined) return refuseDaemon('ENODEV', `there is no interface "${interfaceName}"`);
    if (this.#daemons.some((daemon) => daemon.role === role)) return refuseDaemon('EEXIST', 'it runs already');
    const daemon = runningDaemon(settings, mtu);
    this.#daemons = role === 'master' ? [daemon, ...this.#daemons] : [...this.#daemons, daemon];
    return undefined;
  }

  #stopDaemon(role: SyncRole): DirectorError | undefined {
    const others = this.#daemons.filter((daemon) => daemon.role !== role);
    if (others.length === this.#daemons.length) {
      return new DirectorError('ESRCH', `Cannot stop the sync ${role}: it does not run`);
    }
    this.#daemons = others;
    return undefined;
  }

  #setSysctl(name: string, value: string): DirectorError | undefined {
    const text = acceptSysctl(name, value, this.#sysctls.get(name) ?? '');
    if (text instanceof DirectorError) return text;
    const clash = clashOf(name, text, this.#sysctls);
    if (clash !== undefined) {
      const { port, setting } = clash;
      return new DirectorError('EINVAL', `Cannot set ${name} to "${value}": ${port} is in ${setting}, must be in one`);
    }
    this.#sysctls = new Map(this.#sysctls).set(name, text);
    return undefined;
  }

  #mixesFamilies(): boolean {
    for (const draft of this.#services.values()) {
      const servers = draft.servers?.values() ?? draft.service.realServers;
      for (const server of servers) if (server.family !== draft.service.id.family) return true;
    }
    return false;
  }
}

/** `servers` is the index by key, oldest first (a JavaScript Map keeps the place of what is edited); absent until needed. */
interface DraftService {
  service: VirtualService;
  servers: Map<string, RealServer> | undefined;
}

function serversOf(draft: DraftService): Map<string, RealServer> {
  draft.servers ??= new Map([...draft.service.realServers].reverse().map((server) => [realServerKey(server), server]));
  return draft.servers;
}

function finishService(draft: DraftService): VirtualService {
  return draft.servers ? { ...draft.service, realServers: [...draft.servers.values()].reverse() } : draft.service;
}

/** Field by field, as a restore makes hundreds of thousands: copying whole objects over each other takes ten times as long. */
function withSettings(server: Omit<RealServer, keyof RealServerSettings>, settings: RealServerSettings): RealServer {
  return {
    address: server.address,
    port: server.port,
    family: server.family,
    activeConnections: server.activeConnections,
    inactiveConnections: server.inactiveConnections,
    persistentConnections: server.persistentConnections,
    stats: server.stats,
    rates: server.rates,
    forwarding: settings.forwarding,
    weight: settings.weight,
    upperThreshold: settings.upperThreshold,
    lowerThreshold: settings.lowerThreshold,
    tunnel: settings.tunnel,
  };
}

function newServer(address: Address, port: number) {
  return {
    address,
    port,
    family: familyOf(address),
    activeConnections: 0,
    inactiveConnections: 0,
    persistentConnections: 0,
    stats: noFigures,
    rates: noFigures,
  };
}

/** The replies of FULLNAT are only found by their connection. */
const ONE_PACKET_FULLNAT =
  'one-packet scheduling keeps no connections and FULLNAT needs them, must be one or the other';

interface Wrong {
  readonly code: ErrorCode;
  readonly reason: string;
}

function wrong(code: ErrorCode, reason: string): Wrong {
  return { code, reason };
}

function checkNumbers({
  weight,
  upperThreshold: upper,
  lowerThreshold: lower,
  tunnel,
  forwarding,
}: RealServerSettings) {
  if (weight < 0) return wrong('ERANGE', `weight is ${weight}, must be >= 0`);
  if (lower > upper) return wrong('ERANGE', `lower threshold is ${lower}, must be <= ${upper}, the upper`);
  if (upper > 0x7fffffff) return wrong('EINVAL', `upper threshold is ${upper}, must be < 2^31`);
  if (forwarding === 'tunnel' && tunnel.type === 'gue' && tunnel.port === 0) return wrong('EINVAL', 'GUE needs a port');
  return undefined;
}

function wrongWithProxy(id: ServiceId, version: ProxyProtocol | undefined): string | undefined {
  if (version === undefined || id.kind === 'fwmark') return undefined;
  if (id.protocol === 'sctp') return 'it has the PROXY protocol, which SCTP cannot have';
  if (id.protocol === 'udp' && version === 'v1')
    return 'the PROXY protocol v1 has no word for UDP, must be v2 or v2-each';
  if (id.protocol === 'tcp' && version === 'v2-each') return 'the PROXY protocol v2-each is for UDP, must be v1 or v2';
  return undefined;
}

function checkSegmentSize(verb: string, id: ServiceId, size: SegmentSize | undefined): DirectorError | undefined {
  if (size === undefined) return undefined;
  const { least, most } = segmentSizes;
  if (size !== 'auto' && !(Number.isInteger(size) && size >= least && size <= most)) {
    return refuse('EINVAL', verb, id, `segments are of ${size} bytes at most, must be ${least}..${most} or auto`);
  }
  if (id.kind === 'address' && id.protocol !== 'tcp') {
    const reason = 'it limits segments, which only TCP has, must be a service of TCP';
    return new DirectorError('EINVAL', `Cannot ${verb} virtual service ${serviceKey(id)}: ${reason}`, true);
  }
  return undefined;
}

function noSuchService(verb: string, id: ServiceId): DirectorError {
  return refuse('ESRCH', verb, id, 'there is no such virtual service');
}

function refuse(code: ErrorCode, verb: string, id: ServiceId, reason: string): DirectorError {
  return new DirectorError(code, `Cannot ${verb} virtual service ${serviceKey(id)}: ${reason}`);
}
