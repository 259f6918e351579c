/**
 * PPTP (RFC 2637): a TCP connection sets up calls, whose packets come as GRE. They bear no ports but the number of the call at
 * their receiver. A call that the client asks for ("Outgoing-Call-Request") is entered; once the real server has answered it, with
 * both numbers, its packets pass both ways (call.ts).
 *
 * Where a number is another's already (connection/calls.ts), all messages bear the one that stands for it.
 */
import {
  be16,
  be32,
  htonl,
  htons,
  l4CsumReplace,
  loadBytes,
  loop,
  ntohs,
  raw,
  rawBe16,
  type Skb,
  stack,
  storeBytes,
  struct,
  u8,
  u32,
  type ViewOf,
} from '@ipvsd/bpf';
import { answerCall, findCall, receiversNumber, toldNumber } from '../connection/calls.ts';
import { type Connection, connections } from '../connection/connection.ts';
import { directionOf, NO_FLOW, numberOf } from '../connection/flows.ts';
import { connectionAt, rearm } from '../connection/lifecycle.ts';
import { makeExpected } from '../connection/make-expected.ts';
import { TABLE_FULL } from '../connection/opening.ts';
import { because, REASONS } from '../counters.ts';
import { type Family, REPLY, REQUEST } from '../family.ts';
import { adjustmentOf } from '../forward/sequence.ts';
import { ETHERNET, IPPROTO_GRE, IPPROTO_TCP, MAX_OFFSET } from '../packet/headers.ts';
import { now as clock } from '../settings.ts';
import { expectedOf } from './expectation.ts';
import type { Control, Helper } from './helper.ts';
import { readingOf } from './reading.ts';

/** The beginning of a message about a call. */
const Message = struct('pptp_message', {
  length: be16,
  kind: be16,
  magic: be32,
  type: be16,
  reserved: be16,
  call: be16,
  peersCall: be16,
});
type Message = ViewOf<typeof Message>;
const Result = struct('pptp_result', { result: u8 });
const CallNumber = struct('pptp_number', { number: be16 });
/** Where the two numbers stand. */
const CALL = 12;
const PEERS_CALL = 14;
const RESULT = 16;
const MAGIC = htonl(0x1a2b_3c4d);
/** Of the client, which is the one that asks. */
const OUTGOING_CALL_REQUEST = htons(7);
const CALL_CLEAR_REQUEST = htons(12);
const SET_LINK_INFO = htons(15);
/** Of the real server. */
const OUTGOING_CALL_REPLY = htons(8);
const CALL_DISCONNECT_NOTIFY = htons(13);
const WAN_ERROR_NOTIFY = htons(14);
const CONNECTED = 1;
/** Messages that may come in one segment. */
const MOST_MESSAGES = 8;
/** Offset of the checksum in the TCP header. */
const CHECKSUM = 16;

export const pptp: Helper = {
  name: 'pptp',
  number: 5,
  protocol: IPPROTO_TCP,
  helps: 'PPTP with its calls over GRE, such as 1723',
  ports: [],
  request: (skb, family, control, c) => readMessages(skb, family, control, c, REQUEST),
  reply: (skb, family, control, c) => readMessages(skb, family, control, c, REPLY),
};

function readMessages(skb: Skb, family: Family, control: Control, c: Connection, direction: number): void {
  const r = readingOf();
  if (r === null) return;
  r.at = control.payload;
  const message = stack(Message);
  loop(MOST_MESSAGES, () => {
    const reading = readingOf();
    if (reading === null || u32(reading.at + Message.size) > reading.end) return 1;
    const at = reading.at & MAX_OFFSET;
    if (loadBytes(skb, at, message) !== 0 || message.magic !== MAGIC) return 1;
    const length = ntohs(message.length);
    // Sums are made of pairs of bytes.
    if (length < Message.size || (length & 1) !== 0) return 1;
    if (direction === REQUEST) readAsked(skb, family, control, c, message, at);
    else readAnswered(skb, family, control, message, at);
    reading.at = u32(reading.at + length);
    return 0;
  });
}

function readAsked(skb: Skb, family: Family, control: Control, c: Connection, message: Message, at: u32): void {
  const type = message.type;
  if (type === OUTGOING_CALL_REQUEST) {
    const call = askedCall(control, c, message.call);
    if (call === null) because(REASONS.unexpected);
    else writeNumber(skb, control, at + CALL, message.call, toldNumber(call));
  } else if (type === CALL_CLEAR_REQUEST) {
    const call = lastCall(control);
    if (call !== null && call.clientPort === message.call)
      writeNumber(skb, control, at + CALL, message.call, toldNumber(call));
  } else if (type === SET_LINK_INFO) {
    translate(skb, family, control, at + CALL, message.call);
  }
}

function readAnswered(skb: Skb, family: Family, control: Control, message: Message, at: u32): void {
  const type = message.type;
  if (type === OUTGOING_CALL_REPLY) {
    const result = stack(Result);
    const told = message.peersCall;
    const call = translate(skb, family, control, at + PEERS_CALL, told);
    if (loadBytes(skb, u32(at + RESULT), result) !== 0 || result.result !== CONNECTED) return;
    if (call !== null && answerCall(family, call, call.number, message.call)) {
      rearm(call, clock());
      writeNumber(skb, control, at + CALL, message.call, call.virtualPort);
    } else {
      because(REASONS.unexpected);
    }
  } else if (type === CALL_DISCONNECT_NOTIFY) {
    const call = lastCall(control);
    if (call !== null && call.realPort === message.call)
      writeNumber(skb, control, at + CALL, message.call, call.virtualPort);
  } else if (type === WAN_ERROR_NOTIFY) {
    translate(skb, family, control, at + CALL, message.call);
  }
}

/** The call that the client asks for, entered: the same where it asks again. */
function askedCall(control: Control, c: Connection, number: be16): Connection | null {
  const memo = adjustmentOf(control.connection, REQUEST);
  if (memo === null) return null;
  const last = lastCall(control);
  if (last !== null && last.clientPort === number) return last;
  const opening = expectedOf(c);
  if (opening === null) return null;
  opening.protocol = IPPROTO_GRE;
  opening.clientPort = number;
  opening.virtualPort = NO_NUMBER;
  const index = makeExpected(control.connection, NO_NUMBER);
  if (index >= TABLE_FULL) return null;
  memo.memo = u32(index + 1);
  return connections.at(index);
}

/** The last one that this client has asked for. pptpd has no more than one for a control connection. */
function lastCall(control: Control): Connection | null {
  const memo = adjustmentOf(control.connection, REQUEST);
  if (memo === null || memo.memo === 0) return null;
  const c = connectionAt(u32(memo.memo - 1), clock());
  return c === null || c.protocol !== IPPROTO_GRE || c.controller !== u32(control.connection + 1) ? null : c;
}

/** A number that the receiver has given becomes the receiver's own: the call. */
function translate(skb: Skb, family: Family, control: Control, at: u32, number: be16): Connection | null {
  const ip = skb.header(family.Header, ETHERNET);
  if (ip === null) return null;
  const flow = findCall(family, ip, number);
  if (flow === NO_FLOW) return null;
  const c = connectionAt(numberOf(flow), clock());
  if (c !== null) writeNumber(skb, control, at, number, receiversNumber(c, directionOf(flow)));
  return c;
}

function writeNumber(skb: Skb, control: Control, at: u32, old: be16, number: be16): void {
  if (old === number) return;
  const written = stack(CallNumber, { number });
  storeBytes(skb, at & MAX_OFFSET, written, 0);
  l4CsumReplace(skb, (control.transport & MAX_OFFSET) + CHECKSUM, raw(old), raw(number), 2);
}
const NO_NUMBER = rawBe16(0);
