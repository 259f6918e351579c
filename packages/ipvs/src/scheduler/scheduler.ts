/**
 * What a scheduler is: `schedule` chooses a real server for a new connection, in the kernel; `prepare` and `table` make what
 * it remembers whenever the service or its real servers change, in Node.
 */
import { type be16, ntohl, raw, rawBe32, u32, u64 } from '@ipvsd/bpf';
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
  readonly clientPort: be16;
}

/** What a scheduler remembers between connections, as `prepare` sees it. */
export interface Prepared {
  readonly cursor: number;
  readonly current: number;
  readonly maximum: number;
  readonly divisor: number;
}

/** A real server as `prepare` and `table` see it. */
export interface PreparedMember {
  readonly server: number;
  readonly weight: number;
  /** The last weight that was not 0. */
  readonly lastWeight: number;
  /** Its address as `foldAddress` has it. */
  readonly address: number;
  readonly port: number;
}

export interface Scheduler {
  /** As `ipvsadm -s` names it. */
  readonly name: string;
  /** Stored in services; never given to another scheduler. */
  readonly number: number;
  /** The number of the chosen real server, or NONE. */
  readonly schedule: (service: Service, state: ServiceState, asking: Asking) => u32;
  /** `members` in list order, newest first; `change`: what happened to them since the state was made. */
  readonly prepare: (members: readonly PreparedMember[], before: Prepared, change: MemberChange) => Prepared;
  /** Numbers of real servers by slot, for `serverInSlot`; undefined leaves the table as it is. */
  readonly table?: (members: readonly PreparedMember[], change: MemberChange) => readonly number[] | undefined;
}

/** `list`: real servers came or went, or the scheduler is new to the service; `edit`: their settings changed. */
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

/** Whether a load is less than another, each for its weight: a / wa < b / wb, asked without a division, in 64 bits. */
export const isLighter = (load: u32, weight: u32, than: u32, itsWeight: u32): boolean =>
  u64(load) * u64(itsWeight) < u64(than) * u64(weight);

/** An address as one number, for hashing: IPv4 in host order, IPv6 its four words xor-ed. */
export const foldAddress = (address: Address6): u32 =>
  ntohl(rawBe32(u32(raw(address.a) ^ raw(address.b) ^ raw(address.c) ^ raw(address.d))));
