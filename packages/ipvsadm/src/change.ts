/** An entry that changes the table, as the director's command and the operation its refusal is worded by. */
import type { Command, RealServerSettings, ServiceId, ServiceSettings } from '@ipvsd/director';
import type { Entry } from './entry.ts';
import type { Operation } from './messages.ts';
import { defaults } from './options.ts';

export interface Change {
  readonly command: Command;
  readonly operation: Operation;
}

/** Undefined for entries that only show something. */
export function changeOf(entry: Entry): Change | undefined {
  const service = serviceId(entry);
  const server = { address: entry.server.address, port: entry.server.port };
  switch (entry.command.name) {
    case 'add-service':
      return { operation: 'add-service', command: { kind: 'addService', service, settings: serviceSettings(entry) } };
    case 'edit-service':
      return { operation: 'service', command: { kind: 'editService', service, settings: serviceSettings(entry) } };
    case 'delete-service':
      return { operation: 'service', command: { kind: 'deleteService', service } };
    case 'flush':
      return { operation: 'other', command: { kind: 'flush' } };
    case 'add-server':
      return {
        operation: 'add-server',
        command: { kind: 'addServer', service, server, settings: serverSettings(entry) },
      };
    case 'edit-server':
      return { operation: 'server', command: { kind: 'editServer', service, server, settings: serverSettings(entry) } };
    case 'delete-server':
      return { operation: 'server', command: { kind: 'deleteServer', service, server } };
    case 'zero':
      return { operation: 'service', command: { kind: 'zero', ...(entry.seen.has('service-address') && { service }) } };
    case 'set':
      return { operation: 'other', command: { kind: 'setTimeouts', timeouts: entry.timeouts } };
    case 'start-daemon':
      return { operation: 'start-daemon', command: { kind: 'startDaemon', daemon: daemonSettings(entry) } };
    case 'stop-daemon':
      return { operation: 'stop-daemon', command: { kind: 'stopDaemon', role: entry.daemon.role } };
    case 'add-laddr':
      return { operation: 'local-address', command: { kind: 'addLocalAddress', service, address: entry.localAddress } };
    case 'del-laddr':
      return {
        operation: 'local-address',
        command: { kind: 'deleteLocalAddress', service, address: entry.localAddress },
      };
    default:
      return undefined;
  }
}

export function serviceId({ service }: Entry): ServiceId {
  const family = service.family ?? 'ipv4';
  if (service.fwmark !== 0) return { kind: 'fwmark', family, fwmark: service.fwmark };
  const { address, port } = service;
  return { kind: 'address', family, protocol: service.protocol ?? 'tcp', address, port };
}

function serviceSettings({ service }: Entry): ServiceSettings {
  const { scheduler, schedulerFlags, persistenceSeconds, netmask, persistenceEngine, onePacket } = service;
  const idle = { timeoutSeconds: service.connectionTimeoutSeconds, reset: service.resetAtExpiry };
  return {
    scheduler,
    schedulerFlags,
    persistence: persistenceSeconds === null ? null : { timeoutSeconds: persistenceSeconds, netmask },
    persistenceEngine: persistenceEngine || null,
    onePacket,
    ...(service.proxyProtocol && { proxyProtocol: service.proxyProtocol }),
    ...(service.segmentSize && { segmentSize: service.segmentSize }),
    ...((idle.timeoutSeconds !== 0 || idle.reset) && { idle }),
  };
}

function serverSettings({ server }: Entry): RealServerSettings {
  return {
    forwarding: server.forwarding,
    weight: server.weight,
    upperThreshold: server.upperThreshold,
    lowerThreshold: server.lowerThreshold,
    tunnel: { type: server.tunnelType, port: server.tunnelPort, checksum: server.tunnelChecksum },
  };
}

function daemonSettings({ daemon }: Entry) {
  return { ...daemon, interfaceName: daemon.interfaceName || defaults.interfaceName };
}
