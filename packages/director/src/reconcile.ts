/**
 * The way from one table to another. Every configuration source says what it wants, and this says the fewest steps from
 * what is there: services and real servers that stay keep their connections and figures, because they are changed in
 * place and never deleted and added again.
 */
import type { Command } from './command.ts';
import {
  type RealServer,
  type RealServerId,
  type RealServerSettings,
  realServerKey,
  type ServiceId,
  type ServiceSettings,
  type VirtualService,
} from './model.ts';
import type { ServiceTable } from './service-table.ts';

export type Step = Command | OrderServers;

/** Puts the real servers in this order, newest first. No command says this: only a plane that restores a table needs it. */
export interface OrderServers {
  readonly kind: 'orderServers';
  readonly service: ServiceId;
  readonly order: readonly RealServerId[];
}

/** Deletions first, so that what they free (a local address, a daemon's role) is free for what is added. */
export function reconcile(wanted: ServiceTable, actual: ServiceTable): Step[] {
  const steps: Step[] = [];
  for (const [key, service] of actual.services) {
    if (!wanted.services.has(key)) steps.push({ kind: 'deleteService', service: service.id });
  }
  steps.push(...reconcileSyncDaemonsToStop(wanted, actual));
  for (const [key, service] of wanted.services) steps.push(...reconcileService(service, actual.services.get(key)));
  steps.push(...reconcileSettings(wanted, actual));
  return steps;
}

export function reconcileService(wanted: VirtualService, actual: VirtualService | undefined): Step[] {
  const service = wanted.id;
  const settings = settingsOf(wanted);
  const steps: Step[] = [];
  if (!actual) steps.push({ kind: 'addService', service, settings });
  else if (!sameSettings(settings, settingsOf(actual))) steps.push({ kind: 'editService', service, settings });
  steps.push(...reconcileLocalAddresses(wanted, actual?.localAddresses ?? []));
  steps.push(...reconcileServers(wanted, actual?.realServers ?? []));
  return steps;
}

function reconcileServers({ id: service, realServers: wanted }: VirtualService, actual: readonly RealServer[]): Step[] {
  const steps: Step[] = [];
  const wantedKeys = new Set(wanted.map(realServerKey));
  const actualByKey = new Map(actual.map((server) => [realServerKey(server), server]));
  for (const server of actual) {
    if (!wantedKeys.has(realServerKey(server))) steps.push({ kind: 'deleteServer', service, server: idOf(server) });
  }
  // A new real server goes to the head, so the oldest is added first.
  for (const server of wanted.toReversed()) {
    const old = actualByKey.get(realServerKey(server));
    const settings = serverSettingsOf(server);
    if (!old) steps.push({ kind: 'addServer', service, server: idOf(server), settings });
    else if (!sameFields(settings, serverSettingsOf(old))) {
      steps.push({ kind: 'editServer', service, server: idOf(server), settings });
    }
  }
  const added = wanted.filter((server) => !actualByKey.has(realServerKey(server)));
  const kept = actual.filter((server) => wantedKeys.has(realServerKey(server)));
  const inOrder = [...added, ...kept].every((server, i) => realServerKey(server) === realServerKey(wanted[i]!));
  if (!inOrder) steps.push({ kind: 'orderServers', service, order: wanted.map(idOf) });
  return steps;
}

/** The rotation has no order worth a step of its own: what differs is dropped and added at the end. */
function reconcileLocalAddresses({ id: service, localAddresses }: VirtualService, actual: readonly string[]): Step[] {
  let same = 0;
  while (same < actual.length && actual[same] === localAddresses[same]) same++;
  return [
    ...actual.slice(same).map((address): Step => ({ kind: 'deleteLocalAddress', service, address })),
    ...localAddresses.slice(same).map((address): Step => ({ kind: 'addLocalAddress', service, address })),
  ];
}

function reconcileSyncDaemonsToStop(wanted: ServiceTable, actual: ServiceTable): Step[] {
  return actual.daemons
    .filter((daemon) => !wanted.daemons.some((other) => sameFields(daemon, other)))
    .map(({ role }) => ({ kind: 'stopDaemon', role }));
}

function reconcileSettings(wanted: ServiceTable, actual: ServiceTable): Step[] {
  const steps: Step[] = [];
  if (!sameFields(wanted.timeouts, actual.timeouts)) steps.push({ kind: 'setTimeouts', timeouts: wanted.timeouts });
  for (const [name, value] of wanted.sysctls) {
    if (actual.sysctls.get(name) !== value) steps.push({ kind: 'setSysctl', name, value });
  }
  for (const daemon of wanted.daemons) {
    if (!actual.daemons.some((other) => sameFields(daemon, other))) steps.push({ kind: 'startDaemon', daemon });
  }
  return steps;
}

export function settingsOf(service: VirtualService): ServiceSettings {
  const { scheduler, schedulerFlags, persistence, persistenceEngine, onePacket } = service;
  const { proxyProtocol, idle, segmentSize } = service;
  const more = { ...(proxyProtocol && { proxyProtocol }), ...(idle && { idle }), ...(segmentSize && { segmentSize }) };
  return { scheduler, schedulerFlags, persistence, persistenceEngine, onePacket, ...more };
}

/** What only one of them says is a difference too. */
const sameSettings = (a: ServiceSettings, b: ServiceSettings): boolean => sameFields(a, b) && sameFields(b, a);

export function serverSettingsOf(server: RealServer): RealServerSettings {
  const { forwarding, weight, upperThreshold, lowerThreshold, tunnel } = server;
  return { forwarding, weight, upperThreshold, lowerThreshold, tunnel };
}

function idOf({ address, port }: RealServer): RealServerId {
  return { address, port };
}

/** Equality of plain settings, one level of nesting deep (persistence, tunnel). */
function sameFields(a: object, b: object): boolean {
  const other = b as Record<string, unknown>;
  return Object.entries(a).every(([name, value]) => {
    const theirs = other[name];
    if (value === null || theirs === null || typeof value !== 'object') return value === theirs;
    return typeof theirs === 'object' && sameFields(value, theirs);
  });
}
