/**
 * What the health of our virtual servers wants the director to hold, and the fewest commands that make it so. Only
 * services that are or were ours are looked at: what an operator added beside us with ipvsadm stays.
 */
import {
  type Address,
  type Command,
  type Director,
  type ForwardingMethod,
  familyOf,
  noFigures,
  realServerKey,
  reconcileService,
  type ServiceId,
  serviceKey,
  type VirtualService,
} from '@ipvsd/director';
import type { Placed, ServiceHealth } from './health/service-health.ts';
import type { Destination, VirtualServer } from './model/configuration.ts';
import { mapsPorts } from './model/resolve.ts';

/** A change of nothing else costs one look-up, whatever the size of the table. */
export function commandsFor(health: ServiceHealth, director: Pick<Director, 'service'>, nowMs = 0): Command[] {
  const placed = health.placed(nowMs);
  return health.virtualServer.services.flatMap((id) => {
    const wanted = wantedService(id, health, placed);
    // The order of real servers is the director's own: no command says it.
    return reconcileService(wanted, director.service(id)).filter((step) => step.kind !== 'orderServers');
  });
}

/** Deletes those of `gone` that are still there; their real servers go with them. */
export function commandsToDelete(gone: Iterable<ServiceId>, director: Pick<Director, 'service'>): Command[] {
  return [...gone]
    .filter((service) => director.service(service) !== undefined)
    .map((service) => ({ kind: 'deleteService', service }));
}

export function wantedService(
  id: ServiceId,
  { virtualServer }: ServiceHealth,
  placed: readonly Placed[],
): VirtualService {
  const servers = new Map<string, VirtualService['realServers'][number]>();
  for (const { destination, settings } of placed) {
    const { address } = destination;
    const port = portFor(id, destination.port, settings.forwarding);
    // Real servers that differ only in a port the service forces upon them are one.
    servers.set(realServerKey({ address, port }), {
      address,
      port,
      ...settings,
      family: familyOf(address),
      activeConnections: 0,
      inactiveConnections: 0,
      persistentConnections: 0,
      stats: noFigures,
      rates: noFigures,
    });
  }
  return {
    id,
    ...virtualServer.settings,
    realServers: [...servers.values()].reverse(),
    localAddresses: localAddressesOf(id, virtualServer),
    stats: noFigures,
    rates: noFigures,
  };
}

/** Those of the service's own family, and of the other where it has real servers there (NAT64), alive or not. */
function localAddressesOf(
  id: ServiceId,
  { localAddresses, realServers, sorryServer }: VirtualServer,
): readonly Address[] {
  const all: readonly Destination[] = sorryServer === undefined ? realServers : [...realServers, sorryServer];
  const served = all.filter(({ settings }) => settings.forwarding === 'fullnat');
  const families = new Set([id.family, ...served.map(({ address }) => familyOf(address))]);
  return localAddresses.filter((address) => families.has(familyOf(address)));
}

/** Each member of a group has its own port, which DR and TUN cannot change and NAT takes where none is configured. */
function portFor(id: ServiceId, port: number, forwarding: ForwardingMethod): number {
  const servicePort = id.kind === 'address' ? id.port : 0;
  return mapsPorts(forwarding) && port !== 0 ? port : servicePort;
}

export function serviceKeys(healths: Iterable<ServiceHealth>): Map<string, ServiceId> {
  const found = new Map<string, ServiceId>();
  for (const { virtualServer } of healths) for (const id of virtualServer.services) found.set(serviceKey(id), id);
  return found;
}
