/**
 * IRC's direct connections (DCC): a host says in a message where another may connect to it, `DCC SEND name 3232247041 5000 1234`.
 * Of a masqueraded host that place becomes a port of the director's own, which leads to it from whoever comes first.
 *
 * Who talks to an IRC server behind a virtual service names its own address, which is right as it is.
 */
import { htons, ntohl, ntohs, rawBe16, rawBe32, type Skb, u32 } from '@ipvsd/bpf';
import type { Connection } from '../connection/connection.ts';
import { expect } from '../connection/expected.ts';
import { localEnds } from '../connection/local-end.ts';
import { TABLE_FULL } from '../connection/opening.ts';
import { because, REASONS } from '../counters.ts';
import { REQUEST } from '../family.ts';
import { adjustmentOf, shift } from '../forward/sequence.ts';
import { AF_INET } from '../packet/address.ts';
import { IPPROTO_TCP } from '../packet/headers.ts';
import { NONE } from '../service/service.ts';
import { expectedOf } from './expectation.ts';
import type { Control, Helper } from './helper.ts';
import { findInText, isNext, lineWords, readFour, readingOf, readNumber, readUpTo } from './reading.ts';
import { beginLine, lineLength, replaceText, writeCharacter, writeNumber } from './writing.ts';

const DCC = lineWords('DCC ');
const KINDS = lineWords('SEND', 'CHAT');
const SPACE = 32;
const QUOTE = 34;

export const irc: Helper = {
  name: 'irc',
  number: 4,
  protocol: IPPROTO_TCP,
  helps: "IRC's direct connections (DCC) from masqueraded hosts, such as 6667",
  ports: [],
  request(skb, family, control, c) {
    if (c.server !== NONE || family.number !== AF_INET) return;
    const r = readingOf();
    const changed = adjustmentOf(control.connection, REQUEST);
    if (r === null || changed === null || !findInText(skb, DCC) || !isOffer(skb)) return;
    r.first = r.at;
    const address = readNumber(skb);
    const port: u32 = isNext(skb, SPACE) ? readNumber(skb) : 0;
    r.last = r.at;
    // Port 0 asks the other one to wait (passive DCC); another's address is not ours to answer for.
    if (port === 0 || port > 65_535 || address !== ntohl(c.client.a)) return;
    const number = expectAnybody(control, c, port);
    const end = localEnds.at(number);
    if (number >= TABLE_FULL || end === null) {
      because(REASONS.unexpected);
      return;
    }
    const length = u32(r.last - r.first);
    const behind = u32(control.sequence + u32(r.last - control.payload));
    beginLine();
    writeNumber(ntohl(end.address.a));
    writeCharacter(SPACE);
    writeNumber(ntohs(end.port));
    if (replaceText(skb, family, control.transport, r.first, length))
      shift(changed, behind, u32(lineLength() - length));
    else because(REASONS.unread);
  },
  reply() {},
};

/** `SEND name `, `CHAT chat ` and the like; the name may be in quotation marks. */
function isOffer(skb: Skb): boolean {
  const kind = readFour(skb);
  let known = false;
  for (const { word } of KINDS) if (kind === word) known = true;
  if (!known || !isNext(skb, SPACE)) return false;
  if (isNext(skb, QUOTE) && !readUpTo(skb, QUOTE)) return false;
  return readUpTo(skb, SPACE);
}

/** From any port of any host outside, to the port of the masqueraded host. */
function expectAnybody(control: Control, c: Connection, port: u32): u32 {
  const opening = expectedOf(c);
  if (opening === null) return TABLE_FULL;
  opening.clientPort = htons(port & 0xffff);
  opening.virtualPort = rawBe16(0);
  opening.virtual.a = rawBe32(0);
  return expect(control.connection, rawBe16(0));
}
