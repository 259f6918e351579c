/**
 * The one word for change. The command line, keepalived.conf, the API and etcd all end here; `apply` decides what a
 * command does to a table, a plane carries it out.
 */
import type { Address } from './address.ts';
import type {
  RealServerId,
  RealServerSettings,
  ServiceId,
  ServiceSettings,
  SyncDaemonSettings,
  SyncRole,
  Timeouts,
} from './model.ts';

export type Command =
  | AddService
  | EditService
  | DeleteService
  | Flush
  | AddServer
  | EditServer
  | DeleteServer
  | AddLocalAddress
  | DeleteLocalAddress
  | Zero
  | SetTimeouts
  | StartDaemon
  | StopDaemon
  | SetSysctl;

export interface AddService {
  readonly kind: 'addService';
  readonly service: ServiceId;
  readonly settings: ServiceSettings;
}

/** Replaces all settings; real servers and figures stay. */
export interface EditService {
  readonly kind: 'editService';
  readonly service: ServiceId;
  readonly settings: ServiceSettings;
}

export interface DeleteService {
  readonly kind: 'deleteService';
  readonly service: ServiceId;
}

/** Deletes every virtual service; timeouts, sync daemons and sysctls stay. */
export interface Flush {
  readonly kind: 'flush';
}

export interface AddServer {
  readonly kind: 'addServer';
  readonly service: ServiceId;
  readonly server: RealServerId;
  readonly settings: RealServerSettings;
}

/** Replaces all settings; the place in the list, connections and figures stay. */
export interface EditServer {
  readonly kind: 'editServer';
  readonly service: ServiceId;
  readonly server: RealServerId;
  readonly settings: RealServerSettings;
}

export interface DeleteServer {
  readonly kind: 'deleteServer';
  readonly service: ServiceId;
  readonly server: RealServerId;
}

export interface AddLocalAddress {
  readonly kind: 'addLocalAddress';
  readonly service: ServiceId;
  readonly address: Address;
}

export interface DeleteLocalAddress {
  readonly kind: 'deleteLocalAddress';
  readonly service: ServiceId;
  readonly address: Address;
}

/** Sets the counters of one virtual service and its real servers, or all counters, to zero. */
export interface Zero {
  readonly kind: 'zero';
  readonly service?: ServiceId;
}

/** 0 keeps a timeout as it is. */
export interface SetTimeouts {
  readonly kind: 'setTimeouts';
  readonly timeouts: Timeouts;
}

export interface StartDaemon {
  readonly kind: 'startDaemon';
  readonly daemon: SyncDaemonSettings;
}

export interface StopDaemon {
  readonly kind: 'stopDaemon';
  readonly role: SyncRole;
}

/** A name of /proc/sys/net/ipv4/vs and the text written to it. */
export interface SetSysctl {
  readonly kind: 'setSysctl';
  readonly name: string;
  readonly value: string;
}
