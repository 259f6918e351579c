/**
 * What a transport protocol is to a director: which of its packets may open a connection, what a packet tells about one, and
 * how long silence lasts in each state. One file per protocol, all of this shape.
 *
 * Tables of states are written as operators read them and packed when the program is compiled: a row is one 64-bit constant,
 * four bits a state, so that a transition is a shift and a mask.
 */
import { type Skb, u32, u64 } from '@ipvsd/bpf';

/** Which way a packet goes; INPUT_ONLY: from the client, where replies do not come back through the director (DR, TUN). */
export const INPUT = 0;
export const OUTPUT = 1;
export const INPUT_ONLY = 2;

/** What `event` answers when the packet ends inside the header. */
export const TRUNCATED = 15;

export interface Protocol {
  readonly number: number;
  readonly name: 'tcp' | 'udp' | 'sctp';
  /** As listings show them; the number of a state is its place. At most 16. */
  readonly states: readonly string[];
  /** Seconds of silence, by state. */
  readonly timeouts: readonly number[];
  /** Where its timeouts lie in the settings. */
  readonly slot: number;
  /** The state that makes a connection's template assured; 16 where none does. */
  readonly established: number;
  /** Bit by state: those that count as active. */
  readonly activeStates: number;
  /** What the packet says, as a number of the protocol's own. */
  readonly event: (skb: Skb, transport: u32) => u32;
  /** Whether such a packet may open a connection. */
  readonly mayOpen: (event: u32) => boolean;
  /** Whether it is a client's first word, which may take over a finished connection. */
  readonly isFirst: (event: u32) => boolean;
  /** The state after it. */
  readonly next: (state: u32, event: u32, direction: u32) => u32;
}

/** Packs a row of short names. */
export const packRow = (names: readonly string[], row: string): u64 =>
  row.split(' ').reduce((packed, name, i) => packed | (BigInt(names.indexOf(name)) << BigInt(4 * i)), 0n);

/** The state in the column of `state`. */
export const step = (row: u64, state: u32): u32 => u32(row >> u64((state & 15) * 4)) & 15;

/** A set of states as bits. */
export const bitsOf = (states: readonly number[]): number => states.reduce((bits, state) => bits | (1 << state), 0);
