/**
 * What a scheduler is: `schedule` chooses a real server for a new connection, in the kernel; `prepare` and `table` make what
 * it remembers whenever the service or its real servers change, in Node.
 */
import { type be16, loop, ntohl, raw, rawBe32, u32, u64 } from '@ipvsd/bpf';
import type { Address6 } from '../packet/address.ts';
import {
  memberRow,
  NONE,
  ROW,
  SERVER_OVERLOAD,
  type Service,
  type ServiceState,
  type Standing,
  standingOf,
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

/** The number of the real server at a place of the service's list, which must have so many. */
export function memberNumber(service: Service, place: u32): u32 {
  const at: u32 = u32(service.first + place);
  return memberRow(at >>> ROW_BITS).servers.get(at & (ROW - 1));
}

/** How it stands. */
export const memberAt = (service: Service, place: u32): Standing => standingOf(memberNumber(service, place));

const ROW_BITS = Math.log2(ROW);
const PLACES_OF_ROW = Array.from({ length: ROW }, (_, place) => place);

/** At its upper threshold, or not yet back under the lower one. */
export const isOverloaded = (server: Standing): boolean => (server.flags & SERVER_OVERLOAD) !== 0;

/** Takes new connections: some weight, and not overloaded. */
export const isEligible = (server: Standing): boolean => !isOverloaded(server) && server.weight > 0;

/** Calls `visit` with each real server that takes connections, newest first, and its number; 1 ends it, 0 goes on. */
export function eachServer(service: Service, visit: (server: Standing, number: u32) => 0 | 1): void {
  eachMember(service, (server, number) => (isEligible(server) ? visit(server, number) : 0));
}

/**
 * The same for all that are in the list, and for some that are nobody and weigh nothing. A row at a time: a round of bpf_loop
 * costs as much as to weigh two real servers.
 */
export function eachMember(service: Service, visit: (server: Standing, number: u32) => 0 | 1): void {
  const first: u32 = service.first >>> ROW_BITS;
  loop((service.count + (ROW - 1)) >>> ROW_BITS, (i) => {
    const row = memberRow(u32(first + i));
    for (const place of PLACES_OF_ROW) {
      const number: u32 = row.servers.get(place);
      if (visit(standingOf(number), number) === 1) return 1;
    }
    return 0;
  });
}

/**
 * The number of the real server whose load is the least for its weight, the first in the list where several have it, NONE where
 * none takes connections. One whose load is `idle` is taken at once.
 */
export function lightest(
  service: Service,
  loadOf: (server: Standing) => u32,
  weightOf?: (server: Standing) => u32,
  idle?: number,
): u32 {
  // For its weight one that has none is lighter than nobody, and need not be asked.
  const mayBeTaken = weightOf === undefined && idle === undefined ? isNotOverloaded : isEligible;
  const itsOwn = weightOf ?? weightOfStanding;
  let chosen: u32 = NONE;
  // Heavier than anyone: a load for no weight at all.
  let least: u32 = 1;
  let weight: u32 = 0;
  const first: u32 = service.first >>> ROW_BITS;
  loop((service.count + (ROW - 1)) >>> ROW_BITS, (i) => {
    const row = memberRow(u32(first + i));
    // In registers for a row: what a round shares with the next lies in memory.
    let best: u32 = chosen;
    let itsLoad: u32 = least;
    let itsWeight: u32 = weight;
    for (const place of PLACES_OF_ROW) {
      const number: u32 = row.servers.get(place);
      const server = standingOf(number);
      if (mayBeTaken(server)) {
        const load = loadOf(server);
        if (idle !== undefined && load === idle) {
          chosen = number;
          return 1;
        }
        const own = itsOwn(server);
        if (isLighter(load, own, itsLoad, itsWeight)) {
          best = number;
          itsLoad = load;
          itsWeight = own;
        }
      }
    }
    chosen = best;
    least = itsLoad;
    weight = itsWeight;
    return 0;
  });
  return chosen;
}

const isNotOverloaded = (server: Standing): boolean => !isOverloaded(server);
const weightOfStanding = (server: Standing): u32 => server.weight;

/** What a real server carries: an active connection weighs as much as 256 inactive ones. */
export const overhead = (server: Standing): number => server.active * 256 + server.inactive;

/** How long a connection would wait there: for the active ones and itself. */
export const delayOf = (server: Standing): u32 => u32(server.active + 1);

/** Whether a load is less than another, each for its weight: a / wa < b / wb, asked without a division, in 64 bits. */
export const isLighter = (load: u32, weight: u32, than: u32, itsWeight: u32): boolean =>
  u64(load) * u64(itsWeight) < u64(than) * u64(weight);

/** An address as one number, for hashing: IPv4 in host order, IPv6 its four words xor-ed. */
export const foldAddress = (address: Address6): u32 =>
  ntohl(rawBe32(u32(raw(address.a) ^ raw(address.b) ^ raw(address.c) ^ raw(address.d))));
