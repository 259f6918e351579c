/**
 * What a configuration means once every default is filled in and every inheritance followed: plain values that the
 * daemon works from, whether they came from keepalived.conf or from our own YAML.
 */
import type {
  Address,
  RealServerSettings,
  ServiceId,
  ServiceSettings,
  SyncDaemonSettings,
  Timeouts,
} from '@ipvsd/director';
import type { ControllerSettings } from '@ipvsd/load';
import type { Position } from '../conf/source.ts';

export interface Configuration {
  readonly global: GlobalSettings;
  readonly virtualServers: readonly VirtualServer[];
  readonly trackFiles: ReadonlyMap<string, TrackFile>;
}

export interface GlobalSettings {
  readonly timeouts: Timeouts | undefined;
  /** Only a daemon that follows no VRRP instance: the others belong to VRRP. */
  readonly syncDaemon: Omit<SyncDaemonSettings, 'role'> | undefined;
  readonly flushAtStart: boolean;
  readonly flushAtStop: 'no' | 'all' | 'services';
  readonly scriptUser: ScriptUser | undefined;
  readonly notifyFifo: string | undefined;
  readonly lvsNotifyFifo: string | undefined;
  readonly initNotifies: boolean;
  /** A reload with errors is refused, not only one that would not start. */
  readonly reloadCheck: boolean;
  /** Refuse scripts that run as root and others could change. */
  readonly scriptSecurity: boolean;
  readonly tls: TlsSettings;
}

export interface TlsSettings {
  readonly ca?: string;
  readonly certificate?: string;
  readonly key?: string;
  readonly password?: string;
}

export interface ScriptUser {
  readonly user: string;
  readonly group?: string;
}

export interface Script {
  readonly argv: readonly string[];
  readonly runAs: ScriptUser | undefined;
}

export interface TrackFile {
  readonly path: string;
  readonly weight: number;
}

export interface VirtualServer {
  /** As keepalived's log names it: `[10.0.0.1]:tcp:80`, `FWM 3`, `[group]:tcp`. */
  readonly name: string;
  /** One, or one for each member of a group. */
  readonly services: readonly ServiceId[];
  readonly settings: ServiceSettings;
  readonly realServers: readonly RealServer[];
  /** Of FULLNAT; each service takes those of its family, and of its real servers'. */
  readonly localAddresses: readonly Address[];
  readonly sorryServer: SorryServer | undefined;
  readonly quorum: number;
  readonly hysteresis: number;
  readonly quorumUp: Script | undefined;
  readonly quorumDown: Script | undefined;
  readonly omega: boolean;
  readonly haSuspend: boolean;
  /** Undefined: whatever the daemon is told to ask for those that say nothing. */
  readonly load: LoadFeedback | undefined;
  /** A real server that comes back has its whole weight after this; undefined as with `load`, 0 at once. */
  readonly slowStartMs: number | undefined;
  readonly position: Position;
}

/** How real servers are asked for their load, and what that may do to their weights. */
export interface LoadFeedback {
  /** `agent:3333` and the like, as `ipvsd run --load` takes them. */
  readonly source: string;
  readonly everyMs: number;
  readonly settings: Partial<ControllerSettings>;
}

export interface Destination {
  readonly address: Address;
  /** 0: whatever the virtual service has. */
  readonly port: number;
  /** The weight is the configured one; what health and load make of it is decided elsewhere. */
  readonly settings: RealServerSettings;
}

export interface SorryServer extends Destination {
  readonly name: string;
  readonly inhibit: boolean;
}

export interface RealServer extends Destination {
  readonly name: string;
  readonly inhibitOnFailure: boolean;
  readonly notifyUp: Script | undefined;
  readonly notifyDown: Script | undefined;
  readonly checks: readonly Check[];
  readonly position: Position;
}

export interface Timing {
  readonly delayLoopMs: number;
  readonly retry: number;
  readonly delayBeforeRetryMs: number;
  /** The first run comes at random before this. */
  readonly warmupMs: number;
  readonly connectTimeoutMs: number;
}

export interface Connection {
  readonly address: Address;
  readonly port: number;
  readonly bindAddress: Address | undefined;
  readonly bindPort: number | undefined;
  readonly bindInterface: string | undefined;
  readonly fwmark: number | undefined;
}

interface CheckBase {
  readonly timing: Timing;
  /** Counts as failed until its first success. */
  readonly alpha: boolean;
  readonly logAllFailures: boolean;
  readonly position: Position;
}

export interface TcpCheck extends CheckBase {
  readonly kind: 'TCP_CHECK';
  readonly connection: Connection;
}

export interface HttpUrl {
  readonly path: string;
  readonly statusCodes: readonly (readonly [from: number, to: number])[];
  readonly digest: string | undefined;
  readonly host: string | undefined;
  readonly regex: RegexTest | undefined;
}

export interface RegexTest {
  readonly source: string;
  readonly flags: string;
  /** A match is a failure. */
  readonly mustNotMatch: boolean;
  readonly minimumOffset: number;
  readonly maximumOffset: number | undefined;
}

export interface HttpCheck extends CheckBase {
  readonly kind: 'HTTP_GET' | 'SSL_GET';
  readonly connection: Connection;
  readonly urls: readonly HttpUrl[];
  readonly version: '1.0' | '1.0C' | '1.1';
  readonly fastRecovery: boolean;
  /** Sent in the TLS handshake. */
  readonly serverName: string | undefined;
  readonly tls: TlsSettings;
}

export interface SmtpCheck extends CheckBase {
  readonly kind: 'SMTP_CHECK';
  readonly connections: readonly Connection[];
  readonly heloName: string;
}

export interface DnsCheck extends CheckBase {
  readonly kind: 'DNS_CHECK';
  readonly connection: Connection;
  readonly type: number;
  readonly name: string;
}

export interface UdpCheck extends CheckBase {
  readonly kind: 'UDP_CHECK';
  readonly connection: Connection;
  readonly payload: Uint8Array;
  readonly reply: UdpReply | undefined;
}

export interface UdpReply {
  readonly bytes: Uint8Array;
  /** Bits that count; a nibble written `x` does not. */
  readonly mask: Uint8Array;
  readonly minimumLength: number;
  readonly maximumLength: number;
}

export interface PingCheck extends CheckBase {
  readonly kind: 'PING_CHECK';
  readonly connection: Connection;
}

export interface MiscCheck extends CheckBase {
  readonly kind: 'MISC_CHECK';
  readonly script: Script;
  readonly timeoutMs: number;
  /** Exit status 2 to 255 says a weight. */
  readonly dynamic: boolean;
  readonly weight: number;
}

export interface FileCheck extends CheckBase {
  readonly kind: 'FILE_CHECK';
  readonly path: string;
  readonly weight: number;
}

export interface BfdCheck extends CheckBase {
  readonly kind: 'BFD_CHECK';
  readonly instance: string;
}

export type Check =
  | TcpCheck
  | HttpCheck
  | SmtpCheck
  | DnsCheck
  | UdpCheck
  | PingCheck
  | MiscCheck
  | FileCheck
  | BfdCheck;

export type CheckKind = Check['kind'];
