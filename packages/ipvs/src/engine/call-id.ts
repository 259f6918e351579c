/**
 * The Call-ID of a SIP message (RFC 3261 section 8.1.1.4): `Call-ID:` or its short form `i:` at the beginning of a line after the
 * first; its value is a word, or two with an @ between, and ends with its line.
 *
 * A small machine reads byte by byte; its state lies in a map, so that the verifier sees one step and not all ways through a
 * message.
 */
import { loadBytes, loop, percpuArray, type Skb, stack, struct, u8, u32, u64 } from '@ipvsd/bpf';
import type { EngineKey } from './engine.ts';

/** As much as a template remembers. */
export const MAX_DATA = 255;

const Scan = struct('call_id_scan', { state: u32 });
const scans = percpuArray('call_id_scan', Scan, { maxEntries: 1 });
const One = struct('call_id_byte', { byte: u8 });

const NAME = 'call-id';
const COMPACT_NAME = 'i';

// States: 1 at the beginning of a line; from there on one more for each letter of the name that was read.
const IN_LINE = 0;
const LINE_BEGINS = 1;
const AFTER_NAME = LINE_BEGINS + NAME.length;
const AFTER_COMPACT = 9;
const BEFORE_VALUE = 10;
const IN_WORD = 11;
const BEFORE_HOST = 12;
const IN_HOST = 13;
const COMPLETE = 14;
const REFUSED = 15;

const codeOf = (letter: string): number => letter.charCodeAt(0);
const [TAB, LF, CR, SPACE, AT, COLON, A, Z] = ['\t', '\n', '\r', ' ', '@', ':', 'A', 'Z'].map(codeOf) as [
  number,
  number,
  number,
  number,
  number,
  number,
  number,
  number,
];

/** The name's letters, the first in the lowest byte. */
const LETTERS: u64 = [...NAME].reduce((packed, letter, i) => packed | (BigInt(codeOf(letter)) << BigInt(8 * i)), 0n);

const LETTERS_OF_WORDS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-.!%*_+`\'~()<>:\\"/[]?{}';
const setOf = (from: number): u64 =>
  [...LETTERS_OF_WORDS].reduce((bits, letter) => {
    const bit = codeOf(letter) - from;
    return bit >= 0 && bit < 64 ? bits | (1n << BigInt(bit)) : bits;
  }, 0n);
const WORD_LOW: u64 = setOf(0);
const WORD_HIGH: u64 = setOf(64);

function isOfWord(byte: u32): boolean {
  if (byte > 127) return false;
  const set: u64 = byte < 64 ? WORD_LOW : WORD_HIGH;
  return (u32(set >> u64(byte & 63)) & 1) !== 0;
}

/**
 * Writes the Call-ID of the message in `length` bytes from `offset` on into the key; false where there is none, or none that may
 * be one.
 * @subprog
 */
export function readCallId(skb: Skb, offset: u32, length: u32, key: EngineKey): boolean {
  const scan = scans.at(0);
  if (scan === null) return false;
  scan.state = IN_LINE;
  key.length = 0;
  const one = stack(One);
  loop(length & 0xffff, (i) => {
    if (loadBytes(skb, u32(offset + i) & 0xffff, one) !== 0) return 1;
    const next = stateAfter(scan.state, one.byte);
    scan.state = next;
    if (next >= COMPLETE) return 1;
    if (next < IN_WORD) return 0;
    const at = key.length;
    if (at >= MAX_DATA) {
      scan.state = REFUSED;
      return 1;
    }
    key.data.set(at & 0xff, one.byte);
    key.length = u32(at + 1);
    return 0;
  });
  return scan.state === COMPLETE;
}

function stateAfter(state: u32, byte: u32): u32 {
  const ends = byte === CR || byte === LF;
  if (state >= IN_WORD) return afterPartOfValue(state, byte, ends);
  const blank = byte === SPACE || byte === TAB;
  if (state === BEFORE_VALUE) {
    if (blank) return BEFORE_VALUE;
    return isOfWord(byte) ? IN_WORD : REFUSED;
  }
  if (ends) return LINE_BEGINS;
  if (state === IN_LINE) return IN_LINE;
  if (state === AFTER_NAME || state === AFTER_COMPACT) {
    if (byte === COLON) return BEFORE_VALUE;
    return blank ? state : IN_LINE;
  }
  const small: u32 = byte >= A && byte <= Z ? byte + 32 : byte;
  if (state === LINE_BEGINS && small === codeOf(COMPACT_NAME)) return AFTER_COMPACT;
  const wanted = u32(LETTERS >> u64(((state - LINE_BEGINS) & 7) * 8)) & 0xff;
  return small === wanted ? u32(state + 1) : IN_LINE;
}

function afterPartOfValue(state: u32, byte: u32, ends: boolean): u32 {
  if (isOfWord(byte)) return state === BEFORE_HOST ? IN_HOST : state;
  if (state === IN_WORD && byte === AT) return BEFORE_HOST;
  return ends && state !== BEFORE_HOST ? COMPLETE : REFUSED;
}
