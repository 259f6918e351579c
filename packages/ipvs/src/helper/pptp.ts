/**
 * PPTP (RFC 2637): a TCP connection sets up calls, whose packets come as GRE. They bear no ports but the number of the call at
 * their receiver. Once the real server has answered a call ("Outgoing-Call-Reply", with both numbers) its packets are expected
 * both ways; they have a stage of their own (call.ts).
 *
 * Numbers stay as both sides chose them: where two clients of one local address took the same one towards one server, the
 * second call is counted and gets no packets.
 */
import { be16, be32, htonl, htons, loadBytes, loop, ntohs, raw, stack, struct, u8, u32, type ViewOf } from '@ipvsd/bpf';
import type { Connection } from '../connection/connection.ts';
import { expect } from '../connection/expected.ts';
import { TABLE_FULL } from '../connection/opening.ts';
import { because, REASONS } from '../counters.ts';
import { IPPROTO_GRE, IPPROTO_TCP } from '../packet/headers.ts';
import { expectedOf } from './expectation.ts';
import type { Control, Helper } from './helper.ts';
import { readingOf } from './reading.ts';

/** The beginning of every message, and of those that answer a call what follows. */
const Message = struct('pptp_message', {
  length: be16,
  kind: be16,
  magic: be32,
  type: be16,
  reserved: be16,
  call: be16,
  peersCall: be16,
  result: u8,
  error: u8,
  cause: be16,
});
const MAGIC = htonl(0x1a2b_3c4d);
const OUTGOING_CALL_REPLY = htons(8);
const CONNECTED = 1;
/** Messages that may come in one segment. */
const MOST_MESSAGES = 8;

export const pptp: Helper = {
  name: 'pptp',
  number: 5,
  protocol: IPPROTO_TCP,
  helps: 'PPTP with its calls over GRE, such as 1723',
  ports: [],
  request() {},
  reply(skb, _family, control, c) {
    const r = readingOf();
    if (r === null) return;
    r.at = control.payload;
    const message = stack(Message);
    loop(MOST_MESSAGES, () => {
      const reading = readingOf();
      if (reading === null || u32(reading.at + Message.size) > reading.end) return 1;
      if (loadBytes(skb, reading.at & 0xffff, message) !== 0) return 1;
      const length = readMessage(control, c, message);
      reading.at = u32(reading.at + length);
      return length === 0 ? 1 : 0;
    });
  },
};

/** Its length, or 0 where there is none any more. */
function readMessage(control: Control, c: Connection, message: ViewOf<typeof Message>): u32 {
  if (message.magic !== MAGIC) return 0;
  const length = ntohs(message.length);
  if (message.type !== OUTGOING_CALL_REPLY || message.result !== CONNECTED) return length;
  const opening = expectedOf(c);
  if (opening === null) return 0;
  const call = message.call;
  if (raw(call) === 0 || raw(message.peersCall) === 0) {
    because(REASONS.unread);
    return length;
  }
  opening.protocol = IPPROTO_GRE;
  opening.clientPort = message.peersCall;
  opening.virtualPort = call;
  if (expect(control.connection, call) >= TABLE_FULL) because(REASONS.unexpected);
  return length;
}
