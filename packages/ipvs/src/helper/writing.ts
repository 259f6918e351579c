/**
 * Text of a TCP segment replaced by another, longer or shorter, or put before what a datagram carries: what follows moves, lengths
 * and checksums are mended. That later
 * segments count from elsewhere is told to forward/sequence.ts by who replaces it.
 */
import {
  array,
  BPF_F_MARK_MANGLED_0,
  BPF_F_PSEUDO_HDR,
  changeTail,
  htons,
  l4CsumReplace,
  loadBytes,
  loop,
  ntohl,
  percpuArray,
  raw,
  type Skb,
  stack,
  storeBytes,
  struct,
  u8,
  u32,
  type ViewOf,
} from '@ipvsd/bpf';
import type { Family } from '../family.ts';
import { type Address6, AF_INET } from '../packet/address.ts';
import { fold32, patch, wordDifference } from '../packet/checksum.ts';
import { ETHERNET, Ipv4, Ipv6, MAX_OFFSET, Udp } from '../packet/headers.ts';
import { sumOf } from '../packet/sum.ts';

const LONGEST = 128;
const MOST = 0xffff;
const Line = struct('line', { length: u32, bytes: array(u8, LONGEST) });
type Line = ViewOf<typeof Line>;
const lines = percpuArray('lines', Line, { maxEntries: 1 });
/** What is moved and written at once, of as many bytes as its name says. */
const Block32 = struct('written_block', { bytes: array(u8, 32) });
const Block4 = struct('written_word', { bytes: array(u8, 4) });
const Block1 = struct('written_byte', { bytes: array(u8, 1) });
const lineOf = (): Line | null => lines.at(0);
/** Offset of the checksum in the TCP header. */
const CHECKSUM = 16;
const UDP = 8;
const UDP_CHECKSUM = 6;

/** A new text is written, to be put in a packet by replaceText. */
export function beginLine(): void {
  const line = lineOf();
  if (line !== null) line.length = 0;
}

export function writeCharacter(character: u32): void {
  const line = lineOf();
  if (line === null) return;
  line.bytes.set(line.length & (LONGEST - 1), character & 0xff);
  line.length = u32(line.length + 1) & (LONGEST - 1);
}

/** How long it is by now. */
export function lineLength(): u32 {
  const line = lineOf();
  return line === null ? 0 : line.length;
}

/** @subprog */
export function writeNumber(number: u32): void {
  for (const unit of [1_000_000_000, 100_000_000, 10_000_000, 1_000_000, 100_000, 10_000, 1000, 100, 10, 1]) {
    if (number >= unit || unit === 1) writeCharacter(48 + (u32(number / unit) % 10));
  }
}

/** The four bytes of an IPv4 address. */
export function writeDotted(address: Address6, between: u32): void {
  const bytes = ntohl(address.a);
  for (const bits of [24, 16, 8, 0]) {
    writeNumber((bytes >>> bits) & 0xff);
    if (bits > 0) writeCharacter(between);
  }
}

/** An IPv6 address, nothing left out. */
export function writeColons(address: Address6): void {
  writePair(ntohl(address.a));
  writeCharacter(COLON);
  writePair(ntohl(address.b));
  writeCharacter(COLON);
  writePair(ntohl(address.c));
  writeCharacter(COLON);
  writePair(ntohl(address.d));
}
const COLON = 58;

/** Two groups of it. */
function writePair(word: u32): void {
  writeHexadecimal(word >>> 16);
  writeCharacter(COLON);
  writeHexadecimal(word & 0xffff);
}

/** @subprog */
function writeHexadecimal(number: u32): void {
  for (const bits of [12, 8, 4, 0]) {
    const digit = (number >>> bits) & 15;
    if (number >>> bits !== 0 || bits === 0) writeCharacter(digit < 10 ? 48 + digit : 87 + digit);
  }
}

/**
 * The text of `length` bytes at `at` becomes the line that was written. False where the packet does not take it: then it is as it
 * was. The packet moves.
 * @subprog alone
 */
export function replaceText(skb: Skb, family: Family, transport: u32, at: u32, length: u32): boolean {
  const line = lineOf();
  const ip = skb.header(family.Header, ETHERNET);
  if (line === null || ip === null) return false;
  const end = u32(family.length(ip) + ETHERNET) & MOST;
  const behind = u32(at + length);
  if (behind > end || end > skb.len || transport > at) return false;
  const tail = u32(end - behind);
  const newEnd = u32(end + line.length - length);
  if (newEnd > MOST) return false;
  // Sums begin at an even place of the segment. What moves by an even number of bytes adds to the sum what it did.
  const from = u32(at - (u32(at - transport) & 1));
  const even = ((line.length ^ length) & 1) === 0;
  const before = sumOf(skb, from, u32((even ? behind : end) - from));
  if (newEnd > end && changeTail(skb, newEnd, 0) !== 0) return false;
  moveTail(skb, behind, u32(at + line.length), tail);
  if (newEnd < end && changeTail(skb, newEnd, 0) !== 0) return false;
  writeLine(skb, at);
  const after = sumOf(skb, from, u32((even ? at + line.length : newEnd) - from));
  const header = skb.header(family.Header, ETHERNET);
  if (header === null) return false;
  const oldLength = htons(u32(end - transport) & MOST);
  const newLength = htons(u32(newEnd - transport) & MOST);
  writeLength(skb, family, newEnd);
  const checksum = (transport & MAX_OFFSET) + CHECKSUM;
  l4CsumReplace(skb, checksum, 0, fold32(wordDifference(raw(oldLength), raw(newLength))), BPF_F_PSEUDO_HDR);
  l4CsumReplace(skb, checksum, 0, fold32(wordDifference(before, after)), 0);
  return true;
}

/**
 * The line that was written goes before what the UDP datagram at `transport` carries. False where the packet does not take it: then
 * it is as it was. The packet moves.
 * @subprog
 */
export function putBeforeDatagram(skb: Skb, family: Family, transport: u32): boolean {
  const line = lineOf();
  const ip = skb.header(family.Header, ETHERNET);
  if (line === null || ip === null) return false;
  const start = transport & MAX_OFFSET;
  const at = u32(start + UDP);
  const length = line.length;
  const end = u32(family.length(ip) + ETHERNET) & MOST;
  if (at > end || end > skb.len) return false;
  const newEnd = u32(end + length);
  if (newEnd > MOST || changeTail(skb, newEnd, 0) !== 0) return false;
  moveTail(skb, at, u32(at + length), u32(end - at));
  writeLine(skb, at);
  const added = sumOf(skb, at, length);
  writeLength(skb, family, newEnd);
  const udp = skb.header(Udp, start);
  if (udp === null) return false;
  const oldLength = udp.length;
  const newLength = htons(u32(newEnd - start) & MOST);
  udp.length = newLength;
  // The length counts twice, as the pseudo header has it too; what follows the line is as far from an even place as before.
  const longer = fold32(wordDifference(raw(oldLength), raw(newLength)));
  const checksum = start + UDP_CHECKSUM;
  l4CsumReplace(skb, checksum, 0, longer, BPF_F_PSEUDO_HDR + BPF_F_MARK_MANGLED_0);
  l4CsumReplace(skb, checksum, 0, fold32(longer + added), BPF_F_MARK_MANGLED_0);
  return true;
}

/** Bytes from `from` to `to`, in the order in which none is overwritten before it has moved. */
function moveTail(skb: Skb, from: u32, to: u32, length: u32): void {
  if (from === to) return;
  const blocks: u32 = (length & MOST) >>> 5;
  const words: u32 = (length & 31) >>> 2;
  moveBlocks(skb, from, to, length, Block32, blocks, 0);
  moveBlocks(skb, from, to, length, Block4, words, blocks * 32);
  moveBlocks(skb, from, to, length, Block1, length & 3, blocks * 32 + words * 4);
}

type Block = typeof Block32;

/** `done` bytes have moved already, of those that are first to move. */
function moveBlocks(skb: Skb, from: u32, to: u32, length: u32, Block: Block, count: u32, done: u32): void {
  const backwards = to > from;
  const block = stack(Block);
  const { size } = Block;
  loop(count, (i) => {
    const ahead = done + i * size;
    const offset = backwards ? u32(length - ahead - size) : ahead;
    if (loadBytes(skb, u32(from + offset) & MOST, block) !== 0) return 1;
    storeBytes(skb, u32(to + offset) & MOST, block, 0);
    return 0;
  });
}

/** The line, at that place of the packet. */
export function writeLine(skb: Skb, at: u32): void {
  const line = lineOf();
  if (line === null) return;
  const words: u32 = (line.length & (LONGEST - 1)) >>> 2;
  writeBlocks(skb, at, Block4, words, 0);
  writeBlocks(skb, at, Block1, line.length & 3, words * 4);
}

/** Of the line from its byte `first` on. */
function writeBlocks(skb: Skb, at: u32, Block: Block, count: u32, first: u32): void {
  const block = stack(Block);
  const { size } = Block;
  loop(count, (i) => {
    const line = lineOf();
    if (line === null) return 1;
    const begin = first + i * size;
    for (let k = 0; k < size; k++) block.bytes.set(k, line.bytes.get((begin + k) & (LONGEST - 1)));
    storeBytes(skb, u32(at + begin) & MOST, block, 0);
    return 0;
  });
}

/** The IP header says that the packet ends at `end`. */
function writeLength(skb: Skb, family: Family, end: u32): void {
  if (family.number !== AF_INET) {
    const ip = skb.header(Ipv6, ETHERNET);
    if (ip !== null) ip.payloadLength = htons(u32(end - ETHERNET - Ipv6.size) & MOST);
    return;
  }
  const ip = skb.header(Ipv4, ETHERNET);
  if (ip === null) return;
  const old = ip.length;
  ip.length = htons(u32(end - ETHERNET) & MOST);
  ip.checksum = patch(ip.checksum, fold32(wordDifference(raw(old), raw(ip.length))));
}
