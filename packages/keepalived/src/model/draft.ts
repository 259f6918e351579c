/**
 * What an operator wrote, and nothing more: absent is absent. keepalived.conf and our own YAML both become drafts, and
 * `resolve` alone knows the defaults and what is handed down from virtual server to real server to check.
 */
import type {
  Address,
  ForwardingMethod,
  IdleRule,
  Protocol,
  ProxyProtocol,
  SegmentSize,
  SyncDaemonSettings,
  Timeouts,
  Tunnel,
} from '@ipvsd/director';
import type { Position } from '../conf/source.ts';
import type {
  CheckKind,
  HttpUrl,
  LoadFeedback,
  Script,
  ScriptUser,
  TlsSettings,
  TrackFile,
  UdpReply,
} from './configuration.ts';

export interface Drafts {
  global: GlobalDraft;
  readonly groups: Map<string, GroupDraft>;
  /** Local addresses of FULLNAT, by the name of their group. */
  readonly localGroups: Map<string, readonly Address[]>;
  readonly virtualServers: VirtualServerDraft[];
  readonly trackFiles: Map<string, TrackFile>;
  readonly bfdInstances: Set<string>;
}

export interface GlobalDraft {
  timeouts?: Timeouts;
  syncDaemon?: Omit<SyncDaemonSettings, 'role'>;
  flushAtStart?: boolean;
  flushAtStop?: 'all' | 'services';
  scriptUser?: ScriptUser;
  notifyFifo?: string;
  lvsNotifyFifo?: string;
  initNotifies?: boolean;
  reloadCheck?: boolean;
  scriptSecurity?: boolean;
  logAllFailures?: boolean;
  tls?: TlsSettings;
}

export interface GroupDraft {
  readonly members: readonly GroupMember[];
  readonly position: Position;
}

export type GroupMember =
  | { readonly kind: 'addresses'; readonly addresses: readonly Address[]; readonly port: number }
  | { readonly kind: 'fwmark'; readonly fwmark: number; readonly family: 'ipv4' | 'ipv6' | undefined };

export type Target =
  | { readonly kind: 'address'; readonly address: Address; readonly port: number }
  | { readonly kind: 'fwmark'; readonly fwmark: number }
  | { readonly kind: 'group'; readonly group: string };

export interface Method {
  readonly forwarding: ForwardingMethod;
  readonly tunnel: Tunnel;
}

/** What a virtual server hands down to its real servers, and they to their checks. */
export interface InheritedDraft {
  alpha?: boolean;
  connectTimeoutMs?: number;
  retry?: number;
  delayBeforeRetryMs?: number;
  warmupMs?: number;
  delayLoopMs?: number;
}

export interface VirtualServerDraft extends InheritedDraft {
  readonly target: Target;
  readonly position: Position;
  readonly realServers: RealServerDraft[];
  family?: 'ipv4' | 'ipv6';
  protocol?: Protocol;
  scheduler?: string;
  schedulerFlags?: number;
  method?: Method;
  /** Local addresses of FULLNAT: the name of their group. */
  localGroup?: string;
  onePacket?: boolean;
  /** Not keepalived's: seconds, and whether both ends are told. */
  idle?: IdleRule;
  proxyProtocol?: ProxyProtocol;
  segmentSize?: SegmentSize;
  persistenceSeconds?: number;
  persistenceNetmask?: number;
  persistenceEngine?: string;
  haSuspend?: boolean;
  omega?: boolean;
  quorum?: number;
  hysteresis?: number;
  quorumUp?: Script;
  quorumDown?: Script;
  weight?: number;
  inhibitOnFailure?: boolean;
  virtualHost?: string;
  sorryServer?: { readonly address: Address; readonly port: number; readonly position: Position };
  sorryInhibit?: boolean;
  sorryMethod?: Method;
  load?: LoadFeedback;
  slowStartMs?: number;
}

export interface RealServerDraft extends InheritedDraft {
  readonly address: Address;
  readonly port: number;
  readonly position: Position;
  readonly checks: CheckDraft[];
  weight?: number;
  method?: Method;
  upperThreshold?: number;
  lowerThreshold?: number;
  inhibitOnFailure?: boolean;
  notifyUp?: Script;
  notifyDown?: Script;
  virtualHost?: string;
}

export interface ConnectionDraft {
  address?: Address;
  port?: number;
  bindAddress?: Address;
  bindPort?: number;
  bindInterface?: string;
  fwmark?: number;
}

export interface UrlDraft {
  path?: string;
  statusCodes?: HttpUrl['statusCodes'];
  digest?: string;
  virtualHost?: string;
  regex?: string;
  regexMustNotMatch?: boolean;
  regexOptions?: readonly string[];
  regexMinimumOffset?: number;
  regexMaximumOffset?: number;
  readonly position: Position;
}

/** One shape for all kinds: which of it a kind reads, `resolve-check.ts` says. */
export interface CheckDraft extends InheritedDraft {
  readonly kind: CheckKind;
  readonly position: Position;
  readonly connection: ConnectionDraft;
  readonly urls: UrlDraft[];
  readonly hosts: ConnectionDraft[];
  logAllFailures?: boolean;
  virtualHost?: string;
  httpVersion?: '1.0' | '1.0C' | '1.1';
  fastRecovery?: boolean;
  enableSni?: boolean;
  sniName?: string;
  heloName?: string;
  dnsType?: string;
  dnsName?: string;
  payload?: Uint8Array;
  reply?: Pick<UdpReply, 'bytes' | 'mask'>;
  minimumLength?: number;
  maximumLength?: number;
  script?: Script;
  timeoutMs?: number;
  dynamic?: boolean;
  trackFile?: string;
  fileWeight?: number;
  bfdInstance?: string;
}

export function emptyDrafts(): Drafts {
  return {
    global: {},
    groups: new Map(),
    localGroups: new Map(),
    virtualServers: [],
    trackFiles: new Map(),
    bfdInstances: new Set(),
  };
}
