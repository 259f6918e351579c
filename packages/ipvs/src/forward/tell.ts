/**
 * Segments under FULLNAT that are more than readdressed: the first of a connection, and those that tell the real server who its
 * client is, by an option of TCP (TOA) or by a header before the first byte (PROXY protocol, version 1 or 2).
 *
 * Either is sent until the client acknowledges what the real server says: the option with each of these segments, as all but one
 * of them may be lost; the header with the handshake's last segment, which has room for it, and again with each that begins at the
 * client's first byte. Where the header and the segment's own bytes do not fit together the header goes alone: its sender sends
 * the bytes again, and by then the header has arrived.
 */
import { type be16, type be32, htonl, l4CsumReplace, ntohl, ntohs, raw, type Skb, type u8, u32 } from '@ipvsd/bpf';
import { type Connection, connections } from '../connection/connection.ts';
import {
  type LocalEnd,
  localEnds,
  TELLS_BY_OPTION,
  TELLS_BY_PROXY_1,
  TELLS_BY_PROXY_2,
  TELLS_NOT,
} from '../connection/local-end.ts';
import { because, REASONS } from '../counters.ts';
import { type Family, REPLY, REQUEST } from '../family.ts';
import { beginLine, lineLength, replaceText, writeCharacter, writeNumber } from '../helper/writing.ts';
import { type Address6, AF_INET } from '../packet/address.ts';
import { fold32, wordDifference } from '../packet/checksum.ts';
import { ETHERNET, IPPROTO_TCP, MAX_OFFSET, Tcp } from '../packet/headers.ts';
import { blotOptions } from '../packet/tcp-options.ts';
import { ESTABLISHED } from '../protocol/tcp.ts';
import { type RealServer, servers } from '../service/service.ts';
import { settings } from '../settings.ts';
import { errandOf } from '../stages.ts';
import { insertOption } from './option.ts';
import { sendTo } from './route.ts';
import { clampSegmentSize } from './segment-size.ts';
import { adjustmentOf } from './sequence.ts';
import { clearTimestamps } from './timestamps.ts';

const FIN = 0x01;
const SYN = 0x02;
const RST = 0x04;
const ACK = 0x10;
/** Offset of the checksum in the TCP header. */
const CHECKSUM = 16;
/** Bytes of the option: kind, length, port, address. */
const OPTION_4 = 8;
const OPTION_6 = 20;

/** Words of a TCP header without options. */
const NO_OPTIONS = 5;

/** A client's segment has nothing for this stage: it is no first one, says nothing in options, and need not tell of the client. */
export function isPlain(tcp: Tcp, end: LocalEnd): boolean {
  const listens = end.tells !== TELLS_NOT && end.answered !== 0 && tcp.acknowledgement === end.firstAck;
  return (tcp.flags & SYN) === 0 && tcp.dataOffset >>> 4 === NO_OPTIONS && !listens;
}

/** The real server's answer to a SYN. */
export const isAnswer = (tcp: Tcp): boolean => (tcp.flags & (SYN | ACK)) === SYN + ACK;

/** The stage: the packet has its new ends already, and is of the family that it leaves in. */
export function tell(skb: Skb, family: Family): number {
  const errand = errandOf();
  if (errand === null) return because(REASONS.corrupt);
  const c = connections.at(errand.connection);
  const end = localEnds.at(errand.connection);
  if (c === null || end === null) return because(REASONS.corrupt);
  const transport = errand.transport & MAX_OFFSET;
  const server = servers.at(c.server);
  const tcp = skb.header(Tcp, transport);
  if (server === null || tcp === null) return because(REASONS.corrupt);
  const flags = tcp.flags;
  const ip = skb.header(family.Header, ETHERNET);
  const whole = ip !== null && !family.isFragmented(ip);
  if (errand.direction === REPLY) {
    end.firstAck = htonl(u32(ntohl(tcp.sequence) + 1));
    end.answered = 1;
    if (end.tells === TELLS_BY_OPTION) {
      clampSegmentSize(skb, transport, segmentWithOption(c, server));
    }
    return sendTo(skb, family, c.route);
  }
  const listens = end.answered !== 0 && tcp.acknowledgement === end.firstAck && (flags & (SYN | RST)) === 0 && whole;
  const atFirst = tcp.sequence === end.firstSequence;
  const hasOptions = tcp.dataOffset >>> 4 !== NO_OPTIONS;
  // A client's own option might say that it is somebody else.
  const kind = settings.only.addressOption;
  if (kind !== 0 && hasOptions) blotOptions(skb, transport, kind);
  if ((flags & (SYN | ACK)) === SYN) {
    clearTimestamps(skb, transport);
    // Not where it may be anybody's, which meets a connection that is open.
    if (c.state !== ESTABLISHED) begin(skb, c, end, transport);
  } else if (listens && end.tells === TELLS_BY_OPTION) {
    if (!giveOption(skb, family, c, transport, server.route.mtu)) because(REASONS.untold);
  } else if (listens && atFirst) {
    if (!giveHeader(skb, family, c, end, transport, server.route.mtu)) because(REASONS.untold);
  }
  return sendTo(skb, family, server.route);
}

/** Headers are of the real server's family, the option of the client's. */
function segmentWithOption(c: Connection, server: RealServer): u32 {
  const { mtu } = server.route;
  if (mtu < 576) return 536;
  return u32(mtu - (server.family === AF_INET ? 40 : 60) - optionSize(c));
}

const optionSize = (c: Connection): u32 => (c.family === AF_INET ? OPTION_4 : OPTION_6);

/** The client's first segment: its bytes, but for the SYN, will come behind the header. */
function begin(skb: Skb, c: Connection, end: LocalEnd, transport: u32): void {
  if (end.tells !== TELLS_BY_PROXY_1 && end.tells !== TELLS_BY_PROXY_2) return;
  const tcp = skb.header(Tcp, transport);
  const adjustment = adjustmentOf(c.number, REQUEST);
  if (tcp === null || adjustment === null) return;
  end.answered = 0;
  writeHeader(c, end.tells);
  const size = lineLength();
  const first = u32(ntohl(tcp.sequence) + 1);
  end.firstSequence = htonl(u32(first + size));
  adjustment.from = first;
  adjustment.before = 0;
  adjustment.after = size;
}

// The option ----------------------------------------------------------------------------------------------------------

/** Directly behind the fixed header, as DPVS puts it. False where there is no room. */
function giveOption(skb: Skb, family: Family, c: Connection, transport: u32, mtu: u32): boolean {
  const size = optionSize(c);
  const ip = skb.header(family.Header, ETHERNET);
  if (ip === null || skb.gsoSize !== 0 || family.length(ip) + size > mtu) return false;
  beginLine();
  writeCharacter(settings.only.addressOption & 255);
  writeCharacter(size);
  writePort(c.clientPort);
  writeAddress(c.client, c.family);
  return insertOption(skb, family, transport);
}

// The header ----------------------------------------------------------------------------------------------------------

function giveHeader(skb: Skb, family: Family, c: Connection, end: LocalEnd, transport: u32, mtu: u32): boolean {
  const ip = skb.header(family.Header, ETHERNET);
  const tcp = skb.header(Tcp, transport);
  if (ip === null || tcp === null) return false;
  const at = transport + (tcp.dataOffset >>> 4) * 4;
  const last = family.length(ip) + ETHERNET;
  writeHeader(c, end.tells);
  const size = lineLength();
  const alone = skb.gsoSize !== 0 || last + size > mtu + ETHERNET;
  const dropped: u32 = alone && last > at ? u32(last - at) : 0;
  if (!replaceText(skb, family, transport, u32(at), dropped)) return false;
  const grown = skb.header(Tcp, transport);
  if (grown === null) return false;
  // The header comes before the first byte, where the sequence says; a FIN behind bytes that were left out waits for them.
  const oldSequence = grown.sequence;
  const sequence = htonl(u32(ntohl(oldSequence) - size));
  grown.sequence = sequence;
  const oldFlags = grown.flags;
  const flags: u8 = dropped !== 0 ? oldFlags & ~FIN : oldFlags;
  grown.flags = flags;
  // Flags lie in the upper byte of their word.
  const difference = fold32(
    wordDifference(raw(oldSequence), raw(sequence)) + wordDifference(oldFlags * 256, flags * 256),
  );
  l4CsumReplace(skb, u32(transport + CHECKSUM), 0, difference, 0);
  return true;
}

const SIGNATURE = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a];
const VERSION_2 = 0x21;
const WORDS = [...'PROXY TCP'].map((letter) => letter.charCodeAt(0));
const [SPACE, DOT, COLON, RETURN, LINE_FEED, FOUR, SIX] = [32, 46, 58, 13, 10, 52, 54];

/**
 * Into the line that is put into packets (helper/writing.ts): the header as HAProxy's proxy-protocol.txt has it.
 * @subprog
 */
export function writeHeader(c: Connection, tells: u32): void {
  beginLine();
  const four = c.family === AF_INET;
  if (tells >= TELLS_BY_PROXY_2) {
    for (const byte of SIGNATURE) writeCharacter(byte);
    writeCharacter(VERSION_2);
    // The family, and a stream or datagrams.
    writeCharacter((four ? 0x10 : 0x20) + (c.protocol === IPPROTO_TCP ? 1 : 2));
    writeCharacter(0);
    writeCharacter(four ? 12 : 36);
    writeAddress(c.client, c.family);
    writeAddress(c.virtual, c.family);
    writePort(c.clientPort);
    writePort(c.virtualPort);
    return;
  }
  for (const letter of WORDS) writeCharacter(letter);
  writeCharacter(four ? FOUR : SIX);
  writeCharacter(SPACE);
  spell(c.client, c.family);
  writeCharacter(SPACE);
  spell(c.virtual, c.family);
  writeCharacter(SPACE);
  writeNumber(ntohs(c.clientPort));
  writeCharacter(SPACE);
  writeNumber(ntohs(c.virtualPort));
  writeCharacter(RETURN);
  writeCharacter(LINE_FEED);
}

export function writePort(port: be16): void {
  writeCharacter(raw(port) & 255);
  writeCharacter(raw(port) >>> 8);
}

/** @subprog */
export function writeAddress(address: Address6, family: u32): void {
  writeWord(address.a);
  if (family === AF_INET) return;
  writeWord(address.b);
  writeWord(address.c);
  writeWord(address.d);
}

function writeWord(word: be32): void {
  const number = raw(word);
  writeCharacter(number & 255);
  writeCharacter((number >>> 8) & 255);
  writeCharacter((number >>> 16) & 255);
  writeCharacter(number >>> 24);
}

/**
 * As text: IPv4 with dots, IPv6 with all its digits, which every reader takes.
 * @subprog
 */
function spell(address: Address6, family: u32): void {
  if (family === AF_INET) {
    const number = ntohl(address.a);
    writeNumber(number >>> 24);
    writeCharacter(DOT);
    writeNumber((number >>> 16) & 255);
    writeCharacter(DOT);
    writeNumber((number >>> 8) & 255);
    writeCharacter(DOT);
    writeNumber(number & 255);
    return;
  }
  spellGroups(ntohl(address.a));
  writeCharacter(COLON);
  spellGroups(ntohl(address.b));
  writeCharacter(COLON);
  spellGroups(ntohl(address.c));
  writeCharacter(COLON);
  spellGroups(ntohl(address.d));
}

/** @subprog */
function spellGroups(value: u32): void {
  for (const shift of [28, 24, 20, 16]) writeDigit((value >>> shift) & 15);
  writeCharacter(COLON);
  for (const shift of [12, 8, 4, 0]) writeDigit((value >>> shift) & 15);
}

/** The letters follow the digits with a gap of 39. */
const writeDigit = (digit: u32): void => writeCharacter(48 + digit + ((digit + 6) >>> 4) * 39);
