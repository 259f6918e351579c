/**
 * Reading text in a packet, byte by byte, wherever it lies: lines that begin with a word, numbers, addresses.
 *
 * All that a reader has found out stands in a map of each CPU's own, not in variables: so the verifier follows one round of a
 * loop and not every text that there can be.
 */
import {
  array,
  be32,
  htonl,
  loadBytes,
  loop,
  ntohl,
  percpuArray,
  rawBe32,
  type Skb,
  stack,
  struct,
  u8,
  u16,
  u32,
  type ViewOf,
} from '@ipvsd/bpf';
import type { Address6 } from '../packet/address.ts';
import { NONE } from '../service/service.ts';

export const Reading = struct('reading', {
  /** Where the text is read next, and where it ends, as offsets in the packet. */
  at: u32,
  end: u32,
  /** What was found: its first byte, and the one behind its last. */
  first: u32,
  last: u32,
  /** IPv4 in the machine's order. */
  address: u32,
  port: u32,
  /** Of a pair of ports the other. */
  second: u32,
  /** Of `|protocol|address|port|`: the protocol, and where the address stands. */
  protocol: u32,
  addressAt: u32,
  addressEnd: u32,
  // While it is being found.
  found: u32,
  count: u32,
  digits: u32,
  value: u32,
  delimiter: u32,
  gap: u32,
  groups: array(u16, 8),
});
export type Reading = ViewOf<typeof Reading>;

const readings = percpuArray('readings', Reading, { maxEntries: 1 });

/** This CPU's; null never happens, but the verifier asks. */
export const readingOf = (): Reading | null => readings.at(0);

const Byte = struct('text_byte', { value: u8 });
const Four = struct('text_four', { word: be32 });

/** More than any packet that is not segmented later has. */
const LONGEST_TEXT = 2048;
/** Longer than what a command says: six numbers, or an IPv6 address and a port. */
const LONGEST_WORD = 96;
/** Offsets that a packet may have. */
const MOST = 0xffff;
const LINE_FEED = 10;
const RETURN = 13;
const ZERO = 48;
/** Small letters to capitals, which makes other characters others: on both sides of a comparison. */
const CAPITAL = 0xdf;

/** Read from `at` to `end`. */
export function beginReading(at: u32, end: u32): void {
  const r = readingOf();
  if (r === null) return;
  r.at = at;
  r.end = end;
}

/** Four letters as a number, small ones as capitals (which makes other characters others, on both sides of a comparison). */
function wordOf(text: string): number {
  return [...text].reduce((word, letter) => word * 256 + (letter.charCodeAt(0) & CAPITAL), 0);
}

/** Words of four letters that a line can begin with. */
export const lineWords = (...words: readonly string[]): readonly LineWord[] =>
  words.map((text, place) => ({ word: wordOf(text), place }));

export interface LineWord {
  readonly word: number;
  readonly place: number;
}

/** The next line that begins with one of `words`: its place among them, or NONE. What follows the word is read next. */
export function findLine(skb: Skb, words: readonly LineWord[]): u32 {
  const reading = readingOf();
  if (reading === null) return NONE;
  reading.found = NONE;
  reading.count = 0;
  reading.value = 0;
  const byte = stack(Byte);
  loop(LONGEST_TEXT, () => {
    const r = readingOf();
    if (r === null || r.at >= r.end || loadBytes(skb, r.at & MOST, byte) !== 0) return 1;
    r.at = u32(r.at + 1);
    if (byte.value === LINE_FEED) {
      r.count = 0;
      r.value = 0;
      return 0;
    }
    if (r.count >= 4) return 0;
    r.count = u32(r.count + 1);
    r.value = u32(r.value * 256 + (byte.value & CAPITAL));
    if (r.count < 4) return 0;
    for (const { word, place } of words) if (r.value === word) r.found = place;
    return r.found === NONE ? 0 : 1;
  });
  return reading.found;
}

/** The next place in this line where one of `words` stands, within a longer word too. What follows it is read next. */
export const findInLine = (skb: Skb, words: readonly LineWord[]): boolean => find(skb, words, LINE_FEED);
/** The same, in this line or any that follow. */
export const findInText = (skb: Skb, words: readonly LineWord[]): boolean => find(skb, words, NONE);

function find(skb: Skb, words: readonly LineWord[], last: number): boolean {
  const reading = readingOf();
  if (reading === null) return false;
  reading.found = NONE;
  reading.value = 0;
  const byte = stack(Byte);
  loop(LONGEST_TEXT, () => {
    const r = readingOf();
    if (r === null || r.at >= r.end || loadBytes(skb, r.at & MOST, byte) !== 0) return 1;
    if (byte.value === last) return 1;
    r.at = u32(r.at + 1);
    r.value = u32(r.value * 256 + (byte.value & CAPITAL));
    for (const { word, place } of words) if (r.value === word) r.found = place;
    return r.found === NONE ? 0 : 1;
  });
  return reading.found !== NONE;
}

/** The four letters that are read next, as lineWords has them; 0 where there are fewer. */
export function readFour(skb: Skb): u32 {
  const r = readingOf();
  const letters = stack(Four);
  if (r === null || u32(r.at + Four.size) > r.end || loadBytes(skb, r.at & MOST, letters) !== 0) return 0;
  r.at = u32(r.at + Four.size);
  return u32(ntohl(letters.word) & CAPITALS);
}
const CAPITALS = CAPITAL * 0x0101_0101;

/** Whether the byte that is read next is `wanted`, which then is behind. */
export function isNext(skb: Skb, wanted: u32): boolean {
  const r = readingOf();
  const byte = stack(Byte);
  if (r === null || r.at >= r.end || loadBytes(skb, r.at & MOST, byte) !== 0 || byte.value !== wanted) return false;
  r.at = u32(r.at + 1);
  return true;
}

/**
 * The digits that are read next as a number, which must fit into 32 bits; 0 where there are none.
 * @subprog
 */
export function readNumber(skb: Skb): u32 {
  const reading = readingOf();
  if (reading === null) return 0;
  reading.value = 0;
  reading.digits = 0;
  const byte = stack(Byte);
  loop(10, () => {
    const r = readingOf();
    if (r === null || r.at >= r.end || loadBytes(skb, r.at & MOST, byte) !== 0) return 1;
    const digit = u32(byte.value - ZERO);
    if (digit > 9) return 1;
    r.at = u32(r.at + 1);
    r.value = u32(r.value * 10 + digit);
    return 0;
  });
  return reading.value;
}

/**
 * What stands up to the next semicolon or the end of the line, if anything: its place, as that of an address too.
 * @subprog
 */
export function readValue(skb: Skb): boolean {
  const reading = readingOf();
  if (reading === null) return false;
  reading.first = reading.at;
  const byte = stack(Byte);
  loop(LONGEST_WORD, () => {
    const r = readingOf();
    if (r === null || r.at >= r.end || loadBytes(skb, r.at & MOST, byte) !== 0) return 1;
    if (byte.value === SEMICOLON || byte.value <= 32) return 1;
    r.at = u32(r.at + 1);
    return 0;
  });
  reading.last = reading.at;
  reading.addressAt = reading.first;
  reading.addressEnd = reading.last;
  return reading.last !== reading.first;
}
const SEMICOLON = 59;

/** The byte that is read next, which is then behind; NONE at the end. */
export function readByte(skb: Skb): u32 {
  const r = readingOf();
  const byte = stack(Byte);
  if (r === null || r.at >= r.end || loadBytes(skb, r.at & MOST, byte) !== 0) return NONE;
  r.at = u32(r.at + 1);
  return byte.value;
}

/**
 * Read on behind the next `wanted` of this line, or up to the next digit where `wanted` is 0. False where there is none, and
 * then nothing was read.
 * @subprog
 */
export function readUpTo(skb: Skb, wanted: u32): boolean {
  const reading = readingOf();
  if (reading === null) return false;
  const start = reading.at;
  reading.found = 0;
  const byte = stack(Byte);
  loop(LONGEST_TEXT, () => {
    const r = readingOf();
    if (r === null || r.at >= r.end || loadBytes(skb, r.at & MOST, byte) !== 0) return 1;
    if (byte.value === LINE_FEED || byte.value === RETURN) return 1;
    const digit = wanted === 0 && u32(byte.value - ZERO) < 10;
    if (digit || byte.value === wanted) r.found = 1;
    if (!digit) r.at = u32(r.at + 1);
    return r.found === 0 ? 0 : 1;
  });
  if (reading.found === 0) reading.at = start;
  return reading.found !== 0;
}

/**
 * `h1,h2,h3,h4,p1,p2` (RFC 959) with something behind it: its place, address and port.
 * @subprog
 */
export function readNumbers(skb: Skb): boolean {
  const reading = readingOf();
  if (reading === null) return false;
  reading.found = 0;
  reading.count = 0;
  reading.digits = 0;
  reading.value = 0;
  reading.address = 0;
  reading.port = 0;
  reading.first = reading.at;
  const byte = stack(Byte);
  loop(LONGEST_WORD, () => {
    const r = readingOf();
    if (r === null || r.at >= r.end || loadBytes(skb, r.at & MOST, byte) !== 0) return 1;
    const at = r.at;
    r.at = u32(at + 1);
    const digit = u32(byte.value - ZERO);
    if (digit < 10) {
      r.value = u32(r.value * 10 + digit);
      r.digits = u32(r.digits + 1);
      return r.value > 255 || r.digits > 3 ? 1 : 0;
    }
    if (r.digits === 0) return 1;
    if (r.count < 4) r.address = u32(r.address * 256 + r.value);
    else r.port = u32(r.port * 256 + r.value);
    r.digits = 0;
    r.value = 0;
    r.count = u32(r.count + 1);
    if (r.count === 6) {
      r.last = at;
      r.found = 1;
      return 1;
    }
    return byte.value === COMMA ? 0 : 1;
  });
  return reading.found !== 0;
}
const COMMA = 44;

/**
 * `|protocol|address|port|` (RFC 2428), each but the port may be empty, with any delimiter of that kind: its place and parts.
 * @subprog
 */
export function readFields(skb: Skb): boolean {
  const reading = readingOf();
  if (reading === null) return false;
  reading.found = 0;
  reading.count = 0;
  reading.digits = 0;
  reading.value = 0;
  reading.first = reading.at;
  reading.delimiter = readByte(skb);
  // Printable, RFC 2428 2.
  if (u32(reading.delimiter - 33) > 126 - 33) return false;
  const byte = stack(Byte);
  loop(LONGEST_WORD, () => {
    const r = readingOf();
    if (r === null || r.at >= r.end || loadBytes(skb, r.at & MOST, byte) !== 0) return 1;
    const at = r.at;
    r.at = u32(at + 1);
    if (byte.value === r.delimiter) {
      endField(r, at);
      return r.count < 3 ? 0 : 1;
    }
    if (r.count === 1) return byte.value > 32 ? 0 : 1;
    const digit = u32(byte.value - ZERO);
    r.value = u32(r.value * 10 + digit);
    r.digits = u32(r.digits + 1);
    return digit > 9 || r.value > MOST ? 1 : 0;
  });
  return reading.found !== 0;
}

function endField(r: Reading, at: u32): void {
  r.count = u32(r.count + 1);
  if (r.count === 1) {
    r.protocol = r.value;
    r.addressAt = u32(at + 1);
  } else if (r.count === 2) {
    r.addressEnd = at;
  } else {
    r.port = r.value;
    r.last = u32(at + 1);
    r.found = r.digits;
  }
  r.digits = 0;
  r.value = 0;
}

/**
 * The IPv4 address that readFields found, and nothing else there.
 * @subprog
 */
export function readAddress4(skb: Skb, into: Address6): boolean {
  const reading = readingOf();
  if (reading === null) return false;
  reading.at = reading.addressAt;
  reading.count = 0;
  reading.digits = 0;
  reading.value = 0;
  reading.address = 0;
  const byte = stack(Byte);
  loop(LONGEST_WORD, () => {
    const r = readingOf();
    if (r === null || r.at > r.addressEnd || loadBytes(skb, r.at & MOST, byte) !== 0) return 1;
    const digit = u32(byte.value - ZERO);
    const ends = r.at === r.addressEnd;
    r.at = u32(r.at + 1);
    if (digit < 10 && !ends) {
      r.value = u32(r.value * 10 + digit);
      r.digits = u32(r.digits + 1);
      return r.value > 255 || r.digits > 3 ? 1 : 0;
    }
    if (r.digits === 0 || (!ends && byte.value !== DOT)) return 1;
    r.address = u32(r.address * 256 + r.value);
    r.digits = 0;
    r.value = 0;
    r.count = u32(r.count + 1);
    if (ends && r.count === 4) r.count = COMPLETE;
    return ends || r.count > 3 ? 1 : 0;
  });
  into.a = htonl(reading.address);
  into.b = rawBe32(0);
  into.c = rawBe32(0);
  into.d = rawBe32(0);
  return reading.count === COMPLETE;
}
const DOT = 46;
const COLON = 58;
const COMPLETE = 100;
const BROKEN = 101;

/**
 * The same of IPv6: groups of hexadecimal digits, one run of zeros left out (RFC 4291 2.2, its first two forms).
 * @subprog
 */
export function readAddress6(skb: Skb, into: Address6): boolean {
  const reading = readingOf();
  if (reading === null) return false;
  reading.at = reading.addressAt;
  reading.count = 0;
  reading.digits = 0;
  reading.value = 0;
  reading.gap = NONE;
  // Colons in a row: as if there were one before.
  reading.delimiter = 0;
  const byte = stack(Byte);
  loop(LONGEST_WORD, () => {
    const r = readingOf();
    if (r === null || r.at > r.addressEnd || loadBytes(skb, r.at & MOST, byte) !== 0) return 1;
    const ends = r.at === r.addressEnd;
    r.at = u32(r.at + 1);
    const digit = hexadecimal(byte.value);
    if (digit < 16 && !ends) {
      r.value = u32(r.value * 16 + digit) & 0xffff;
      r.digits = u32(r.digits + 1);
      r.delimiter = 0;
      if (r.digits > 4) r.count = BROKEN;
      return r.count === BROKEN ? 1 : 0;
    }
    if (!ends && byte.value !== COLON) {
      r.count = BROKEN;
      return 1;
    }
    if (r.digits > 0) endGroup(r);
    if (!ends) addColon(r);
    return ends || r.count > 8 ? 1 : 0;
  });
  return placeGroups(reading, into);
}

const hexadecimal = (byte: u32): u32 =>
  u32(byte - ZERO) < 10 ? u32(byte - ZERO) : u32((byte & CAPITAL) - 65) < 6 ? u32((byte & CAPITAL) - 55) : NONE;

function endGroup(r: Reading): void {
  r.groups.set(r.count & 7, r.value & 0xffff);
  r.count = u32(r.count + 1);
  r.value = 0;
  r.digits = 0;
}

function addColon(r: Reading): void {
  r.delimiter = u32(r.delimiter + 1);
  if (r.delimiter < 2) return;
  // A second run that is left out, or a third colon.
  if (r.gap !== NONE) r.count = BROKEN;
  r.gap = r.count;
}

/** The groups behind the gap are the address's last. */
function placeGroups(r: Reading, into: Address6): boolean {
  const count = r.count;
  const gap = r.gap;
  if (count > 8 || (gap === NONE && count !== 8) || (gap !== NONE && count === 8)) return false;
  into.a = htonl(wordAt(r, 0));
  into.b = htonl(wordAt(r, 2));
  into.c = htonl(wordAt(r, 4));
  into.d = htonl(wordAt(r, 6));
  return true;
}

const wordAt = (r: Reading, place: number): u32 => u32(groupAt(r, place) * 65_536 + groupAt(r, place + 1));

function groupAt(r: Reading, place: number): u32 {
  const left = u32(8 - r.count);
  if (place < r.gap) return r.groups.get(place);
  if (place < u32(r.gap + left)) return 0;
  return r.groups.get(u32(place - left) & 7);
}
