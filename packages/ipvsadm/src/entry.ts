/**
 * What one command line has said so far. Options write here in the order they stand, and some read what came before
 * them (`-r` takes port and protocol from `-t`, `-M` the family), so the order of words matters as it always did.
 */
import {
  type Address,
  type Family,
  type ForwardingMethod,
  fullMask,
  type Protocol,
  type ProxyProtocol,
  type SegmentSize,
  type SyncRole,
  type Timeouts,
  type TunnelChecksum,
  type TunnelType,
} from '@ipvsd/director';
import type { CommandDefinition } from './commands.ts';
import type { OptionName } from './options.ts';

export interface Entry {
  readonly command: CommandDefinition;
  readonly seen: Set<OptionName>;
  service: ServiceWords;
  server: ServerWords;
  daemon: DaemonWords;
  timeouts: Timeouts;
  localAddress: Address;
  watchSeconds: number;
}

export interface ServiceWords {
  family: Family | null;
  protocol: Protocol | null;
  address: Address;
  port: number;
  /** 0 is none. */
  fwmark: number;
  scheduler: string;
  schedulerFlagWords: string;
  schedulerFlags: number;
  persistenceSeconds: number | null;
  netmask: number;
  persistenceEngine: string;
  onePacket: boolean;
  connectionTimeoutSeconds: number;
  resetAtExpiry: boolean;
  proxyProtocol: ProxyProtocol | null;
  segmentSize: SegmentSize | null;
}

export interface ServerWords {
  family: Family | null;
  address: Address;
  port: number;
  forwarding: ForwardingMethod;
  weight: number;
  upperThreshold: number;
  lowerThreshold: number;
  tunnelType: TunnelType;
  tunnelPort: number;
  tunnelChecksum: TunnelChecksum;
}

export interface DaemonWords {
  role: SyncRole;
  interfaceName: string;
  syncId: number;
  maximumLength?: number;
  group?: Address;
  port?: number;
  ttl?: number;
}

export function newEntry(command: CommandDefinition): Entry {
  return {
    command,
    seen: new Set(),
    service: {
      family: null,
      protocol: null,
      address: '0.0.0.0',
      port: 0,
      fwmark: 0,
      scheduler: '',
      schedulerFlagWords: '',
      schedulerFlags: 0,
      persistenceSeconds: null,
      netmask: fullMask.ipv4,
      persistenceEngine: '',
      onePacket: false,
      connectionTimeoutSeconds: 0,
      resetAtExpiry: false,
      proxyProtocol: null,
      segmentSize: null,
    },
    server: {
      family: null,
      address: '0.0.0.0',
      port: 0,
      forwarding: 'route',
      weight: 1,
      upperThreshold: 0,
      lowerThreshold: 0,
      tunnelType: 'ipip',
      tunnelPort: 0,
      tunnelChecksum: 'none',
    },
    daemon: { role: 'master', interfaceName: '', syncId: 0 },
    timeouts: { tcp: 0, tcpFin: 0, udp: 0 },
    localAddress: '0.0.0.0',
    watchSeconds: 2,
  };
}
