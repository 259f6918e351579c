/**
 * The listings of `-L`, byte for byte: two title lines, then a line per virtual service and one per real server. A
 * `Layout` is one set of columns; asked for several, the original shows the first of this order and forgets the others.
 */
import { fullMask, ipv4FromNumber, type RealServer, type Stats, type VirtualService } from '@ipvsd/director';
import type { Label } from './labels.ts';
import type { OptionName } from './options.ts';
import { sortServers, sortServices } from './order.ts';
import { schedulerFlagWords } from './scheduler-flags.ts';

export interface ListingOptions {
  readonly label: Label;
  /** Columns, `exact` and `nosort`. */
  readonly shown: ReadonlySet<OptionName>;
}

export function versionLine(connectionTableSize: number): string {
  return `IP Virtual Server version 1.2.1 (size=${connectionTableSize})\n`;
}

export function formatListing(services: readonly VirtualService[], { label, shown }: ListingOptions): string {
  const layout = layoutFor(shown);
  const large: LargeNumber = shown.has('exact') ? exactNumber : shortNumber;
  const sorted = !shown.has('nosort');
  let text = layout.titles;
  for (const service of sorted ? sortServices(services) : services) {
    text += `${layout.service(serviceName(service, label), service, large)}\n`;
    for (const server of sorted ? sortServers(service.realServers) : service.realServers) {
      text += `  -> ${serverName(server, service, label).padEnd(28)}${layout.server(server, large)}\n`;
    }
  }
  return text;
}

interface Layout {
  readonly titles: string;
  service(name: string, service: VirtualService, large: LargeNumber): string;
  /** The columns after the name. */
  server(server: RealServer, large: LargeNumber): string;
}

type LargeNumber = (value: bigint) => string;

const figureTitles = (...titles: readonly string[]): string =>
  `Prot LocalAddress:Port            ${titles.map((title) => title.padStart(8)).join(' ')}\n  -> RemoteAddress:Port\n`;

const plain: Layout = {
  titles:
    'Prot LocalAddress:Port Scheduler Flags\n' +
    '  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n',
  service: settingsLine,
  server: (server) =>
    columns([forwardingNames[server.forwarding], 7], [server.weight, 6], ...connectionColumns(server)),
};

const stats: Layout = {
  titles: figureTitles('Conns', 'InPkts', 'OutPkts', 'InBytes', 'OutBytes'),
  service: (name, { stats }, large) => name.padEnd(33) + figures(stats).map(large).join(''),
  server: ({ stats }, large) => figures(stats).map(large).join(''),
};

const rate: Layout = {
  titles: figureTitles('CPS', 'InPPS', 'OutPPS', 'InBPS', 'OutBPS'),
  service: (name, { rates }, large) => name.padEnd(33) + figures(rates).map(large).join(''),
  // A real server's connections and packets per second are never shortened; only its bytes are.
  server: ({ rates }, large) => {
    const [connections, inPackets, outPackets, ...bytes] = figures(rates);
    const small = [connections, inPackets, outPackets].map((value) => ` ${String(value).padStart(8)}`);
    return [...small, ...bytes.map(large)].join('');
  },
};

const thresholds: Layout = {
  titles: 'Prot LocalAddress:Port            Uthreshold Lthreshold ActiveConn InActConn \n  -> RemoteAddress:Port\n',
  service: settingsLine,
  server: (server) => columns([server.upperThreshold, 10], [server.lowerThreshold, 10], ...connectionColumns(server)),
};

const persistentConnections: Layout = {
  titles: 'Prot LocalAddress:Port            Weight    PersistConn ActiveConn InActConn \n  -> RemoteAddress:Port\n',
  service: settingsLine,
  server: (server) => columns([server.weight, 9], [server.persistentConnections, 11], ...connectionColumns(server)),
};

const tunnels: Layout = {
  titles:
    'Prot LocalAddress:Port Scheduler Flags\n' +
    '  -> RemoteAddress:Port           Forward TunnelInfo    Weight ActiveConn InActConn\n',
  service: settingsLine,
  server: (server) =>
    columns(
      [forwardingNames[server.forwarding], 7],
      [tunnelInfo(server), 13],
      [server.weight, 6],
      ...connectionColumns(server),
    ),
};

function layoutFor(shown: ReadonlySet<OptionName>): Layout {
  if (shown.has('stats')) return stats;
  if (shown.has('rate')) return rate;
  if (shown.has('thresholds')) return thresholds;
  if (shown.has('persistent-conn')) return persistentConnections;
  return shown.has('tun-info') ? tunnels : plain;
}

export const forwardingNames = {
  masq: 'Masq',
  local: 'Local',
  tunnel: 'Tunnel',
  route: 'Route',
  fullnat: 'FullNat',
} as const;

/** Marks are printed as signed numbers; a name in IPv4 fills its columns and no more. */
function serviceName({ id }: VirtualService, label: Label): string {
  if (id.kind === 'fwmark') return `FWM  ${id.fwmark | 0}${id.family === 'ipv6' ? ' IPv6' : ''}`;
  const name = `${id.protocol.toUpperCase().padEnd(4)} ${label(id.address, id.port, id.protocol)}`;
  return id.family === 'ipv4' ? name.slice(0, 33) : name;
}

function serverName({ address, port, family }: RealServer, { id }: VirtualService, label: Label): string {
  const name = label(address, port, id.kind === 'address' ? id.protocol : null);
  return family === 'ipv4' ? name.slice(0, 28) : name;
}

function settingsLine(name: string, { id, ...service }: VirtualService): string {
  const { scheduler, schedulerFlags, persistence, persistenceEngine } = service;
  let line = `${name} ${scheduler}`;
  if (schedulerFlags !== 0) line += ` (${schedulerFlagWords(scheduler, schedulerFlags)})`;
  if (persistence) {
    line += ` persistent ${persistence.timeoutSeconds}`;
    if (persistence.netmask !== fullMask[id.family]) line += ` mask ${maskText(id.family, persistence.netmask)}`;
    if (persistenceEngine) line += ` pe ${persistenceEngine}`;
  }
  if (service.onePacket) line += ' ops';
  if (service.proxyProtocol) line += ` proxy-protocol ${service.proxyProtocol}`;
  if (service.segmentSize) line += ` mss ${service.segmentSize}`;
  if (service.idle?.timeoutSeconds) line += ` conn-timeout ${service.idle.timeoutSeconds}`;
  return service.idle?.reset ? `${line} reset-at-expiry` : line;
}

export function maskText(family: 'ipv4' | 'ipv6', netmask: number): string {
  return family === 'ipv4' ? ipv4FromNumber(netmask) : String(netmask);
}

function tunnelInfo({ forwarding, tunnel: { type, port, checksum } }: RealServer): string {
  if (forwarding !== 'tunnel') return 'n/a';
  const mark = { none: '-c', full: '+c', remote: 'r+c' }[checksum];
  if (type === 'gue') return `gue:${port}:${mark}`;
  return type === 'gre' ? `gre:${mark}` : 'ipip';
}

type Column = readonly [value: string | number, width: number];

function connectionColumns({ activeConnections, inactiveConnections }: RealServer): Column[] {
  return [
    [activeConnections, 10],
    [inactiveConnections, 10],
  ];
}

/** Left-aligned, the last one too: lines end in blanks. */
function columns(...cells: readonly Column[]): string {
  return cells.map(([value, width]) => ` ${String(value).padEnd(width)}`).join('');
}

function figures(stats: Stats): [bigint, bigint, bigint, bigint, bigint] {
  return [stats.connections, stats.inPackets, stats.outPackets, stats.inBytes, stats.outBytes];
}

/** Nine columns wide: up to eight digits in full, then cut to thousands, millions and so on without rounding. */
function shortNumber(value: bigint): string {
  if (value < 100_000_000n) return String(value).padStart(9);
  const units: readonly [limit: bigint, divisor: bigint, unit: string][] = [
    [1_000_000_000n, 1_000n, 'K'],
    [100_000_000_000n, 1_000_000n, 'M'],
    [100_000_000_000_000n, 1_000_000_000n, 'G'],
  ];
  const [, divisor, unit] = units.find(([limit]) => value < limit) ?? [0n, 1_000_000_000_000n, 'T'];
  return String(value / divisor).padStart(8) + unit;
}

function exactNumber(value: bigint): string {
  const digits = String(value);
  return digits.padStart(digits.length > 8 ? digits.length + 1 : 9);
}
