/**
 * FTP (RFC 959, RFC 2428): commands on one connection, each file on another, whose ends are told by address and port.
 *
 * Passive, the real server says where it waits (227, 229): a connection of the client from any port to the same port of the virtual
 * service is expected, and the virtual service's address put in the answer. Active, the client says where it waits (PORT, EPRT):
 * the real server's connection to there is expected from the port below the one of its service, and will seem to come from the
 * virtual service.
 *
 * The address that a real server names is not believed, only its port: whoever has more than one, or names what he is called
 * outside, is reached where the control connection goes. Only what fits into one segment is read, as by IPVS.
 */
import { htonl, htons, ntohs, rawBe16, type Skb, u32 } from '@ipvsd/bpf';
import { type Connection, METHOD_MASK } from '../connection/connection.ts';
import { expect } from '../connection/expected.ts';
import { localEnds } from '../connection/local-end.ts';
import { TABLE_FULL } from '../connection/opening.ts';
import { because, REASONS } from '../counters.ts';
import { type Family, REPLY, REQUEST } from '../family.ts';
import { adjustmentOf, shift } from '../forward/sequence.ts';
import { type Address6, AF_INET } from '../packet/address.ts';
import { IPPROTO_TCP } from '../packet/headers.ts';
import { METHOD_FULLNAT, NONE } from '../service/service.ts';
import { expectedOf } from './expectation.ts';
import type { Control, Helper } from './helper.ts';
import {
  findLine,
  lineWords,
  readAddress4,
  readAddress6,
  readByte,
  readFields,
  readingOf,
  readNumbers,
  readUpTo,
} from './reading.ts';
import {
  beginLine,
  lineLength,
  replaceText,
  writeCharacter,
  writeColons,
  writeDotted,
  writeNumber,
} from './writing.ts';

const COMMANDS = lineWords('PASV', 'EPSV', 'PORT', 'EPRT');
const PASV = 0;
const EPSV = 1;
const PORT = 2;
const ANSWERS = lineWords('227 ', '229 ');

const SPACE = 32;
const RETURN = 13;

/** What the client has asked for last, remembered with its direction. */
const NOTHING = 0;
const PASSIVE = 1;
const EXTENDED = 2;
/** Set once it was answered: then only the same answer, sent again, is the helper's. */
const ANSWERED = 4;

export const ftp: Helper = {
  name: 'ftp',
  number: 1,
  protocol: IPPROTO_TCP,
  helps: 'FTP, active and passive',
  ports: [21],
  request(skb, family, control, c) {
    const command = findLine(skb, COMMANDS);
    const asked = adjustmentOf(control.connection, REQUEST);
    if (command === NONE || asked === null) return;
    const v4 = family.number === AF_INET;
    if (command === PASV) {
      if (v4 && readByte(skb) === RETURN) asked.memo = PASSIVE;
    } else if (command === EPSV) {
      if (isForDataConnection(skb, v4)) asked.memo = EXTENDED;
    } else {
      asked.memo = NOTHING;
      if (command !== PORT || v4) activate(skb, family, control, c, command === PORT);
    }
  },
  reply(skb, family, control, c) {
    const asked = adjustmentOf(control.connection, REQUEST);
    const answered = adjustmentOf(control.connection, REPLY);
    if (asked === null || answered === null || asked.memo === NOTHING) return;
    // A masqueraded host reads where the outside waits, and connects there as anywhere.
    if (c.server === NONE) return;
    const answer = findLine(skb, ANSWERS);
    if (answer === NONE) return;
    const extended = answer !== 0;
    if ((asked.memo & (PASSIVE + EXTENDED)) !== (extended ? EXTENDED : PASSIVE)) return;
    const found = readAnswer(skb, extended);
    const r = readingOf();
    if (r === null) return;
    if (!found || r.port === 0) {
      because(REASONS.unread);
      return;
    }
    const end = u32(control.sequence + u32(r.last - control.payload));
    if ((asked.memo & ANSWERED) === 0) {
      if (!goPassive(control, c, r.port)) {
        because(REASONS.unexpected);
        return;
      }
    } else if (answered.memo !== end) {
      return;
    }
    const length = u32(r.last - r.first);
    writeAnswer(c, r.port, extended);
    if (!replaceText(skb, family, control.transport, r.first, length)) {
      because(REASONS.unread);
      return;
    }
    shift(answered, end, u32(lineLength() - length));
    answered.memo = end;
    asked.memo = u32(asked.memo | ANSWERED);
  },
};

/** EPSV alone, or with the protocol that the control connection has; `EPSV ALL` asks for nothing yet. */
function isForDataConnection(skb: Skb, v4: boolean): boolean {
  const next = readByte(skb);
  if (next === RETURN) return true;
  if (next !== SPACE || readByte(skb) !== (v4 ? 49 : 50)) return false;
  return readByte(skb) === RETURN;
}

/** PORT or EPRT: the real server will connect to where the client says, or under FULLNAT to us, who will connect there. */
function activate(skb: Skb, family: Family, control: Control, c: Connection, plain: boolean): void {
  const number = goActive(skb, family, control, c, plain);
  if (number >= TABLE_FULL || (c.flags & METHOD_MASK) !== METHOD_FULLNAT) return;
  const end = localEnds.at(number);
  const r = readingOf();
  const changed = adjustmentOf(control.connection, REQUEST);
  if (end === null || r === null || changed === null) return;
  const length = u32(r.last - r.first);
  const behind = u32(control.sequence + u32(r.last - control.payload));
  if (plain) {
    beginLine();
    writeNumbers(end.address, ntohs(end.port));
  } else {
    writeFields(family, end.address, ntohs(end.port));
  }
  if (replaceText(skb, family, control.transport, r.first, length)) shift(changed, behind, u32(lineLength() - length));
  else because(REASONS.unread);
}

/** The number of the connection that is expected from the real server; TABLE_FULL or more for none. It need not be the client's own address. */
function goActive(skb: Skb, family: Family, control: Control, c: Connection, plain: boolean): u32 {
  const opening = expectedOf(c);
  const r = readingOf();
  if (opening === null || r === null) return TABLE_FULL;
  let understood = readByte(skb) === SPACE;
  if (understood && plain) {
    understood = readNumbers(skb);
    opening.client.a = htonl(r.address);
  } else if (understood) {
    understood = readFields(skb) && r.protocol === (family.number === AF_INET ? 1 : 2);
    if (understood) {
      understood = family.number === AF_INET ? readAddress4(skb, opening.client) : readAddress6(skb, opening.client);
    }
  }
  const port = ntohs(c.realPort);
  if (!understood || r.port === 0 || port < 2) {
    because(REASONS.unread);
    return TABLE_FULL;
  }
  opening.clientPort = htons(r.port & 0xffff);
  // Under FULLNAT it comes to a port of its own, so from whichever port it may come.
  const any = (c.flags & METHOD_MASK) === METHOD_FULLNAT;
  opening.virtualPort = any ? rawBe16(0) : htons((ntohs(c.virtualPort) - 1) & 0xffff);
  const number = expect(control.connection, any ? rawBe16(0) : htons((port - 1) & 0xffff));
  if (number >= TABLE_FULL) because(REASONS.unexpected);
  return number;
}

/** Where a passive real server waits: its place in the packet, and the port. */
function readAnswer(skb: Skb, extended: boolean): boolean {
  if (extended) return readUpTo(skb, BRACKET) && readFields(skb);
  if (!readUpTo(skb, BRACKET) && !readUpTo(skb, A_DIGIT)) return false;
  return readNumbers(skb);
}
const BRACKET = 40;
const A_DIGIT = 0;

/** The client may come from any port. */
function goPassive(control: Control, c: Connection, port: u32): boolean {
  const opening = expectedOf(c);
  if (opening === null) return false;
  opening.clientPort = rawBe16(0);
  opening.virtualPort = htons(port & 0xffff);
  return expect(control.connection, htons(port & 0xffff)) < TABLE_FULL;
}

function writeAnswer(c: Connection, port: u32, extended: boolean): void {
  beginLine();
  if (extended) {
    for (let i = 0; i < 3; i++) writeCharacter(BAR);
    writeNumber(port);
    writeCharacter(BAR);
    return;
  }
  writeNumbers(c.virtual, port);
}

function writeNumbers(address: Address6, port: u32): void {
  writeDotted(address, COMMA);
  writeCharacter(COMMA);
  writeNumber((port >>> 8) & 0xff);
  writeCharacter(COMMA);
  writeNumber(port & 0xff);
}

/** What EPRT says. */
function writeFields(family: Family, address: Address6, port: u32): void {
  const v4 = family.number === AF_INET;
  beginLine();
  writeCharacter(BAR);
  writeNumber(v4 ? 1 : 2);
  writeCharacter(BAR);
  if (v4) writeDotted(address, DOT);
  else writeColons(address);
  writeCharacter(BAR);
  writeNumber(port);
  writeCharacter(BAR);
}
const BAR = 124;
const COMMA = 44;
const DOT = 46;
