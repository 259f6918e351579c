/** PPTP through the data plane in Node: calls over GRE find their way by their numbers. */
import { TC_ACT_REDIRECT, TC_ACT_UNSPEC } from '@ipvsd/bpf';
import { ipFrame, tcpFrame } from '@ipvsd/ipvs';
import { describe, expect, test } from 'vitest';
import { parseNetwork } from '../mark-rule.ts';
import { NodeBench } from '../testing/node-bench.ts';
import { LOCAL, Session, V4, V6 } from '../testing/session.ts';
import { MasqueradeTable } from './masquerade-table.ts';

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
const REQUEST = 7;
const REPLY = 8;
const CLEAR = 12;
const DISCONNECT = 13;
const WAN_ERROR = 14;
const LINK_INFO = 15;
const ECHO = 6;

test.each([
  ['masq', V4],
  ['masq', V6],
  ['fullnat', V4],
  ['fullnat', V6],
] as const)('packets of an answered call go both ways (%s, %j)', (forwarding, addresses) => {
  const session = new Session(addresses, settings, 1723, forwarding);
  const { client, vip, real } = addresses;
  const local = addresses === V4 ? LOCAL.ipv4 : LOCAL.ipv6;
  const seen = forwarding === 'masq' ? client : local;
  const asked = message(REQUEST, 0x0304, 0, 0);
  expect(session.says('client', asked)).toBe(asked);
  expect(session.receive(grePacket(client, vip, 0x0102)).verdict).toBe(TC_ACT_UNSPEC);
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

test.each(['masq', 'fullnat'] as const)('both may call it 0, as pptpd does its first one (%s)', (forwarding) => {
  const session = new Session(V4, settings, 1723, forwarding);
  const seen = forwarding === 'masq' ? V4.client : LOCAL.ipv4;
  session.says('client', message(REQUEST, 0, 0, 0));
  session.says('server', message(REPLY, 0, 0, 1));
  expect(session.receive(grePacket(V4.client, V4.vip, 0)).frame.destination).toBe(V4.real);
  expect(session.receive(grePacket(V4.real, seen, 0)).frame.destination).toBe(V4.client);
  expect(session.counted('unexpected')).toBe(0);
});

test.each([
  ['a call that was refused', message(REPLY, 0x0102, 0x0304, 2)],
  ['a call that nobody asked for', message(REPLY, 0x0102, 0x0305, 1)],
  ['another message', message(ECHO, 0x0102, 0x0304, 1)],
  ['what is no message', 'hello'],
])('packets do not pass after %s', (_what, line) => {
  const session = new Session(V4, settings, 1723);
  session.says('client', message(REQUEST, 0x0304, 0, 0));
  session.says('server', line);
  expect(session.receive(grePacket(V4.client, V4.vip, 0x0102)).verdict).toBe(TC_ACT_UNSPEC);
  expect(session.connections()).toEqual([`${V4.client} 772 > ${V4.vip} 0 > ${V4.real} 0 NONE`]);
});

test("GRE of another version, and of another call, is the host's", () => {
  const session = new Session(V4, settings, 1723);
  session.says('client', message(REQUEST, 0x0304, 0, 0));
  session.says('server', message(REPLY, 0x0102, 0x0304, 1));
  expect(session.receive(grePacket(V4.client, V4.vip, 0x0102)).verdict).toBe(TC_ACT_REDIRECT);
  expect(session.receive(grePacket(V4.client, V4.vip, 0x0102, 0x2000)).verdict).toBe(TC_ACT_UNSPEC);
  expect(session.receive(grePacket(V4.client, V4.vip, 0x0103)).verdict).toBe(TC_ACT_UNSPEC);
  session.wait(301);
  expect(session.receive(grePacket(V4.client, V4.vip, 0x0102)).verdict).toBe(TC_ACT_UNSPEC);
});

test('a client that calls again by its number gets the packets of the new call', () => {
  const session = new Session(V4, settings, 1723);
  session.says('client', message(REQUEST, 0x0304, 0, 0));
  session.says('server', message(REPLY, 0x0102, 0x0304, 1));
  session.says('client', message(REQUEST, 0x0304, 0, 0));
  session.says('server', message(REPLY, 0x0103, 0x0304, 1));
  expect(session.receive(grePacket(V4.client, V4.vip, 0x0103)).verdict).toBe(TC_ACT_REDIRECT);
  expect(session.receive(grePacket(V4.client, V4.vip, 0x0102)).verdict).toBe(TC_ACT_UNSPEC);
  expect(session.connections()).toHaveLength(1);
});

test('a real server that begins to count anew has another call by that number', () => {
  const session = new Session(V4, settings, 1723);
  for (const own of [0x0304, 0x0305]) {
    session.says('client', message(REQUEST, own, 0, 0));
    session.says('server', message(REPLY, 0, own, 1));
  }
  expect(session.receive(grePacket(V4.client, V4.vip, 0)).verdict).toBe(TC_ACT_REDIRECT);
  expect(session.connections()).toEqual([`${V4.client} 773 > ${V4.vip} 0 > ${V4.real} 0 NONE`]);
});

describe('two masqueraded hosts give their calls to one server the same number', () => {
  const OWN = '203.0.113.1';
  const FAR = '198.51.100.7';
  const NUMBER = 0x0304;
  const bench = new NodeBench(undefined, 1024);
  new MasqueradeTable(bench.plane).add({ from: parseNetwork('10.2.0.0/24')!, ifindex: 2, address: OWN });
  bench.execute({ kind: 'setSysctl', name: 'pptp_ports', value: '1723' });

  /** A control connection: what each side writes, and what the other reads. */
  class Control {
    readonly #host: string;
    #local = 0;
    readonly #next = { host: 1000, far: 5000 };

    constructor(host: string) {
      this.#host = host;
      this.#local = this.#send('host', 'S', '').sourcePort;
      this.#send('far', 'SA', '');
      this.#send('host', 'A', '');
    }

    says(side: 'host' | 'far', text: string): string {
      const { payload, valid } = this.#send(side, 'PA', text);
      expect(valid).toBe(true);
      return Buffer.from(payload).toString('latin1');
    }

    #send(side: 'host' | 'far', flags: string, text: string) {
      const ends =
        side === 'host'
          ? { source: this.#host, sourcePort: 40_000, destination: FAR, destinationPort: 1723 }
          : { source: FAR, sourcePort: 1723, destination: OWN, destinationPort: this.#local };
      const payload = Buffer.from(text, 'latin1');
      const { frame } = bench.receive(tcpFrame({ ...ends, flags, sequence: this.#next[side], payload }));
      this.#next[side] += payload.length + (flags.includes('S') ? 1 : 0);
      return frame;
    }
  }
  const callOf = (text: string): number => text.charCodeAt(12) * 256 + text.charCodeAt(13);
  const peersCallOf = (text: string): number => text.charCodeAt(14) * 256 + text.charCodeAt(15);
  const [one, two] = [new Control('10.2.0.1'), new Control('10.2.0.2')];
  const asked = (control: Control): number => callOf(control.says('host', message(REQUEST, NUMBER, 0, 0)));
  const told = { one: asked(one), two: asked(two) };

  test('the first keeps it, and the second is known by another, also when it asks again', () => {
    expect(told.one).toBe(NUMBER);
    expect(told.two).not.toBe(NUMBER);
    expect(asked(two)).toBe(told.two);
  });

  test('each reads its own in the answer, and gets the packets of its call', () => {
    for (const [control, number, call, host] of [
      [one, told.one, 0, '10.2.0.1'],
      [two, told.two, 1, '10.2.0.2'],
    ] as const) {
      expect(peersCallOf(control.says('far', message(REPLY, call, number, 1)))).toBe(NUMBER);
      const down = bench.receive(grePacket(FAR, OWN, number));
      expect(down).toMatchObject({ verdict: TC_ACT_REDIRECT, frame: { source: FAR, destination: host } });
      expect([...down.frame.payload.subarray(2, 4)]).toEqual([NUMBER >> 8, NUMBER & 255]);
      expect(bench.receive(grePacket(host, FAR, call)).frame).toMatchObject({ source: OWN, destination: FAR });
    }
  });

  test('so do messages about it', () => {
    expect(callOf(two.says('host', message(LINK_INFO, 1, 0, 0)))).toBe(1);
    expect(callOf(two.says('far', message(WAN_ERROR, told.two, 0, 0)))).toBe(NUMBER);
    expect(callOf(two.says('host', message(CLEAR, NUMBER, 0, 0)))).toBe(told.two);
    expect(callOf(two.says('far', message(DISCONNECT, 1, 0, 0)))).toBe(1);
  });
});
