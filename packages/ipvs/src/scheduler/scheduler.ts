/**
 * What a scheduler is: `schedule` chooses a real server for a new connection, in the kernel; `prepare` makes what it
 * remembers whenever the service or its real servers change, in Node.
 */
import { u32 } from '@ipvsd/bpf';
import type { Address6 } from '../packet/address.ts';
import {
  members,
  NONE,
  type RealServer,
  SERVER_OVERLOAD,
  type Service,
  type ServiceState,
  servers,
} from '../service/service.ts';

export { NONE };

/** The packet that asks, as schedulers may see it. */
export interface Asking {
  readonly client: Address6;
  readonly virtual: Address6;
}

/** A service as `prepare` sees it: its real servers in list order, newest first. */
export interface Prepared {
  readonly cursor: number;
  readonly current: number;
  readonly maximum: number;
  readonly divisor: number;
}

export interface PreparedMember {
  readonly server: number;
  readonly weight: number;
  readonly lastWeight: number;
}

export interface Scheduler {
  /** As `ipvsadm -s` names it. */
  readonly name: string;
  /** Stored in services; never given to another scheduler. */
  readonly number: number;
  /** The number of the chosen real server, or NONE. */
  readonly schedule: (service: Service, state: ServiceState, asking: Asking) => u32;
  /** `change`: what happened to the members since the state was made. */
  readonly prepare: (members: readonly PreparedMember[], before: Prepared, change: MemberChange) => Prepared;
}

export type MemberChange = { readonly kind: 'list'; readonly before: readonly number[] } | { readonly kind: 'edit' };

export const EMPTY: Prepared = { cursor: 0, current: 0, maximum: 0, divisor: 0 };

/** The real server at a place of the service's list; null beyond its end. */
export function memberAt(service: Service, place: u32): RealServer | null {
  const member = members.at(u32(service.first + place));
  if (member === null) return null;
  return servers.at(member.server);
}

export function memberNumber(service: Service, place: u32): u32 {
  const member = members.at(u32(service.first + place));
  return member === null ? NONE : member.server;
}

/** At its upper threshold, or not yet back under the lower one. */
export const isOverloaded = (server: RealServer): boolean => (server.flags & SERVER_OVERLOAD) !== 0;

/** Takes new connections: some weight, and not overloaded. */
export const isEligible = (server: RealServer): boolean => !isOverloaded(server) && server.weight > 0;

/** What a real server carries: an active connection weighs as much as 256 inactive ones. */
export const overhead = (server: RealServer): number => server.active * 256 + server.inactive;
