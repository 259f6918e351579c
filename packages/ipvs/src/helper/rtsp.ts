/**
 * RTSP (RFC 2326): the sound and pictures that one connection asks for come by UDP, on ports that the two sides name in the line
 * "Transport" of SETUP and its answer: `client_port=8000-8001;server_port=9000-9001`. Both pairs are expected, so that what the
 * real server sends comes from the virtual service, and what the client answers (RTCP) reaches that real server. Where the answer
 * names the real server's address (`source=`), the virtual service's takes its place. A masqueraded host's are expected as well, at the ports that it names.
 *
 * Some servers send before their answer leaves. Under NAT the client would hear it from them and not from the virtual service, so
 * there the client's ports are expected from the request on, from whichever port.
 *
 * What is carried on the connection itself ("interleaved") names no ports and needs no help.
 */
import { htons, rawBe16, type Skb, stack, u32 } from '@ipvsd/bpf';
import { type Connection, METHOD_MASK } from '../connection/connection.ts';
import { expect, expectNoMore } from '../connection/expected.ts';
import { TABLE_FULL } from '../connection/opening.ts';
import { because, REASONS } from '../counters.ts';
import { type Family, REPLY } from '../family.ts';
import { adjustmentOf, shift } from '../forward/sequence.ts';
import { Address6, AF_INET, isSameAddress } from '../packet/address.ts';
import { IPPROTO_TCP, IPPROTO_UDP } from '../packet/headers.ts';
import { METHOD_MASQ, NONE } from '../service/service.ts';
import { expectedOf } from './expectation.ts';
import type { Control, Helper } from './helper.ts';
import {
  findInLine,
  findLine,
  isNext,
  lineWords,
  readAddress4,
  readAddress6,
  readingOf,
  readNumber,
  readUpTo,
  readValue,
} from './reading.ts';
import { beginLine, lineLength, replaceText, writeColons, writeDotted } from './writing.ts';

const TRANSPORT = lineWords('TRAN');
const CLIENT_PORT = lineWords('IENT');
const SERVER_PORT = lineWords('RVER');
const SOURCE = lineWords('URCE');
const EQUALS = 61;
const DASH = 45;

export const rtsp: Helper = {
  name: 'rtsp',
  number: 3,
  protocol: IPPROTO_TCP,
  helps: 'RTSP with RTP over UDP, such as 554',
  ports: [],
  request(skb, _family, control, c) {
    if ((c.flags & METHOD_MASK) !== METHOD_MASQ || findLine(skb, TRANSPORT) === NONE || !readPair(skb, CLIENT_PORT))
      return;
    const r = readingOf();
    if (r === null) return;
    const second = r.second;
    expectMedia(control, c, r.port, 0);
    if (second !== 0) expectMedia(control, c, second, 0);
  },
  reply(skb, family, control, c) {
    if (findLine(skb, TRANSPORT) === NONE) return;
    const r = readingOf();
    if (r === null) return;
    const line = r.at;
    if (!readPair(skb, CLIENT_PORT)) return;
    const client = r.port;
    const clientNext = r.second;
    r.at = line;
    const named = readPair(skb, SERVER_PORT);
    const server: u32 = named ? r.port : 0;
    const serverNext: u32 = named ? r.second : 0;
    let room = expectMedia(control, c, client, server);
    if (clientNext !== client && clientNext !== 0) room = expectMedia(control, c, clientNext, serverNext) && room;
    if (!room) because(REASONS.unexpected);
    r.at = line;
    replaceSource(skb, family, control, c);
  },
};

/** `word=8000-8001`, or one port alone, of the line that is read: into `port` and `second`. */
function readPair(skb: Skb, word: typeof CLIENT_PORT): boolean {
  const r = readingOf();
  if (r === null || !findInLine(skb, word) || !readUpTo(skb, EQUALS)) return false;
  const first = readNumber(skb);
  if (first === 0 || first > 65_535) return false;
  const second: u32 = isNext(skb, DASH) ? readNumber(skb) : 0;
  r.port = first;
  r.second = second > 65_535 ? 0 : second;
  return true;
}

/** The real server sends from `server`, which is 0 where it has not said, and hears there. */
function expectMedia(control: Control, c: Connection, client: u32, server: u32): boolean {
  const opening = expectedOf(c);
  if (opening === null) return false;
  opening.protocol = IPPROTO_UDP;
  opening.clientPort = htons(client & 0xffff);
  opening.virtualPort = rawBe16(0);
  // What was expected from whichever port is from this one.
  if (server !== 0) expectNoMore(control.connection, opening);
  const port = server === 0 ? rawBe16(0) : htons(server & 0xffff);
  opening.virtualPort = port;
  return expect(control.connection, port) < TABLE_FULL;
}

/** The real server says where it sends from; another's address is left as it is. */
function replaceSource(skb: Skb, family: Family, control: Control, c: Connection): void {
  const r = readingOf();
  const changed = adjustmentOf(control.connection, REPLY);
  if (r === null || changed === null || c.server === NONE) return;
  if (!findInLine(skb, SOURCE) || !readUpTo(skb, EQUALS) || !readValue(skb)) return;
  const said = stack(Address6);
  const v4 = family.number === AF_INET;
  const isAddress = v4 ? readAddress4(skb, said) : readAddress6(skb, said);
  if (!isAddress || !isSameAddress(said, c.real)) return;
  const length = u32(r.last - r.first);
  const behind = u32(control.sequence + u32(r.last - control.payload));
  beginLine();
  if (v4) writeDotted(c.virtual, DOT);
  else writeColons(c.virtual);
  if (replaceText(skb, family, control.transport, r.first, length)) shift(changed, behind, u32(lineLength() - length));
  else because(REASONS.unread);
}
const DOT = 46;
