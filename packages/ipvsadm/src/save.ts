/**
 * `-S`: the table as the commands that would build it. The original forgets thresholds and the order of real servers,
 * and prints marks above 2^31 as it cannot read them; `--complete` says all that. What the original has no words for, FULLNAT
 * and its local addresses, is always saved.
 */
import { fullMask, type RealServer, type VirtualService } from '@ipvsd/director';
import type { Label } from './labels.ts';
import { maskText } from './listing.ts';
import { sortServers, sortServices } from './order.ts';
import { completeSchedulerFlagWords, schedulerFlagWords } from './scheduler-flags.ts';

export interface SaveOptions {
  readonly label: Label;
  readonly complete: boolean;
}

export function formatSave(services: readonly VirtualService[], options: SaveOptions): string {
  let text = '';
  for (const service of sortServices(services)) {
    const name = serviceWords(service, options);
    text += `-A ${name}${settingsWords(service, options)}\n`;
    for (const address of service.localAddresses) text += `-P ${name} -z ${address}\n`;
    // Each new real server goes to the head of the list, so a complete save begins with the oldest.
    const servers = options.complete ? service.realServers.toReversed() : sortServers(service.realServers);
    for (const server of servers) text += `-a ${name} ${serverWords(server, service, options)}\n`;
  }
  return text;
}

const serviceOption = { tcp: '-t', udp: '-u', sctp: '--sctp-service' } as const;

function serviceWords({ id }: VirtualService, { label, complete }: SaveOptions): string {
  if (id.kind === 'address') return `${serviceOption[id.protocol]} ${label(id.address, id.port, id.protocol)}`;
  return `-f ${complete ? id.fwmark : id.fwmark | 0}${id.family === 'ipv6' ? ' -6' : ''}`;
}

function settingsWords({ id, ...service }: VirtualService, { complete }: SaveOptions): string {
  const { scheduler, schedulerFlags, persistence, persistenceEngine } = service;
  let words = ` -s ${scheduler}`;
  if (persistence) {
    words += ` -p ${persistence.timeoutSeconds}`;
    if (persistence.netmask !== fullMask[id.family]) words += ` -M ${maskText(id.family, persistence.netmask)}`;
  }
  if (persistenceEngine) words += ` --pe ${persistenceEngine}`;
  if (service.onePacket) words += ' -o';
  if (service.proxyProtocol) words += ` --proxy-protocol ${service.proxyProtocol}`;
  if (service.segmentSize) words += ` --mss ${service.segmentSize}`;
  if (service.idle?.timeoutSeconds) words += ` --conn-timeout ${service.idle.timeoutSeconds}`;
  if (service.idle?.reset) words += ' --reset-at-expiry';
  if (schedulerFlags === 0) return words;
  return `${words} -b ${(complete ? completeSchedulerFlagWords : schedulerFlagWords)(scheduler, schedulerFlags)}`;
}

/** A real server on this host is saved as direct routing: no option says "local". */
const forwardingOption = { masq: '-m', local: '-g', tunnel: '-i', route: '-g', fullnat: '--fullnat' } as const;
const checksumOption = { none: '--tun-nocsum', full: '--tun-csum', remote: '--tun-remcsum' } as const;

function serverWords(server: RealServer, { id }: VirtualService, { label, complete }: SaveOptions): string {
  const name = label(server.address, server.port, id.kind === 'address' ? id.protocol : null);
  let words = `-r ${name} ${forwardingOption[server.forwarding]} -w ${server.weight}`;
  if (complete && server.upperThreshold !== 0) words += ` -x ${server.upperThreshold}`;
  if (complete && server.lowerThreshold !== 0) words += ` -y ${server.lowerThreshold}`;
  if (server.forwarding !== 'tunnel') return words;
  const { type, port, checksum } = server.tunnel;
  words += ` --tun-type ${type}`;
  if (type === 'gue') words += ` --tun-port ${port}`;
  return type === 'ipip' ? words : `${words} ${checksumOption[checksum]}`;
}
