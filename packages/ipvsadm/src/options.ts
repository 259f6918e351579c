/**
 * The table of options. Parsing, checking, shell completion and the man page all read it; an option is its words, the
 * name it goes by in messages, and what it writes into the entry.
 */
import {
  addressKind,
  type ForwardingMethod,
  familyOf,
  fullMask,
  ipv4Number,
  type Protocol,
  parseAddress,
  segmentSizes,
} from '@ipvsd/director';
import { readEndPoint, readHost } from './end-point.ts';
import type { Entry } from './entry.ts';
import { usage } from './messages.ts';
import { readLeadingNumber, readNumber } from './numbers.ts';
import type { Word } from './popt.ts';
import type { Names } from './services-names.ts';

/** In the order in which a wrong combination is complained about. The last row is ours. */
export const optionNames = [
  ...(['numeric', 'connection', 'service-address', 'scheduler', 'persistent', 'netmask', 'real-server'] as const),
  ...(['forwarding-method', 'weight', 'u-threshold', 'l-threshold', 'mcast-interface', 'timeout', 'daemon'] as const),
  ...(['stats', 'rate', 'thresholds', 'persistent-conn', 'nosort', 'syncid', 'exact', 'ops', 'pe'] as const),
  ...(['sched-flags', 'mcast-group', 'mcast-port', 'mcast-ttl', 'sync-maxlen', 'tun-info', 'tun-type'] as const),
  ...(['tun-port', 'tun-nocsum', 'tun-csum', 'tun-remcsum'] as const),
  ...(['json', 'watch', 'atomic', 'complete', 'local-address', 'local-interface'] as const),
  ...(['conn-timeout', 'reset-at-expiry', 'proxy-protocol', 'mss'] as const),
];

export type OptionName = (typeof optionNames)[number];

export interface OptionDefinition extends Word {
  /** Absent for the two words that no rule counts: `-6` and `--sort`. */
  readonly name?: OptionName;
  readonly argumentName?: string;
  readonly summary: string;
  /** The values a shell may offer. */
  readonly values?: readonly string[];
  /** Not known to the original. */
  readonly ours?: true;
  read?(entry: Entry, value: string, names: Names): void | Promise<void>;
  /** Where the value is optional and was left out. */
  readNothing?(entry: Entry): void;
}

export const defaults = {
  scheduler: 'wlc',
  persistenceSeconds: 360,
  interfaceName: 'eth0',
  watchSeconds: 2,
} as const;

export const longestTimeoutSeconds = 31 * 24 * 60 * 60;
const longestInt = 0x7fffffff;
/** Names live in 16 bytes with their end; what is longer is cut, and then usually not found. */
const longestName = 15;

const schedulerNames = ['rr', 'wrr', 'lc', 'wlc', 'lblc', 'lblcr', 'dh', 'sh', 'sed', 'nq', 'fo', 'ovf', 'mh', 'twos'];
const schedulerFlagNames = ['sh-fallback', 'sh-port', 'mh-fallback', 'mh-port', 'flag-1', 'flag-2', 'flag-3'];

export const options: readonly OptionDefinition[] = [
  service('tcp-service', 't', 'tcp'),
  service('udp-service', 'u', 'udp'),
  service('sctp-service', '', 'sctp'),
  {
    ...required('fwmark-service', 'f', 'service-address', 'fwmark', 'virtual service of a firewall mark'),
    read: ({ service }, value) => {
      const fwmark = readNumber(value, 1, 0xffffffff);
      if (fwmark === undefined) throw usage.invalidFwmark(value);
      Object.assign(service, { family: 'ipv4', protocol: 'tcp', fwmark });
    },
  },
  {
    long: 'ipv6',
    short: '6',
    summary: 'the firewall mark is of IPv6',
    read: ({ service }) => {
      if (service.fwmark === 0) throw usage.ipv6BeforeFwmark();
      Object.assign(service, { family: 'ipv6', netmask: fullMask.ipv6 });
    },
  },
  {
    ...required('scheduler', 's', 'scheduler', 'scheduler', 'scheduling method (default wlc)'),
    values: schedulerNames,
    read: ({ service }, value) => {
      service.scheduler = value.slice(0, longestName);
    },
  },
  {
    ...required('pe', '', 'pe', 'engine', 'persistence engine'),
    values: ['sip'],
    read: ({ service }, value) => {
      service.persistenceEngine = value.slice(0, longestName);
    },
  },
  {
    ...required('persistent', 'p', 'persistent', 'seconds', 'persistent service (default 360 seconds)'),
    argument: 'optional',
    read: ({ service }, value) => {
      service.persistenceSeconds = readTimeout(value, 1, longestTimeoutSeconds);
    },
    readNothing: ({ service }) => {
      service.persistenceSeconds = defaults.persistenceSeconds;
    },
  },
  {
    ...required('netmask', 'M', 'netmask', 'netmask', 'mask or prefix length that persistence groups clients by'),
    read: async ({ service }, value, names) => {
      service.netmask = service.family === 'ipv6' ? readPrefixLength(value) : await readNetmask(value, names);
    },
  },
  {
    ...required('real-server', 'r', 'real-server', 'host[:port]', 'real server'),
    read: async ({ service, server }, value, names) => {
      const endPoint = await readEndPoint(value, service.protocol, names);
      if (!endPoint) throw usage.illegalValue('real server address[:port]');
      Object.assign(server, { family: familyOf(endPoint.address), address: endPoint.address });
      server.port = endPoint.port ?? service.port;
    },
  },
  forwarding('gatewaying', 'g', 'route', 'direct routing (default)'),
  forwarding('ipip', 'i', 'tunnel', 'tunneling'),
  forwarding('masquerading', 'm', 'masq', 'NAT'),
  { ...forwarding('fullnat', '', 'fullnat', 'NAT of both addresses'), ours: true },
  {
    ...required('tun-type', '', 'tun-type', 'type', 'tunnel type (default ipip)'),
    values: ['ipip', 'gue', 'gre'],
    read: ({ server }, value) => {
      if (value !== 'ipip' && value !== 'gue' && value !== 'gre') throw usage.illegalValue('tunnel type');
      server.tunnelType = value;
    },
  },
  {
    ...required('tun-port', '', 'tun-port', 'port', 'UDP port of the tunnel, gue only'),
    read: ({ server }, value) => {
      server.tunnelPort = readValue(value, 1, 65535, 'tunnel port');
    },
  },
  {
    ...flag('tun-nocsum', 'tunnel without checksum (default)'),
    read: ({ server }) => {
      server.tunnelChecksum = 'none';
    },
  },
  {
    ...flag('tun-csum', 'tunnel with checksum'),
    read: ({ server }) => {
      server.tunnelChecksum = 'full';
    },
  },
  {
    ...flag('tun-remcsum', 'tunnel with remote checksum, gue only'),
    read: ({ server }) => {
      server.tunnelChecksum = 'remote';
    },
  },
  {
    ...required('weight', 'w', 'weight', 'weight', 'capacity of the real server (default 1, 0 quiesces)'),
    read: ({ server }, value) => {
      server.weight = readValue(value, 0, longestInt, 'weight');
    },
  },
  {
    ...required('u-threshold', 'x', 'u-threshold', 'connections', 'no new connections from here on (0 is no limit)'),
    read: ({ server }, value) => {
      server.upperThreshold = readValue(value, 0, longestInt, 'u_threshold');
    },
  },
  {
    ...required('l-threshold', 'y', 'l-threshold', 'connections', 'new connections again below this'),
    read: ({ server }, value) => {
      server.lowerThreshold = readValue(value, 0, longestInt, 'l_threshold');
    },
  },
  { ...flag('connection', 'list connections'), short: 'c' },
  { ...flag('timeout', 'list the timeouts tcp tcpfin udp') },
  { ...flag('daemon', 'list the sync daemons') },
  { ...flag('stats', 'list counters') },
  { ...flag('rate', 'list counters per second') },
  { ...flag('exact', 'print large numbers in full'), short: 'X' },
  { ...flag('thresholds', 'list thresholds') },
  { ...flag('persistent-conn', 'list persistent connections') },
  { ...flag('tun-info', 'list tunnels') },
  { ...flag('nosort', 'list in the order of the table') },
  { long: 'sort', summary: 'nothing: lists are sorted anyway' },
  {
    ...flag('ops', 'one-packet scheduling'),
    short: 'o',
    read: ({ service }) => {
      service.onePacket = true;
    },
  },
  { ...flag('numeric', 'print addresses and ports as numbers'), short: 'n' },
  {
    ...required('sched-flags', 'b', 'sched-flags', 'flags', 'scheduler flags, comma separated'),
    values: schedulerFlagNames,
    read: ({ service }, value) => {
      service.schedulerFlagWords = value;
    },
  },
  {
    ...required('syncid', '', 'syncid', 'id', 'sync group 0..255 (default 0)'),
    read: ({ daemon }, value) => {
      daemon.syncId = readValue(value, 0, 255, 'syncid');
    },
  },
  {
    ...required('sync-maxlen', '', 'sync-maxlen', 'bytes', 'longest sync message (default 1472)'),
    read: ({ daemon }, value) => {
      daemon.maximumLength = readValue(value, 1, 65507, 'sync-maxlen');
    },
  },
  {
    ...required('mcast-interface', '', 'mcast-interface', 'interface', 'interface of connection sync (default eth0)'),
    read: ({ daemon }, value) => {
      daemon.interfaceName = value.slice(0, longestName);
    },
  },
  {
    ...required('mcast-group', '', 'mcast-group', 'address', 'multicast group (default 224.0.0.81)'),
    read: ({ daemon }, value) => {
      const group = parseAddress(value);
      if (!group || addressKind(group) !== 'multicast') {
        throw usage.invalidGroup(value.includes(':') ? 'IPv6' : 'IPv4', value);
      }
      daemon.group = group;
    },
  },
  {
    ...required('mcast-port', '', 'mcast-port', 'port', 'UDP port of connection sync (default 8848)'),
    read: ({ daemon }, value) => {
      daemon.port = readValue(value, 1, 65535, 'mcast-port');
    },
  },
  {
    ...required('mcast-ttl', '', 'mcast-ttl', 'ttl', 'multicast TTL (default 1)'),
    read: ({ daemon }, value) => {
      daemon.ttl = readValue(value, 1, 255, 'mcast-ttl');
    },
  },
  { ...flag('json', 'print JSON'), ours: true },
  {
    ...flag('watch', 'print again every so many seconds (default 2)'),
    argument: 'optional',
    argumentName: 'seconds',
    ours: true,
    read: (entry, value) => {
      entry.watchSeconds = readValue(value, 1, 86400, 'watch interval');
    },
    readNothing: (entry) => {
      entry.watchSeconds = defaults.watchSeconds;
    },
  },
  { ...flag('atomic', 'restore everything or nothing'), ours: true },
  { ...flag('complete', 'save thresholds, timeouts and the order of real servers too'), ours: true },
  {
    ...required('conn-timeout', '', 'conn-timeout', 'seconds', 'how long an established connection may be silent'),
    ours: true,
    read: ({ service }, value) => {
      service.connectionTimeoutSeconds = readTimeout(value, 1, longestTimeoutSeconds);
    },
  },
  {
    ...required(
      'proxy-protocol',
      '',
      'proxy-protocol',
      'version',
      'tell FULLNAT servers of clients: v1, v2, v2-each or disable',
    ),
    values: ['v1', 'v2', 'v2-each', 'disable'],
    ours: true,
    read: ({ service }, value) => {
      if (value !== 'v1' && value !== 'v2' && value !== 'v2-each' && value !== 'disable') {
        throw usage.illegalValue('proxy-protocol version');
      }
      service.proxyProtocol = value === 'disable' ? null : value;
    },
  },
  {
    ...required('mss', '', 'mss', 'bytes', 'largest segment of TCP connections: a number, auto (what fits) or off'),
    values: ['auto', 'off'],
    ours: true,
    read: ({ service }, value) => {
      const { least, most } = segmentSizes;
      const size = value === 'auto' ? value : value === 'off' ? null : readNumber(value, least, most);
      if (size === undefined) throw usage.illegalSegmentSize(value);
      service.segmentSize = size;
    },
  },
  {
    ...flag('reset-at-expiry', 'tell both ends of a TCP connection that goes by silence'),
    ours: true,
    read: ({ service }) => {
      service.resetAtExpiry = true;
    },
  },
  {
    ...required('laddr', 'z', 'local-address', 'address', 'local address of FULLNAT'),
    ours: true,
    read: (entry, value) => {
      const address = parseAddress(value);
      if (!address || addressKind(address) !== 'unicast') throw usage.illegalValue('local address');
      entry.localAddress = address;
    },
  },
  {
    ...required('ifname', 'F', 'local-interface', 'interface', 'taken from DPVS scripts and not needed: routes decide'),
    ours: true,
  },
];

function flag(name: OptionName, summary: string): OptionDefinition & { name: OptionName } {
  return { name, long: name, summary };
}

function required(long: string, short: string, name: OptionName, argumentName: string, summary: string) {
  return { name, long, short, argument: 'required', argumentName, summary } as const;
}

function service(long: string, short: string, protocol: Protocol): OptionDefinition {
  return {
    ...required(long, short, 'service-address', 'host[:port]', `virtual service of ${protocol.toUpperCase()}`),
    read: async ({ service }, value, names) => {
      service.protocol = protocol;
      const endPoint = await readEndPoint(value, protocol, names);
      if (!endPoint) throw usage.illegalValue('virtual server address[:port]');
      Object.assign(service, { family: familyOf(endPoint.address), address: endPoint.address });
      if (endPoint.port !== undefined) service.port = endPoint.port;
      if (service.family === 'ipv6') service.netmask = fullMask.ipv6;
    },
  };
}

function forwarding(long: string, short: string, method: ForwardingMethod, summary: string): OptionDefinition {
  return {
    name: 'forwarding-method',
    long,
    short,
    summary,
    read: ({ server }) => {
      server.forwarding = method;
    },
  };
}

export function readTimeout(text: string, low: number, high: number): number {
  const seconds = readNumber(text, low, high);
  if (seconds === undefined) throw usage.invalidTimeout(text);
  return seconds;
}

function readValue(text: string, low: number, high: number, what: string): number {
  const value = readNumber(text, low, high);
  if (value === undefined) throw usage.illegalValue(what);
  return value;
}

function readPrefixLength(text: string): number {
  const length = readLeadingNumber(text);
  if (length < 1 || length > 128) throw usage.illegalValue('ipv6 netmask');
  return length;
}

/** Dotted or a host name; `24` is 0.0.0.24, as ever. */
async function readNetmask(text: string, names: Names): Promise<number> {
  const host = await readHost(text, names);
  if (!host) throw usage.illegalValue('virtual server persistent mask');
  return ipv4Number(host);
}
