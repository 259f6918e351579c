/** RTSP through the data plane in Node: media by UDP from and to the virtual service. */
import { TC_ACT_REDIRECT, TC_ACT_UNSPEC } from '@ipvsd/bpf';
import { expect, test } from 'vitest';
import { LOCAL, Session, V4, V6 } from '../testing/session.ts';

const SETUP = 'SETUP rtsp://x/track1 RTSP/1.0\r\nCSeq: 3\r\nTransport: RTP/AVP;unicast;client_port=8000-8001\r\n\r\n';
const answer = (rest: string): string =>
  `RTSP/1.0 200 OK\r\nCSeq: 3\r\nTransport: RTP/AVP;unicast;client_port=8000-8001${rest}\r\nSession: 1\r\n\r\n`;
const settings = [['rtsp_ports', '554']] as const;

test.each([
  ['masq', V4],
  ['masq', V6],
  ['fullnat', V4],
  ['fullnat', V6],
] as const)('both pairs of ports are let through, both ways (%s, %j)', (forwarding, addresses) => {
  const session = new Session(addresses, settings, 554, forwarding);
  const { client, vip, real } = addresses;
  const seen = forwarding === 'masq' ? client : addresses === V4 ? LOCAL.ipv4 : LOCAL.ipv6;
  session.says('client', SETUP);
  session.says('server', answer(';server_port=9000-9001'));
  for (const [there, here] of [
    [8000, 9000],
    [8001, 9001],
  ] as const) {
    const sent = session.packet({ from: [real, here], to: [seen, there], datagram: true });
    expect(sent).toMatchObject({
      verdict: TC_ACT_REDIRECT,
      parsed: { source: vip, sourcePort: here, destination: client, destinationPort: there },
    });
    const reported = session.packet({ from: [client, there], to: [vip, here], datagram: true });
    expect(reported.parsed).toMatchObject({ destination: real, destinationPort: here, sourcePort: there });
  }
});

test('a real server that does not name its ports may send from any', () => {
  const session = new Session(V4, settings, 554);
  session.says('client', SETUP);
  session.says('server', answer(''));
  const sent = session.packet({ from: [V4.real, 6970], to: [V4.client, 8000], datagram: true });
  expect(sent.parsed).toMatchObject({ source: V4.vip, sourcePort: 6970 });
});

test.each([
  [V4, 'source=10.2.0.11', 'source=10.1.0.100'],
  [V4, 'source=192.0.2.7', 'source=192.0.2.7'],
  [V6, 'source=2001:db8:2::11', 'source=2001:db8:1:0:0:0:0:100'],
])("of addresses only the real server's own is the virtual service's (%j, %s)", (addresses, source, expected) => {
  const session = new Session(addresses, settings, 554);
  session.says('client', SETUP);
  const line = answer(`;${source};server_port=9000-9001`);
  expect(session.says('server', line)).toBe(line.replace(source, expected));
  session.says('client', 'PLAY rtsp://x RTSP/1.0\r\n\r\n');
  session.says('server', 'RTSP/1.0 200 OK\r\n\r\n');
  const sent = session.packet({ from: [addresses.real, 9000], to: [addresses.client, 8000], datagram: true });
  expect(sent.parsed).toMatchObject({ source: addresses.vip });
});

test('what a real server sends before it answers comes from the virtual service too', () => {
  const session = new Session(V4, settings, 554);
  session.says('client', SETUP);
  const early = session.packet({ from: [V4.real, 9000], to: [V4.client, 8000], datagram: true });
  expect(early.parsed).toMatchObject({ source: V4.vip, sourcePort: 9000 });
  session.says('server', answer(';server_port=9000-9001'));
  // Once it has said which ports, it is these.
  expect(session.connections()).toEqual(
    [0, 1].map((n) => `${V4.client} ${8000 + n} > ${V4.vip} ${9000 + n} > ${V4.real} ${9000 + n} UDP`),
  );
  const other = session.packet({ from: [V4.real, 7777], to: [V4.client, 8001], datagram: true });
  expect(other.verdict).toBe(TC_ACT_UNSPEC);
});

test('what is carried on the connection itself expects nothing, and is as it was', () => {
  const session = new Session(V4, settings, 554);
  const line = 'Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n';
  session.says('client', `SETUP rtsp://x/track1 RTSP/1.0\r\nCSeq: 3\r\n${line}`);
  session.says('server', `RTSP/1.0 200 OK\r\nCSeq: 3\r\n${line}`);
  const carried = `$\0\0\x04abcd`;
  expect(session.says('server', carried)).toBe(carried);
  expect(session.connections()).toEqual([]);
});

test.each([
  'RTSP/1.0 200 OK\r\nTransport: RTP/AVP;unicast;client_port=0-1\r\n\r\n',
  'RTSP/1.0 200 OK\r\nTransport: RTP/AVP;unicast;client_port=99999\r\n\r\n',
  'RTSP/1.0 200 OK\r\n\r\nclient_port=8000-8001',
])('nothing is expected after %j', (line) => {
  const session = new Session(V4, settings, 554);
  session.says('client', 'OPTIONS rtsp://x RTSP/1.0\r\nCSeq: 3\r\n\r\n');
  expect(session.says('server', line)).toBe(line);
  expect(session.connections()).toEqual([]);
  expect(session.packet({ from: [V4.real, 9000], to: [V4.client, 8000], datagram: true }).verdict).toBe(TC_ACT_UNSPEC);
});
