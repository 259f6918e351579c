/**
 * TCP's states as a director sees them: it watches one or both directions and never knows windows or retransmissions, so it
 * follows flags (net/netfilter/ipvs has the same table; spec section 7).
 *
 * The table is written as operators read it and packed when the program is compiled: a row is one 64-bit constant, four bits
 * a state, so that a transition is a shift and a mask.
 */
import { u32, u64 } from '@ipvsd/bpf';

export const TCP_STATES = [
  'NONE',
  'ESTABLISHED',
  'SYN_SENT',
  'SYN_RECV',
  'FIN_WAIT',
  'TIME_WAIT',
  'CLOSE',
  'CLOSE_WAIT',
  'LAST_ACK',
  'LISTEN',
  'SYNACK',
] as const;

export const ESTABLISHED = 1;
export const TIME_WAIT = 5;
export const CLOSE = 6;

/** Seconds without a packet; ESTABLISHED and FIN_WAIT follow `ipvsadm --set`. */
export const TCP_TIMEOUTS = [2, 900, 120, 60, 120, 120, 10, 60, 30, 120, 120] as const;

/** States that count as active. */
const ACTIVE_STATES = [1, 2, 3, 10];
const ACTIVE_MASK = ACTIVE_STATES.reduce((mask, state) => mask | (1 << state), 0);

export const isActive = (state: u32): boolean => ((ACTIVE_MASK >>> (state & 15)) & 1) !== 0;

/** What a segment says, first that applies; 4 where it says nothing, which closes. */
export const SYN = 0;
export const FIN = 1;
export const ACK = 2;
export const RST = 3;
export const NOTHING = 4;

const FLAG_FIN = 0x01;
const FLAG_SYN = 0x02;
const FLAG_RST = 0x04;
const FLAG_ACK = 0x10;

export function tcpEvent(flags: u32): u32 {
  if ((flags & FLAG_RST) !== 0) return RST;
  if ((flags & FLAG_SYN) !== 0) return SYN;
  if ((flags & FLAG_FIN) !== 0) return FIN;
  if ((flags & FLAG_ACK) !== 0) return ACK;
  return NOTHING;
}

/** Columns: the state now, in the order of TCP_STATES. */
export const TCP_NORMAL = {
  //           NO ES SS SR FW TW CL CW LA LI SA
  input: {
    syn: row('SR ES ES SR SR SR SR SR SR SR SR'),
    fin: row('CL CW SS TW TW TW CL CW LA LI TW'),
    ack: row('ES ES SS ES FW TW CL CW CL LI ES'),
    rst: row('CL CL CL SR CL CL CL CL LA LI SR'),
  },
  output: {
    syn: row('SS ES SS SR SS SS SS SS SS LI SR'),
    fin: row('TW FW SS TW FW TW CL TW LA LI TW'),
    ack: row('ES ES SS ES FW TW CL CW LA ES ES'),
    rst: row('CL CL SS CL CL TW CL CL CL CL CL'),
  },
  /** Where replies do not come back through the director (DR, TUN). */
  inputOnly: {
    syn: row('SR ES ES SR SR SR SR SR SR SR SR'),
    fin: row('CL FW SS TW FW TW CL CW LA LI TW'),
    ack: row('ES ES SS ES FW TW CL CW CL LI ES'),
    rst: row('CL CL CL SR CL CL CL CL LA LI CL'),
  },
};

type Rows = (typeof TCP_NORMAL)['input'];

function row(states: string): u64 {
  const short = ['NO', 'ES', 'SS', 'SR', 'FW', 'TW', 'CL', 'CW', 'LA', 'LI', 'SA'];
  return states.split(' ').reduce((packed, name, i) => packed | (BigInt(short.indexOf(name)) << BigInt(4 * i)), 0n);
}

const step = (packed: u64, state: u32): u32 => u32(packed >> u64((state & 15) * 4)) & 15;

function follow(rows: Rows, state: u32, event: u32): u32 {
  if (event === SYN) return step(rows.syn, state);
  if (event === FIN) return step(rows.fin, state);
  if (event === ACK) return step(rows.ack, state);
  if (event === RST) return step(rows.rst, state);
  return CLOSE;
}

/** The state after a segment from the client (`repliesUnseen`: of a connection whose replies go another way). */
export function afterRequest(state: u32, event: u32, repliesUnseen: boolean): u32 {
  if (repliesUnseen) return follow(TCP_NORMAL.inputOnly, state, event);
  return follow(TCP_NORMAL.input, state, event);
}

/** The state after a segment from the real server. */
export const afterReply = (state: u32, event: u32): u32 => follow(TCP_NORMAL.output, state, event);
