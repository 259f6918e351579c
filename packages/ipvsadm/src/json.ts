/**
 * `--json`: the same facts in the words of the model, every figure in each listing. Figures are JSON numbers, exact to
 * 2^53; the connection list is an array written one element at a time.
 */
import type { ConnectionEntry, Director, RealServer, VirtualService } from '@ipvsd/director';
import { maskText } from './listing.ts';
import { sortServers, sortServices } from './order.ts';
import { completeSchedulerFlagWords } from './scheduler-flags.ts';

export function toJson(value: unknown): string {
  return `${JSON.stringify(value, (_, each: unknown) => (typeof each === 'bigint' ? Number(each) : each), 2)}\n`;
}

export function tableJson(director: Director): string {
  const services = sortServices([...director.table().services.values()]);
  return toJson({ connectionTableSize: director.connectionTableSize, services: services.map(serviceValue) });
}

export function serviceJson(service: VirtualService): string {
  return toJson(serviceValue(service));
}

export function localAddressesJson(services: readonly VirtualService[]): string {
  return toJson(sortServices(services).map(({ id, localAddresses }) => ({ ...id, localAddresses })));
}

export function* connectionsJson(connections: Iterable<ConnectionEntry>): Generator<string> {
  let separator = '[';
  for (const entry of connections) {
    yield `${separator}\n${JSON.stringify(entry)}`;
    separator = ',';
  }
  yield separator === '[' ? '[]\n' : '\n]\n';
}

function serviceValue({ id, schedulerFlags, persistence, realServers, ...service }: VirtualService) {
  const flags = completeSchedulerFlagWords(service.scheduler, schedulerFlags);
  return {
    ...id,
    ...service,
    schedulerFlags: flags === '' ? [] : flags.split(','),
    persistence: persistence && { ...persistence, netmask: maskText(id.family, persistence.netmask) },
    realServers: sortServers(realServers).map(serverValue),
  };
}

function serverValue({ tunnel, ...server }: RealServer) {
  return server.forwarding === 'tunnel' ? { ...server, tunnel } : server;
}
