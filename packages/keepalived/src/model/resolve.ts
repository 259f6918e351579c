/**
 * Drafts to a configuration: defaults, inheritance, and the corrections keepalived makes, each with its diagnostic.
 * Nothing here is fatal; what makes no sense is left out and said.
 */
import {
  type Address,
  type Family,
  type ForwardingMethod,
  familyOf,
  fullMask,
  mayCross,
  plainTunnel,
  type ServiceId,
  serviceKey,
} from '@ipvsd/director';
import { type Diagnostic, type DiagnosticCode, diagnose } from '../conf/diagnostics.ts';
import type { Position } from '../conf/source.ts';
import type { Configuration, GlobalSettings, RealServer, SorryServer, VirtualServer } from './configuration.ts';
import type { Drafts, GlobalDraft, GroupDraft, Method, RealServerDraft, VirtualServerDraft } from './draft.ts';
import { resolveCheck } from './resolve-check.ts';

export interface Resolved {
  readonly configuration: Configuration;
  readonly diagnostics: readonly Diagnostic[];
}

export type Complain = (code: DiagnosticCode, position: Position, ...words: readonly string[]) => void;

const DEFAULT_PERSISTENCE_SECONDS = 360;
const NAT: Method = { forwarding: 'masq', tunnel: plainTunnel };

export function resolve(drafts: Drafts): Resolved {
  const diagnostics: Diagnostic[] = [];
  const complain: Complain = (code, position, ...words) => diagnostics.push(diagnose(code, position, ...words));
  const seen = new Map<string, Position>();
  const virtualServers: VirtualServer[] = [];
  for (const draft of drafts.virtualServers) {
    const server = resolveVirtualServer(draft, drafts, complain);
    if (server && isNew(server, seen, complain)) virtualServers.push(server);
  }
  const configuration = { global: resolveGlobal(drafts.global), virtualServers, trackFiles: drafts.trackFiles };
  return { configuration, diagnostics };
}

function resolveGlobal(draft: GlobalDraft): GlobalSettings {
  return {
    timeouts: draft.timeouts,
    syncDaemon: draft.syncDaemon,
    flushAtStart: draft.flushAtStart ?? false,
    flushAtStop: draft.flushAtStop ?? 'no',
    scriptUser: draft.scriptUser,
    notifyFifo: draft.notifyFifo,
    lvsNotifyFifo: draft.lvsNotifyFifo,
    initNotifies: draft.initNotifies ?? false,
    reloadCheck: draft.reloadCheck ?? false,
    scriptSecurity: draft.scriptSecurity ?? false,
    tls: draft.tls ?? {},
  };
}

/** Two groups may share a member: the first that has it keeps it, as with two services. */
function isNew(server: VirtualServer, seen: Map<string, Position>, complain: Complain): boolean {
  const earlier = server.services.map((id) => seen.get(serviceKey(id))).find((position) => position !== undefined);
  if (earlier) {
    complain('duplicateService', server.position, server.name, `${earlier.file}:${earlier.line}`);
    return false;
  }
  for (const id of server.services) seen.set(serviceKey(id), server.position);
  return true;
}

function resolveVirtualServer(
  draft: VirtualServerDraft,
  drafts: Drafts,
  complain: Complain,
): VirtualServer | undefined {
  const { position, target } = draft;
  const group = target.kind === 'group' ? drafts.groups.get(target.group) : undefined;
  if (target.kind === 'group' && group === undefined) {
    complain('noSuchGroup', position, target.group);
    return undefined;
  }
  const protocol = draft.protocol ?? 'udp';
  const name = nameOf(draft, protocol);
  if (draft.realServers.length === 0) {
    complain('noRealServers', position, name);
    return undefined;
  }
  if (draft.protocol === undefined && target.kind !== 'fwmark') complain('protocolDefault', position, name);
  if (draft.protocol !== undefined && target.kind === 'fwmark') complain('fwmarkProtocol', position, name);
  if (draft.scheduler === undefined) complain('schedulerDefault', position, name);
  if (draft.method === undefined && !draft.realServers.every(({ method }) => method))
    complain('methodDefault', position, name);
  const services = servicesOf(draft, group, protocol);
  const [first] = services;
  if (first === undefined) {
    complain('emptyGroup', position, name);
    return undefined;
  }
  const realServers = resolveServers(draft, drafts, services, name, complain);
  const quorum = resolveQuorum(draft, realServers, name, complain);
  return {
    name,
    services,
    settings: {
      scheduler: draft.scheduler ?? 'wlc',
      schedulerFlags: draft.schedulerFlags ?? 0,
      persistence: resolvePersistence(draft, services, name, complain),
      persistenceEngine: draft.persistenceEngine ?? null,
      onePacket: resolveOnePacket(draft, protocol, name, complain),
      ...(draft.proxyProtocol && { proxyProtocol: draft.proxyProtocol }),
      ...resolveSegmentSize(draft, protocol, name, complain),
      ...(draft.idle && { idle: draft.idle }),
    },
    realServers,
    localAddresses: resolveLocalAddresses(draft, drafts, realServers, name, complain),
    sorryServer: resolveSorryServer(draft, services),
    ...quorum,
    quorumUp: draft.quorumUp,
    quorumDown: draft.quorumDown,
    omega: draft.omega ?? false,
    haSuspend: resolveSuspend(draft, services, name, complain),
    load: draft.load,
    slowStartMs: draft.slowStartMs,
    position,
  };
}

function resolveLocalAddresses(
  { localGroup, position }: VirtualServerDraft,
  { localGroups }: Drafts,
  realServers: readonly RealServer[],
  name: string,
  complain: Complain,
): readonly Address[] {
  const found = localGroup === undefined ? [] : localGroups.get(localGroup);
  if (found === undefined) complain('noSuchLocalGroup', position, localGroup!);
  const addresses = [...new Set(found)];
  const needing = realServers.filter(({ settings }) => settings.forwarding === 'fullnat');
  const families = new Set(needing.map(({ address }) => familyOf(address)));
  for (const family of families) {
    if (addresses.some((address) => familyOf(address) === family)) continue;
    complain('noLocalAddress', position, name, family === 'ipv4' ? 'IPv4' : 'IPv6');
  }
  return addresses;
}

function nameOf({ target }: VirtualServerDraft, protocol: string): string {
  if (target.kind === 'fwmark') return `FWM ${target.fwmark}`;
  return target.kind === 'group' ? `[${target.group}]:0` : `[${target.address}]:${protocol}:${target.port}`;
}

function servicesOf(
  draft: VirtualServerDraft,
  group: GroupDraft | undefined,
  protocol: 'tcp' | 'udp' | 'sctp',
): ServiceId[] {
  const { target } = draft;
  if (target.kind === 'fwmark') return [{ kind: 'fwmark', family: fwmarkFamily(draft), fwmark: target.fwmark }];
  if (target.kind === 'address') return [addressService(target.address, target.port)];
  return (group?.members ?? []).flatMap((member): ServiceId[] =>
    member.kind === 'fwmark'
      ? [{ kind: 'fwmark', family: member.family ?? fwmarkFamily(draft), fwmark: member.fwmark }]
      : member.addresses.map((address) => addressService(address, member.port)),
  );
  function addressService(address: string, port: number): ServiceId {
    return { kind: 'address', family: familyOf(address), protocol, address, port };
  }
}

/** A mark has no address to tell its family: real servers tell it, but those that may be of another only if all agree. */
function fwmarkFamily(draft: VirtualServerDraft): Family {
  const direct = draft.realServers.find((server) => !mayCross(methodOf(server, draft).forwarding, 'ipv6'));
  if (direct) return familyOf(direct.address);
  if (draft.family) return draft.family;
  return draft.realServers.every(({ address }) => familyOf(address) === 'ipv6') ? 'ipv6' : 'ipv4';
}

function methodOf(server: RealServerDraft, draft: VirtualServerDraft): Method {
  return server.method ?? draft.method ?? NAT;
}

function resolveServers(
  draft: VirtualServerDraft,
  drafts: Drafts,
  services: readonly ServiceId[],
  service: string,
  complain: Complain,
): RealServer[] {
  const found = new Map<string, RealServer>();
  for (const server of draft.realServers) {
    const method = methodOf(server, draft);
    const port = portOf(server, method, services, complain);
    const name = `[${server.address}]:${draft.protocol ?? 'udp'}:${port}`;
    const family = familyOf(server.address);
    if (services.some((id) => id.family !== family && !mayCross(method.forwarding, id.family))) {
      complain('familyMismatch', server.position, name, services[0]!.family === 'ipv4' ? 'IPv4' : 'IPv6');
    } else if (found.has(name)) complain('duplicateServer', server.position, name, service);
    else found.set(name, resolveServer({ ...server, port }, draft, drafts, method, name, complain));
  }
  return [...found.values()];
}

/** NAT of either kind may deliver to another port than the service's. */
export const mapsPorts = (forwarding: ForwardingMethod): boolean => forwarding === 'masq' || forwarding === 'fullnat';

/** DR and TUN deliver to the port the client named, whatever is configured; so does every service of a group. */
function portOf(
  server: RealServerDraft,
  { forwarding }: Method,
  services: readonly ServiceId[],
  complain: Complain,
): number {
  const ports = new Set(services.map((id) => (id.kind === 'address' ? id.port : 0)));
  const [only = 0] = ports;
  if (ports.size > 1) return mapsPorts(forwarding) ? server.port : 0;
  if (mapsPorts(forwarding)) return server.port === 0 ? only : server.port;
  if (server.port !== 0 && server.port !== only)
    complain('portForced', server.position, `[${server.address}]:${server.port}`, String(only));
  return only;
}

function resolveServer(
  server: RealServerDraft,
  draft: VirtualServerDraft,
  drafts: Drafts,
  method: Method,
  name: string,
  complain: Complain,
): RealServer {
  const weight = server.weight ?? draft.weight ?? 1;
  const checks = server.checks.flatMap((check) => {
    const inherited = { ...withoutUndefined(draft), ...withoutUndefined(server) };
    return resolveCheck(check, { inherited, server, draft, drafts, weight, name }, complain);
  });
  return {
    name,
    address: server.address,
    port: server.port,
    settings: {
      ...method,
      weight,
      upperThreshold: server.upperThreshold ?? 0,
      lowerThreshold: server.lowerThreshold ?? 0,
    },
    inhibitOnFailure: server.inhibitOnFailure ?? draft.inhibitOnFailure ?? false,
    notifyUp: server.notifyUp,
    notifyDown: server.notifyDown,
    checks,
    position: server.position,
  };
}

const INHERITED = ['alpha', 'connectTimeoutMs', 'retry', 'delayBeforeRetryMs', 'warmupMs', 'delayLoopMs'] as const;

function withoutUndefined(draft: VirtualServerDraft | RealServerDraft) {
  return Object.fromEntries(INHERITED.filter((name) => draft[name] !== undefined).map((name) => [name, draft[name]]));
}

function resolveSorryServer(draft: VirtualServerDraft, services: readonly ServiceId[]): SorryServer | undefined {
  const { sorryServer } = draft;
  if (sorryServer === undefined) return undefined;
  const method = draft.sorryMethod ?? draft.method ?? NAT;
  const [first] = services;
  const servicePort = first?.kind === 'address' && services.length === 1 ? first.port : 0;
  const port = mapsPorts(method.forwarding) && sorryServer.port !== 0 ? sorryServer.port : servicePort;
  return {
    name: `[${sorryServer.address}]:${draft.protocol ?? 'udp'}:${port}`,
    address: sorryServer.address,
    port,
    settings: { ...method, weight: 1, upperThreshold: 0, lowerThreshold: 0 },
    inhibit: draft.sorryInhibit ?? false,
  };
}

function resolveQuorum(draft: VirtualServerDraft, servers: readonly RealServer[], name: string, complain: Complain) {
  const total = servers.reduce((sum, { settings }) => sum + settings.weight, 0);
  let quorum = draft.quorum ?? 1;
  // keepalived makes the quorum 0 here and its hysteresis 4294967295; a quorum of 1 says the same, and comes back to life.
  if (total === 0) complain('quorumOfNothing', draft.position, name);
  else if (quorum > total) {
    complain('quorumTooHigh', draft.position, String(quorum), String(total));
    quorum = total;
  }
  let hysteresis = draft.hysteresis ?? 0;
  if (hysteresis >= quorum) {
    complain('hysteresisTooHigh', draft.position, String(hysteresis), String(quorum));
    hysteresis = quorum - 1;
  }
  return { quorum, hysteresis };
}

function resolvePersistence(
  draft: VirtualServerDraft,
  services: readonly ServiceId[],
  name: string,
  complain: Complain,
) {
  const anyPort = services.some((id) => id.kind === 'address' && id.port === 0);
  let timeoutSeconds = draft.persistenceSeconds;
  if (timeoutSeconds === undefined && anyPort) complain('portZero', draft.position, name);
  if (anyPort || draft.persistenceNetmask !== undefined) timeoutSeconds ??= DEFAULT_PERSISTENCE_SECONDS;
  if (timeoutSeconds === undefined) return null;
  return { timeoutSeconds, netmask: draft.persistenceNetmask ?? fullMask[services[0]!.family] };
}

function resolveOnePacket(draft: VirtualServerDraft, protocol: string, name: string, complain: Complain): boolean {
  if (!draft.onePacket) return false;
  if (protocol === 'udp' || draft.target.kind === 'fwmark') return true;
  complain('opsNeedsUdp', draft.position, name);
  return false;
}

function resolveSegmentSize(draft: VirtualServerDraft, protocol: string, name: string, complain: Complain) {
  const { segmentSize } = draft;
  if (segmentSize === undefined) return {};
  if (protocol === 'tcp' || draft.target.kind === 'fwmark') return { segmentSize };
  complain('mssNeedsTcp', draft.position, name);
  return {};
}

function resolveSuspend(
  draft: VirtualServerDraft,
  services: readonly ServiceId[],
  name: string,
  complain: Complain,
): boolean {
  if (!draft.haSuspend) return false;
  if (services.some((id) => id.kind === 'address')) return true;
  complain('suspendFwmark', draft.position, name);
  return false;
}
