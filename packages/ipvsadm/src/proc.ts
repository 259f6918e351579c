/**
 * The files the kernel's ip_vs shows under /proc/net, for tools that read those. Numbers are upper-case hexadecimal,
 * IPv4 addresses host-order integers, times of persistence in clock ticks of 10 ms.
 */
import {
  type Address,
  type ConnectionEntry,
  type Director,
  expandIPv6,
  familyOf,
  type HelpedPort,
  ipv4Number,
  type RealServer,
  type Stats,
  type VirtualService,
} from '@ipvsd/director';
import { forwardingNames, versionLine } from './listing.ts';

const ticksPerSecond = 100;

/** /proc/net/ip_vs. Services come in the table's order and real servers newest first. */
export function formatProcServices(director: Director): string {
  let text =
    versionLine(director.connectionTableSize) +
    'Prot LocalAddress:Port Scheduler Flags\n' +
    '  -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n';
  for (const service of director.table().services.values()) {
    text += `${serviceLine(service)}\n`;
    for (const server of service.realServers) text += `${serverLine(server)}\n`;
  }
  return text;
}

function serviceLine({ id, scheduler, onePacket, persistence }: VirtualService): string {
  const ops = onePacket ? 'ops ' : '';
  let line: string;
  if (id.kind === 'fwmark') line = `FWM  ${hex(id.fwmark, 8)} ${scheduler} ${ops}`;
  else {
    const name = `${id.protocol.toUpperCase()}  ${procAddress(id.address)}:${hex(id.port, 4)} ${scheduler} `;
    line = id.family === 'ipv4' ? `${name}${ops} ` : name;
  }
  if (!persistence) return line;
  const mask = id.family === 'ipv4' ? persistence.netmask : swapBytes(persistence.netmask);
  return `${line}persistent ${persistence.timeoutSeconds * ticksPerSecond} ${hex(mask, 8)}`;
}

function serverLine({ address, port, ...server }: RealServer): string {
  const columns = [
    forwardingNames[server.forwarding].padEnd(7),
    String(server.weight).padEnd(6),
    String(server.activeConnections).padEnd(10),
    String(server.inactiveConnections).padEnd(10),
  ];
  return `  -> ${procAddress(address)}:${hex(port, 4)}      ${columns.join(' ')}`;
}

/** /proc/net/ip_vs_conn, a line at a time. */
export function* formatProcConnections(connections: Iterable<ConnectionEntry>): Generator<string> {
  yield 'Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n';
  for (const entry of connections) {
    const engine = entry.persistenceEngine === null ? '' : ` ${entry.persistenceEngine} ${entry.persistenceData ?? ''}`;
    yield `${connectionColumns(entry)} ${String(entry.expiresSeconds).padStart(7)}${engine}\n`;
  }
}

/** /proc/net/ip_vs_conn_sync. */
export function* formatProcSyncedConnections(connections: Iterable<ConnectionEntry>): Generator<string> {
  yield 'Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Origin Expires\n';
  for (const entry of connections) {
    const origin = entry.synced ? 'SYNC' : 'LOCAL';
    yield `${connectionColumns(entry)} ${origin.padEnd(6)} ${String(entry.expiresSeconds).padStart(7)}\n`;
  }
}

function connectionColumns({ protocol, client, virtual, real, state }: ConnectionEntry): string {
  const ends = [client, virtual, real].map(({ address, port }) => `${plainAddress(address)} ${hex(port, 4)}`);
  return `${protocol.toUpperCase().padEnd(3)} ${ends.join(' ')} ${state.padEnd(11)}`;
}

/** /proc/net/ip_vs_stats. */
export function formatProcStats(director: Director): string {
  const { stats, rates } = director.totals();
  return (
    '   Total Incoming Outgoing         Incoming         Outgoing\n' +
    '   Conns  Packets  Packets            Bytes            Bytes\n' +
    `${statsColumns(stats)}\n\n` +
    ' Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n' +
    `${statsColumns(rates)}\n`
  );
}

/** /proc/net/ip_vs_stats_percpu. */
export function formatProcCpuStats(director: Director): string {
  const { stats, rates, perCpu } = director.totals();
  const cpus = perCpu.map((each, cpu) => `${hex(cpu, 0).padStart(3)} ${statsColumns(each)}\n`);
  return (
    '       Total Incoming Outgoing         Incoming         Outgoing\n' +
    'CPU    Conns  Packets  Packets            Bytes            Bytes\n' +
    `${cpus.join('')}  ~ ${statsColumns(stats)}\n\n` +
    '     Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n' +
    `    ${statsColumns(rates)}\n`
  );
}

/** /proc/net/ip_vs_app: the ports that are helped, and how many of the connections are. */
export function formatProcApplications(ports: readonly HelpedPort[], connections: Iterable<ConnectionEntry>): string {
  const used = new Map<string, number>();
  for (const { helper, virtual } of connections) {
    if (helper !== undefined) used.set(`${helper} ${virtual.port}`, (used.get(`${helper} ${virtual.port}`) ?? 0) + 1);
  }
  const rows = ports.map(({ helper, protocol, port }) => {
    const uses = used.get(`${helper} ${port}`) ?? 0;
    return `${protocol.toUpperCase().padEnd(3)}  ${`${port}`.padEnd(7)} ${`${uses}`.padEnd(6)} ${helper.padEnd(17)}\n`;
  });
  return `prot port    usecnt name\n${rows.join('')}`;
}

function statsColumns({ connections, inPackets, outPackets, inBytes, outBytes }: Stats): string {
  const small = [connections, inPackets, outPackets].map((value) => hex(value, 0).padStart(8));
  return [...small, ...[inBytes, outBytes].map((value) => hex(value, 0).padStart(16))].join(' ');
}

function procAddress(address: Address): string {
  return familyOf(address) === 'ipv6' ? `[${expandIPv6(address)}]` : hex(ipv4Number(address), 8);
}

/** Connections are shown without brackets. */
function plainAddress(address: Address): string {
  return familyOf(address) === 'ipv6' ? expandIPv6(address) : hex(ipv4Number(address), 8);
}

function hex(value: number | bigint, digits: number): string {
  return value.toString(16).toUpperCase().padStart(digits, '0');
}

/** A prefix length lies in host order where a mask would lie in network order, and is printed as if it were one. */
function swapBytes(value: number): number {
  return (((value & 255) << 24) | ((value & 0xff00) << 8) | ((value >>> 8) & 0xff00) | (value >>> 24)) >>> 0;
}
