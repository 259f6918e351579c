/**
 * The connection: one entry that both directions find, with its state, its timer and what rewriting needs.
 *
 * Entries lie in an array; the two flows of a connection (family.ts) lead to its number. So state lives once, a scan for
 * what has expired is a walk through memory, and a free number is taken from a stack. Numbers never used lie above
 * `highest`, which bounds the scan.
 */
import { arrayMap, atomicFetchAdd, be16, single, stack, stackMap, struct, u8, u32, type ViewOf } from '@ipvsd/bpf';
import { Address6 } from '../packet/address.ts';
import { METHOD_FULLNAT, NONE, Route } from '../service/service.ts';
import { settings } from '../settings.ts';

/** Flags, with the kernel's numbers (enum ip_vs_conn_flags). The forwarding method is that of the real server at the time. */
export const METHOD_MASK = 0x0007;
/** Packets find it. Not so entries of one-packet services and templates that are no longer valid. */
export const HASHED = 0x0040;
export const NO_OUTPUT = 0x0080;
export const INACTIVE = 0x0100;
export const NO_CLIENT_PORT = 0x0800;
export const TEMPLATE = 0x1000;
export const ONE_PACKET = 0x2000;
/** Ours: the real server's address is of the other family (tunnels, FULLNAT). */
export const OTHER_FAMILY = 0x0100_0000;
/** Ours: the port of its real server, and so the virtual one, is not known yet (expected.ts). */
export const NO_SERVER_PORT = 0x0400_0000;
/** Either port is not known yet. */
export const UNKNOWN_PORT = NO_CLIENT_PORT + NO_SERVER_PORT;
/** Ours: its sequence numbers are others than their senders', see forward/sequence.ts. Set only before packets find it. */
export const ADJUSTED = 0x0200_0000;
/** Ours: the number of its helper in three bits (helper/helper.ts), 0 for none. */
export const HELPER_SHIFT = 28;
export const HELPER_UNIT = 2 ** HELPER_SHIFT;
export const HELPER_MASK = 0x7000_0000;
/** It has records of forward/sequence.ts. */
export const HAS_ADJUSTMENTS = ADJUSTED + HELPER_MASK;
/** Ours: its service limits TCP segments (forward/handshake.ts), and its handshake goes on. */
export const LIMITED = 0x0010_0000;
export const SHAKING = 0x0800_0000;
/** One test for established packets: any of them takes a packet off the fast path (altered.ts). */
export const ALTERED = HAS_ADJUSTMENTS + SHAKING;
/** Ours: a template that a persistence engine finds (engine/engine.ts). */
export const OF_ENGINE = 0x0080_0000;
/** Ours: its service says how long it may be silent, and what follows then (connection/idle.ts). */
export const HAS_IDLE_RULE = 0x0020_0000;
/** Ours: the client's packets find another connection by now; only the real server's find this one. */
export const SUPERSEDED = 0x0040_0000;

/** A client of IPv6 and a real server of IPv4: their packets change the family (forward/nat64.ts). */
export const isNat64 = (c: ViewOf<typeof Connection>): boolean =>
  (c.flags & (OTHER_FAMILY + METHOD_MASK)) === OTHER_FAMILY + METHOD_FULLNAT;

/** State of a template, as bits: a connection of it was established. */
export const ASSURED = 1;

/** Two lines of the cache: what each packet writes in the first, what it is found by and where it goes back to in the second. */
export const Connection = struct('connection', {
  real: Address6,
  realPort: be16,
  protocol: u8,
  family: u8,
  /** 1 while it is in the table. Whoever changes it to 0 removes the rest. */
  alive: u32,
  flags: u32,
  state: u32,
  /** Ticks without a packet after which it expires. */
  timeout: u32,
  lastSeen: u32,
  /** Number of its real server; NONE where it has none (bypass). */
  server: u32,
  inPackets: u32,
  /** Number of the connection that controls it plus one; 0 when none does. */
  controller: u32,
  /** How many it controls. */
  controls: u32,
  /** Firewall mark of its first packet. */
  mark: u32,
  /** Its own number, for what lies beside it (connection/idle.ts, connection/local-end.ts). */
  number: u32,
  client: Address6,
  virtual: Address6,
  clientPort: be16,
  virtualPort: be16,
  /** Back to the client. */
  route: Route,
});
export type Connection = ViewOf<typeof Connection>;

export const MAX_CONNECTIONS = 262_144;
/**
 * Places beyond the limit: for connections of clients whose template is assured, that is who have been here and have had a
 * connection. A flood of unknown ones fills the table to its limit and no further.
 */
export const reservedFor = (maxConnections: number): number => maxConnections >>> 4;

export const connections = arrayMap('connections', Connection, { maxEntries: MAX_CONNECTIONS, aligned: true });

const Slot = struct('slot', { connection: u32 });
const freeSlots = stackMap('free_slots', Slot, { maxEntries: MAX_CONNECTIONS });

export const Population = struct('population', {
  /** Numbers below were in use at some time. */
  highest: u32,
  /** Connections in the table now. */
  alive: u32,
  /** Of these, expected ones of which a port is not known yet. */
  expected: u32,
});
export const population = single('population', Population);

/** A number for a new connection, or NONE when the table is full. `known`: of a client that may have the reserved places. */
export function takeSlot(known: boolean): u32 {
  const table = population.only;
  const most = u32(settings.only.maxConnections + (known ? settings.only.reservedConnections : 0));
  if (table.alive >= most) return NONE;
  const slot = stack(Slot);
  if (freeSlots.pop(slot) === 0) return slot.connection;
  if (table.highest >= most) return NONE;
  const fresh = atomicFetchAdd(table, 'highest', 1);
  // Two CPUs may both have seen room for one; the loser's number lies beyond the end and is never used.
  return fresh < most ? fresh : NONE;
}

export function returnSlot(connection: u32): void {
  const slot = stack(Slot, { connection });
  freeSlots.push(slot, 0);
}
