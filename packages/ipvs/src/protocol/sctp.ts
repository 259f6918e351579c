/**
 * SCTP: the state follows the type of a packet's first chunk (RFC 9260; spec section 8). A director sees chunks of one or both
 * directions and knows no tags, so it believes what it sees.
 */
import { ntohs, type u32, type u64 } from '@ipvsd/bpf';
import { IPPROTO_SCTP, SctpChunk } from '../packet/headers.ts';
import { settings } from '../settings.ts';
import { bitsOf, INPUT, INPUT_ONLY, type Protocol, packRow, step, TRUNCATED } from './protocol.ts';

export const SCTP_STATES = [
  'NONE',
  'INIT1',
  'INIT',
  'C-SENT',
  'C-REPLIED',
  'C-WAIT',
  'COOKIE',
  'C-ECHOED',
  'ESTABLISHED',
  'S-SENT',
  'S-RECEIVED',
  'S-ACK-SENT',
  'REJECTED',
  'CLOSED',
] as const;

export const SCTP_ESTABLISHED = 8;
export const SCTP_CLOSED = 13;

export const SCTP_TIMEOUTS = [2, 4, 61, 61, 61, 61, 61, 61, 900, 61, 61, 61, 4, 61] as const;

/** What a packet says; DATA stands for all that changes nothing. */
export const SCTP_EVENTS = [
  'data',
  'init',
  'initAck',
  'cookieEcho',
  'cookieAck',
  'shutdown',
  'shutdownAck',
  'shutdownComplete',
  'error',
  'abort',
] as const;
const DATA = 0;
const INIT = 1;
const INIT_ACK = 2;
const COOKIE_ECHO = 3;
const COOKIE_ACK = 4;
const SHUTDOWN = 5;
const SHUTDOWN_ACK = 6;
const SHUTDOWN_COMPLETE = 7;
const ERROR = 8;
const ABORT = 9;

/** Chunk types of RFC 9260 and the event of each. */
const CHUNKS = [
  { type: 1, event: INIT },
  { type: 2, event: INIT_ACK },
  { type: 6, event: ABORT },
  { type: 7, event: SHUTDOWN },
  { type: 8, event: SHUTDOWN_ACK },
  { type: 9, event: ERROR },
  { type: 10, event: COOKIE_ECHO },
  { type: 11, event: COOKIE_ACK },
  { type: 14, event: SHUTDOWN_COMPLETE },
];
const CHUNK_ABORT = 6;
const COMMON_HEADER = 12;
const CHUNK_HEADER = 4;
/** A cookie chunk longer than this is not looked behind. */
const MAX_CHUNK = 4096;

function eventOfChunk(type: u32): u32 {
  for (const chunk of CHUNKS) if (type === chunk.type) return chunk.event;
  return DATA;
}

interface Row {
  readonly event: number;
  readonly packed: u64;
}

const SHORT = ['NO', 'I1', 'IN', 'CS', 'CR', 'CW', 'CO', 'CE', 'ES', 'SS', 'SR', 'SA', 'RJ', 'CL'];
const rows = (...states: readonly string[]): Row[] =>
  states.map((row, event) => ({ event, packed: packRow(SHORT, row) }));

/** Rows in the order of SCTP_EVENTS; columns: the state now, in the order of SCTP_STATES. */
export const SCTP_TABLE = {
  //   NO I1 IN CS CR CW CO CE ES SS SR SA RJ CL
  input: rows(
    'ES I1 IN CS CR CW CO CE ES SS SR SA RJ CL',
    'I1 IN IN CS CR CW CO CE ES SS SR SA IN IN',
    'CW CW CW CS CR CO CO CE ES SS SR SA RJ CL',
    'CR IN IN CR CR CW CO CE ES SS SR SA RJ CL',
    'ES I1 IN CS CR CW CO ES ES SS SR SA RJ CL',
    'SR I1 IN CS CR CW CO CE SR SS SR SA RJ CL',
    'CL IN IN CS CR CW CO CE ES CL SR CL RJ CL',
    'CL CL CL CS CR CW CO CE ES SS SR CL RJ CL',
    'CL I1 IN CS CR CW CO CL ES SS SR SA RJ CL',
    'CL CL CL CL CL RJ CL CL CL CL CL CL CL CL',
  ),
  output: rows(
    'ES I1 IN CS CR CW CO CE ES SS SR SA RJ CL',
    'CW CW CW CW CW CW CW CW ES CW CW CW CW CW',
    'CS CS CS CS CR CW CO CE ES SS SR SA RJ CL',
    'CE CE CE CE CE CE CE CE ES SS SR SA RJ CL',
    'ES ES ES ES ES ES ES ES ES SS SR SA RJ CL',
    'SS SS SS SS SS SS SS SS SS SS SR SA RJ CL',
    'SA SA SA SA SA CW CO CE ES SA SA SA RJ CL',
    'CL I1 IN CS CR CW CO CE ES SS SR SA RJ CL',
    'CL CL CL CL CL CW CO CE ES SS SR SA RJ CL',
    'CL RJ CL CL CL CL CL CL CL CL CL CL CL CL',
  ),
  inputOnly: rows(
    'ES I1 IN CS CR ES CO CE ES SS SR SA RJ CL',
    'I1 IN IN IN IN IN CO CE ES SS SR SA IN IN',
    'CE CE CE CE CE CE CO CE ES SS SR SA RJ CL',
    'ES ES ES ES ES ES CO CE ES SS SR SA RJ CL',
    'ES I1 IN ES ES CW ES ES ES SS SR SA RJ CL',
    'SR I1 IN CS CR CW CO CE SR SS SR SA RJ CL',
    'CL IN IN CS CR CW CO CE CL CL SR CL RJ CL',
    'CL CL CL CL CL CW CO CE ES SS CL CL RJ CL',
    'CL I1 IN CS CR CW CO CE ES SS SR SA RJ CL',
    'CL CL CL CL CL RJ CL CL CL CL CL CL CL CL',
  ),
};

function follow(rows: readonly Row[], state: u32, event: u32): u32 {
  for (const row of rows) if (event === row.event) return step(row.packed, state);
  return state;
}

export const sctp: Protocol = {
  number: IPPROTO_SCTP,
  name: 'sctp',
  states: SCTP_STATES,
  timeouts: SCTP_TIMEOUTS,
  slot: 16,
  established: SCTP_ESTABLISHED,
  activeStates: bitsOf([SCTP_ESTABLISHED]),
  event(skb, transport) {
    const first = skb.header(SctpChunk, transport + COMMON_HEADER);
    if (first === null) return TRUNCATED;
    const event = eventOfChunk(first.type);
    if (event !== COOKIE_ECHO && event !== COOKIE_ACK) return event;
    // A cookie may travel with the next chunk; an ABORT there is what counts. Chunks are padded to 4 bytes.
    const length: u32 = (ntohs(first.length) + 3) & ~3;
    if (length < CHUNK_HEADER || length > MAX_CHUNK) return event;
    const second = skb.header(SctpChunk, transport + COMMON_HEADER + length);
    if (second === null) return event;
    return second.type === CHUNK_ABORT ? ABORT : event;
  },
  mayOpen(event) {
    if (event === INIT) return true;
    return settings.only.sloppySctp !== 0 && event !== ABORT;
  },
  isFirst: (event) => event === INIT,
  next(state, event, direction) {
    if (direction === INPUT) return follow(SCTP_TABLE.input, state, event);
    if (direction === INPUT_ONLY) return follow(SCTP_TABLE.inputOnly, state, event);
    return follow(SCTP_TABLE.output, state, event);
  },
};
