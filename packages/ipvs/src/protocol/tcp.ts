/**
 * TCP as a director sees it: it watches one or both directions and never knows windows or retransmissions, so it follows flags
 * (net/netfilter/ipvs has the same tables; spec section 7).
 */
import type { u32, u64 } from '@ipvsd/bpf';
import { IPPROTO_TCP, Tcp } from '../packet/headers.ts';
import { settings } from '../settings.ts';
import { bitsOf, INPUT, INPUT_ONLY, type Protocol, packRow, step, TRUNCATED } from './protocol.ts';

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
export const SYN_RECEIVED = 3;
export const FIN_WAIT = 4;
export const TIME_WAIT = 5;
export const CLOSE = 6;
export const LISTEN = 9;
export const CLOSE_WAIT = 7;
export const SYNACK = 10;

/** ESTABLISHED and FIN_WAIT follow `ipvsadm --set`. */
export const TCP_TIMEOUTS = [2, 900, 120, 60, 120, 120, 10, 60, 30, 120, 120] as const;

/** What a segment says, first that applies. */
export const SYN = 0;
export const FIN = 1;
export const ACK = 2;
export const RST = 3;
/** None of the four: the connection closes. */
export const NOTHING = 4;
/** A reset that also bears SYN: for the states a reset, but it ends a finished connection as a SYN does. */
export const RST_SYN = 5;

const FLAG_FIN = 0x01;
const FLAG_SYN = 0x02;
const FLAG_RST = 0x04;
const FLAG_ACK = 0x10;

/** SYN with ACK counts as SYN. */
export function tcpEvent(flags: u32): u32 {
  if ((flags & FLAG_RST) !== 0) return (flags & FLAG_SYN) !== 0 ? RST_SYN : RST;
  if ((flags & FLAG_SYN) !== 0) return SYN;
  if ((flags & FLAG_FIN) !== 0) return FIN;
  if ((flags & FLAG_ACK) !== 0) return ACK;
  return NOTHING;
}

const SHORT = ['NO', 'ES', 'SS', 'SR', 'FW', 'TW', 'CL', 'CW', 'LA', 'LI', 'SA'];
const row = (states: string): u64 => packRow(SHORT, states);

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
  inputOnly: {
    syn: row('SR ES ES SR SR SR SR SR SR SR SR'),
    fin: row('CL FW SS TW FW TW CL CW LA LI TW'),
    ack: row('ES ES SS ES FW TW CL CW CL LI ES'),
    rst: row('CL CL CL SR CL CL CL CL LA LI CL'),
  },
};

/** While memory is short (secure_tcp): under NAT a connection is established only after the whole handshake. */
export const TCP_SECURE: typeof TCP_NORMAL = {
  //           NO ES SS SR FW TW CL CW LA LI SA
  input: {
    syn: row('SR ES ES SR SR SR SR SR SR SR SA'),
    fin: row('CL CW SS TW TW TW CL CW LA LI SA'),
    ack: row('ES ES SS SR FW TW CL CW CL LI SA'),
    rst: row('CL CL CL SR CL CL CL CL LA LI CL'),
  },
  output: {
    syn: row('SS ES SS SA SS SS SS SS SS LI SA'),
    fin: row('TW FW SS TW FW TW CL TW LA LI TW'),
    ack: row('ES ES SS ES FW TW CL CW LA ES ES'),
    rst: row('CL CL SS CL CL TW CL CL CL CL CL'),
  },
  inputOnly: {
    syn: row('SA ES ES SR SA SA SA SA SA SA SA'),
    fin: row('CL FW SS TW FW TW CL CW LA LI TW'),
    ack: row('ES ES SS ES FW TW CL CW CL LI ES'),
    rst: row('CL CL CL SR CL CL CL CL LA LI CL'),
  },
};

type Rows = (typeof TCP_NORMAL)['input'];

function follow(rows: Rows, state: u32, event: u32): u32 {
  if (event === SYN) return step(rows.syn, state);
  if (event === FIN) return step(rows.fin, state);
  if (event === ACK) return step(rows.ack, state);
  if (event === NOTHING) return CLOSE;
  return step(rows.rst, state);
}

function directed(tables: typeof TCP_NORMAL, state: u32, event: u32, direction: u32): u32 {
  if (direction === INPUT) return follow(tables.input, state, event);
  if (direction === INPUT_ONLY) return follow(tables.inputOnly, state, event);
  return follow(tables.output, state, event);
}

/** Written into `secure_tcp` when memory is short, or by an operator (3). */
const SECURE_FROM = 2;

export const tcp: Protocol = {
  number: IPPROTO_TCP,
  name: 'tcp',
  states: TCP_STATES,
  timeouts: TCP_TIMEOUTS,
  slot: 0,
  established: ESTABLISHED,
  activeStates: bitsOf([ESTABLISHED, 2, SYN_RECEIVED, SYNACK]),
  event(skb, transport) {
    const header = skb.header(Tcp, transport);
    return header === null ? TRUNCATED : tcpEvent(header.flags);
  },
  mayOpen(event) {
    if (event === SYN) return true;
    return settings.only.sloppyTcp !== 0 && event !== RST && event !== RST_SYN;
  },
  isFirst: (event) => event === SYN || event === RST_SYN,
  next(state, event, direction) {
    // Most packets by far, and the same in every table.
    if (event === ACK && state === ESTABLISHED) return ESTABLISHED;
    if (settings.only.secureTcp >= SECURE_FROM) return directed(TCP_SECURE, state, event, direction);
    return directed(TCP_NORMAL, state, event, direction);
  },
};
