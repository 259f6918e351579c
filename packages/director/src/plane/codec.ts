/** Between the director's words and the data plane's structs. */
import { bytesOf, htons, ntohs, type View } from '@ipvsd/bpf';
import {
  AF_INET,
  AF_INET6,
  IDLE_RESETS,
  IDLE_SECONDS,
  SEGMENT_THAT_FITS,
  SERVICE_ONE_PACKET,
  SERVICE_PERSISTENT,
  ServiceKey,
  type RealServer as StoredServer,
  type Service as StoredService,
} from '@ipvsd/ipvs';
import { type Address, addressBytes, type Family, formatAddress, ipv4FromNumber } from '../address.ts';
import {
  type ForwardingMethod,
  fullMask,
  type Protocol,
  type ProxyProtocol,
  type ServiceId,
  type ServiceSettings,
  type Tunnel,
  type TunnelChecksum,
  type TunnelType,
} from '../model.ts';
import type { SchedulerNames } from './scheduler-names.ts';

export const FAMILY_NUMBERS = { ipv4: AF_INET, ipv6: AF_INET6 } as const satisfies Record<Family, number>;
export const PROTOCOL_NUMBERS = { tcp: 6, udp: 17, sctp: 132 } as const satisfies Record<Protocol, number>;
const METHODS: readonly ForwardingMethod[] = ['masq', 'local', 'tunnel', 'route', 'masq', 'fullnat'];
const TUNNEL_TYPES: readonly TunnelType[] = ['ipip', 'gue', 'gre'];
const TUNNEL_CHECKSUMS: readonly TunnelChecksum[] = ['none', 'full', 'remote'];

export const methodNumber = (method: ForwardingMethod): number => METHODS.indexOf(method);
export const methodName = (number: number): ForwardingMethod => METHODS[number] ?? 'masq';

export const familyName = (number: number): Family => (number === AF_INET ? 'ipv4' : 'ipv6');
export const protocolName = (number: number): Protocol | 'ip' =>
  number === 6 ? 'tcp' : number === 17 ? 'udp' : number === 132 ? 'sctp' : 'ip';

/** Writes an address of either family into 16 stored bytes. */
export function storeAddress(into: object, address: Address): void {
  const bytes = bytesOf(into);
  bytes.fill(0);
  bytes.set(addressBytes(address));
}

export function loadAddress(from: object, family: number): Address {
  return formatAddress(bytesOf(from).slice(0, family === AF_INET ? 4 : 16));
}

export function keyOf(id: ServiceId): View<(typeof ServiceKey)['fields']> {
  const key = ServiceKey.create({ family: FAMILY_NUMBERS[id.family] });
  if (id.kind === 'fwmark') {
    key.mark = id.fwmark;
    return key;
  }
  storeAddress(key.address, id.address);
  key.port = htons(id.port);
  key.protocol = PROTOCOL_NUMBERS[id.protocol];
  return key;
}

export function idOf(key: View<(typeof ServiceKey)['fields']>): ServiceId {
  const family = familyName(key.family);
  if (key.mark !== 0) return { kind: 'fwmark', family, fwmark: key.mark };
  const protocol = protocolName(key.protocol) as Protocol;
  return { kind: 'address', family, protocol, address: loadAddress(key.address, key.family), port: ntohs(key.port) };
}

const PROXY_PROTOCOLS: readonly ProxyProtocol[] = ['v1', 'v2', 'v2-each'];
const SCHEDULER_FLAG_SHIFT = 3;
const ENGINES = [null, 'sip'] as const;

export function storeSettings(
  service: StoredService,
  family: Family,
  settings: ServiceSettings,
  schedulers: SchedulerNames,
): void {
  const { persistence } = settings;
  service.scheduler = schedulers.numberOf(settings.scheduler);
  service.flags =
    (persistence ? SERVICE_PERSISTENT : 0) |
    (settings.onePacket ? SERVICE_ONE_PACKET : 0) |
    (settings.schedulerFlags << SCHEDULER_FLAG_SHIFT);
  service.timeout = persistence?.timeoutSeconds ?? 0;
  const mask = persistence?.netmask ?? fullMask[family];
  service.prefix = family === 'ipv6' ? mask : 0;
  const bytes = bytesOf(service.netmask);
  bytes.fill(0);
  if (family === 'ipv4') bytes.set(addressBytes(ipv4FromNumber(mask)));
  else for (let bit = 0; bit < mask; bit++) bytes[bit >> 3]! |= 0x80 >> (bit & 7);
  service.proxy = settings.proxyProtocol === undefined ? 0 : PROXY_PROTOCOLS.indexOf(settings.proxyProtocol) + 1;
  const { idle } = settings;
  service.idleRule = idle === undefined ? 0 : (idle.timeoutSeconds | (idle.reset ? IDLE_RESETS : 0)) >>> 0;
  const { segmentSize = 0 } = settings;
  service.segmentSize = segmentSize === 'auto' ? SEGMENT_THAT_FITS : segmentSize;
  service.engine = Math.max(0, ENGINES.indexOf(settings.persistenceEngine as 'sip' | null));
}

export function loadSettings(service: StoredService, family: Family, schedulers: SchedulerNames): ServiceSettings {
  const [a = 0, b = 0, c = 0, d = 0] = bytesOf(service.netmask);
  const netmask = family === 'ipv6' ? service.prefix : ((a << 24) | (b << 16) | (c << 8) | d) >>> 0;
  const persistent = (service.flags & SERVICE_PERSISTENT) !== 0;
  return {
    scheduler: schedulers.nameOf(service.scheduler),
    schedulerFlags: (service.flags >> SCHEDULER_FLAG_SHIFT) & 7,
    persistence: persistent ? { timeoutSeconds: service.timeout, netmask } : null,
    persistenceEngine: ENGINES[service.engine] ?? null,
    onePacket: (service.flags & SERVICE_ONE_PACKET) !== 0,
    ...(service.proxy !== 0 && { proxyProtocol: PROXY_PROTOCOLS[service.proxy - 1]! }),
    ...(service.idleRule !== 0 && {
      idle: { timeoutSeconds: service.idleRule & IDLE_SECONDS, reset: service.idleRule >= IDLE_RESETS },
    }),
    ...(service.segmentSize !== 0 && {
      segmentSize: service.segmentSize === SEGMENT_THAT_FITS ? ('auto' as const) : service.segmentSize,
    }),
  };
}

export const tunnelOf = (server: StoredServer): Tunnel => ({
  type: TUNNEL_TYPES[server.tunnelType] ?? 'ipip',
  port: ntohs(server.tunnelPort),
  checksum: TUNNEL_CHECKSUMS[server.tunnelFlags] ?? 'none',
});

export const tunnelNumbers = ({ type, checksum }: Tunnel): { type: number; flags: number } => ({
  type: TUNNEL_TYPES.indexOf(type),
  flags: TUNNEL_CHECKSUMS.indexOf(checksum),
});
