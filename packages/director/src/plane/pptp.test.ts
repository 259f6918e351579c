/** PPTP through the data plane in Node: calls over GRE find their way by their numbers. */
import { TC_ACT_REDIRECT, TC_ACT_UNSPEC } from '@ipvsd/bpf';
import { ipFrame } from '@ipvsd/ipvs';
import { expect, test } from 'vitest';
import { LOCAL, Session, V4, V6 } from '../testing/session.ts';

const GRE = 47;
const settings = [['pptp_ports', '1723']] as const;

/** Enhanced GRE (RFC 2637 4.1) to the one who calls the call `call`. */
function grePacket(source: string, destination: string, call: number, flags = 0x2001): Uint8Array {
  const payload = Uint8Array.from([flags >> 8, flags & 255, 0x88, 0x0b, 0, 4, call >> 8, call & 255, 1, 2, 3, 4]);
  return ipFrame({ source, destination }, GRE, payload);
}

/** Bytes below 128, so that text is what goes over the wire. */
function message(type: number, call: number, peersCall: number, result: number): string {
  const words = [32, 1, 0x1a2b, 0x3c4d, type, 0, call, peersCall, result << 8, 0, 0, 0, 0, 0, 0, 0];
  return words.map((word) => String.fromCharCode(word >> 8, word & 255)).join('');
}
const REPLY = 8;
const ECHO = 6;

test.each([
  ['masq', V4],
  ['masq', V6],
  ['fullnat', V4],
] as const)('packets of an answered call go both ways (%s, %j)', (forwarding, addresses) => {
  const session = new Session(addresses, settings, 1723, forwarding);
  const { client, vip, real } = addresses;
  const seen = forwarding === 'masq' ? client : LOCAL.ipv4;
  const line = message(ECHO, 0, 0, 1) + message(REPLY, 0x0102, 0x0304, 1);
  expect(session.says('server', line)).toBe(line);
  const up = session.receive(grePacket(client, vip, 0x0102));
  expect(up).toMatchObject({ verdict: TC_ACT_REDIRECT, frame: { source: seen, destination: real, timeToLive: 63 } });
  const down = session.receive(grePacket(real, seen, 0x0304));
  expect(down).toMatchObject({ verdict: TC_ACT_REDIRECT, frame: { source: vip, destination: client } });
  // What is carried is as it was.
  const [sent, left] = [grePacket(real, seen, 0x0304), down.frame];
  expect([...left.payload]).toEqual([...sent.subarray(-left.payload.length)]);
  expect(session.connections()).toEqual([`${client} 772 > ${vip} 258 > ${real} 258 NONE`]);
});

test.each([
  ['a call that was refused', message(REPLY, 0x0102, 0x0304, 2)],
  ['a call without a number', message(REPLY, 0, 0x0304, 1)],
  ['another message', message(ECHO, 0x0102, 0x0304, 1)],
  ['what is no message', 'hello'],
])('nothing is expected after %s', (_what, line) => {
  const session = new Session(V4, settings, 1723);
  session.says('server', line);
  expect(session.receive(grePacket(V4.client, V4.vip, 0x0102)).verdict).toBe(TC_ACT_UNSPEC);
  expect(session.connections()).toEqual([]);
});

test("GRE of another version, and of another call, is the host's", () => {
  const session = new Session(V4, settings, 1723);
  session.says('server', message(REPLY, 0x0102, 0x0304, 1));
  expect(session.receive(grePacket(V4.client, V4.vip, 0x0102, 0x2000)).verdict).toBe(TC_ACT_UNSPEC);
  expect(session.receive(grePacket(V4.client, V4.vip, 0x0103)).verdict).toBe(TC_ACT_UNSPEC);
  session.wait(301);
  expect(session.receive(grePacket(V4.client, V4.vip, 0x0102)).verdict).toBe(TC_ACT_UNSPEC);
});
