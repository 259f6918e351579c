/**
 * What a director keeps: virtual services, their real servers, connections, and the settings beside them. Plain values
 * without methods; whatever changes them is a `Command`, whatever they cost to store is the business of a plane.
 */
import type { Address, Family } from './address.ts';

export type Protocol = 'tcp' | 'udp' | 'sctp';

/** What a virtual service is found by: an address and port of one protocol, or a firewall mark of one family. */
export type ServiceId = AddressServiceId | FwmarkServiceId;

export interface AddressServiceId {
  readonly kind: 'address';
  readonly family: Family;
  readonly protocol: Protocol;
  readonly address: Address;
  /** 0 catches every port, which needs persistence to make sense. */
  readonly port: number;
}

export interface FwmarkServiceId {
  readonly kind: 'fwmark';
  readonly family: Family;
  readonly fwmark: number;
}

/** The three bits a scheduler may read; sh and mh call the first two fallback and port. */
export const schedulerFlag = { first: 1, second: 2, third: 4 } as const;

export interface Persistence {
  readonly timeoutSeconds: number;
  /** IPv4: the mask as an unsigned 32-bit number, contiguous or not. IPv6: the prefix length, 1..128. */
  readonly netmask: number;
}

/** What follows when a connection is silent. */
export interface IdleRule {
  /** After so long an established connection goes; 0: as `--set` says for all. */
  readonly timeoutSeconds: number;
  /** Both ends of a TCP connection that goes by silence are told with a RST. */
  readonly reset: boolean;
}

export interface ServiceSettings {
  readonly scheduler: string;
  readonly schedulerFlags: number;
  readonly persistence: Persistence | null;
  readonly persistenceEngine: string | null;
  /** Every packet is scheduled afresh and no connection is kept: UDP and firewall marks only. */
  readonly onePacket: boolean;
  /** How real servers behind FULLNAT hear who a TCP client is. Absent: by an option (TOA), where `toa_option` has one. */
  readonly proxyProtocol?: 'v1' | 'v2';
  /** Absent: as for all services, and nobody is told. */
  readonly idle?: IdleRule;
}

export interface VirtualService extends ServiceSettings {
  readonly id: ServiceId;
  /** Newest first, as the schedulers walk them. */
  readonly realServers: readonly RealServer[];
  /** Local addresses of FULLNAT, in the order they were added. */
  readonly localAddresses: readonly Address[];
  readonly stats: Stats;
  readonly rates: Rates;
}

/** NAT, this host, IP in IP and its relatives, direct routing, NAT of both addresses. */
export type ForwardingMethod = 'masq' | 'local' | 'tunnel' | 'route' | 'fullnat';

export type TunnelType = 'ipip' | 'gue' | 'gre';
export type TunnelChecksum = 'none' | 'full' | 'remote';

export interface Tunnel {
  readonly type: TunnelType;
  /** UDP port of the decapsulator, GUE only. */
  readonly port: number;
  readonly checksum: TunnelChecksum;
}

/** What a real server is found by inside its virtual service. */
export interface RealServerId {
  readonly address: Address;
  readonly port: number;
}

export interface RealServerSettings {
  readonly forwarding: ForwardingMethod;
  /** 0 quiesces: no new connections, the old ones live on. */
  readonly weight: number;
  /** 0 is no limit. */
  readonly upperThreshold: number;
  readonly lowerThreshold: number;
  readonly tunnel: Tunnel;
}

export interface RealServer extends RealServerId, RealServerSettings {
  readonly family: Family;
  readonly activeConnections: number;
  readonly inactiveConnections: number;
  readonly persistentConnections: number;
  readonly stats: Stats;
  readonly rates: Rates;
}

export interface Stats {
  readonly connections: bigint;
  readonly inPackets: bigint;
  readonly outPackets: bigint;
  readonly inBytes: bigint;
  readonly outBytes: bigint;
}

/** Per second, as the estimator last saw them. */
export interface Rates {
  readonly connections: bigint;
  readonly inPackets: bigint;
  readonly outPackets: bigint;
  readonly inBytes: bigint;
  readonly outBytes: bigint;
}

export interface ConnectionEntry {
  /** `ip` for the template of a firewall-mark service, whose virtual address is the mark. */
  readonly protocol: Protocol | 'ip';
  readonly client: EndPoint;
  readonly virtual: EndPoint;
  readonly real: EndPoint;
  readonly state: string;
  readonly expiresSeconds: number;
  /** Learnt from a sync master, not scheduled here. */
  readonly synced: boolean;
  readonly persistenceEngine: string | null;
  readonly persistenceData: string | null;
  /** The name of what reads its packets for further connections. */
  readonly helper?: string;
}

export interface EndPoint {
  readonly address: Address;
  readonly port: number;
}

export interface Timeouts {
  readonly tcp: number;
  readonly tcpFin: number;
  readonly udp: number;
}

export type SyncRole = 'master' | 'backup';

export interface SyncDaemonSettings {
  readonly role: SyncRole;
  readonly interfaceName: string;
  readonly syncId: number;
  /** 0 or absent where the operator left the choice to the daemon. */
  readonly maximumLength?: number;
  readonly group?: Address;
  readonly port?: number;
  readonly ttl?: number;
}

export type SyncDaemon = Required<SyncDaemonSettings>;

export const noFigures: Stats & Rates = {
  connections: 0n,
  inPackets: 0n,
  outPackets: 0n,
  inBytes: 0n,
  outBytes: 0n,
};

export const plainTunnel: Tunnel = { type: 'ipip', port: 0, checksum: 'none' };

export const fullMask = { ipv4: 0xffffffff, ipv6: 128 } as const satisfies Record<Family, number>;

/** One string per virtual service, equal exactly when the services are. */
export function serviceKey(id: ServiceId): string {
  if (id.kind === 'fwmark') return `fwmark ${id.family} ${id.fwmark}`;
  return `${id.protocol} ${id.address} ${id.port}`;
}

export function realServerKey(id: RealServerId): string {
  return `${id.address} ${id.port}`;
}
