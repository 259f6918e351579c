/** IRC's direct connections and FTP's of masqueraded hosts, through the data plane in Node. */
import { TC_ACT_REDIRECT } from '@ipvsd/bpf';
import { tcpFrame } from '@ipvsd/ipvs';
import { beforeEach, expect, test } from 'vitest';
import { parseNetwork } from '../mark-rule.ts';
import { NodeBench } from '../testing/node-bench.ts';
import { MasqueradeTable } from './masquerade-table.ts';

const OWN = '203.0.113.1';
const HOST = '10.2.0.1';
const FAR = '198.51.100.7';
const STRANGER = '192.0.2.99';
/** 10.2.0.1 and 203.0.113.1 as numbers. */
const HOST_NUMBER = 167_903_233;
const OWN_NUMBER = 3_405_803_777;

let bench: NodeBench;
let local: number;
let sequence: number;

const say = (flags: string, text: string, port: number) => {
  const sent = bench.receive(
    tcpFrame({
      source: HOST,
      destination: FAR,
      sourcePort: 40_000,
      destinationPort: port,
      flags,
      sequence,
      payload: Buffer.from(text, 'latin1'),
    }),
  );
  sequence += text.length;
  return sent.frame;
};
const text = (frame: { readonly payload: Uint8Array }): string => Buffer.from(frame.payload).toString('latin1');

function begin(port: number): void {
  sequence = 1000;
  local = say('S', '', port).sourcePort;
  sequence++;
  bench.receive(
    tcpFrame({ source: FAR, destination: OWN, sourcePort: port, destinationPort: local, flags: 'SA', sequence: 5000 }),
  );
  say('A', '', port);
}

beforeEach(() => {
  bench = new NodeBench(undefined, 1024);
  new MasqueradeTable(bench.plane).add({ from: parseNetwork('10.2.0.0/24')!, ifindex: 2, address: OWN });
  bench.execute({ kind: 'setSysctl', name: 'irc_ports', value: '6667' });
});

const offer = (what: string): string => `PRIVMSG you :\x01DCC ${what}\x01\r\n`;

test.each([
  [`SEND file ${HOST_NUMBER} 5000 1234`, 'SEND file '],
  [`SEND "a file" ${HOST_NUMBER} 5000 1234`, 'SEND "a file" '],
  [`CHAT chat ${HOST_NUMBER} 5000`, 'CHAT chat '],
])('what a host offers (%s) leads to it from whoever comes first', (what, words) => {
  begin(6667);
  const said = say('PA', offer(what), 6667);
  expect(said.valid).toBe(true);
  const port = Number(new RegExp(`DCC ${words}${OWN_NUMBER} (\\d+)`).exec(text(said))?.[1]);
  expect(port).toBeGreaterThan(0);
  // What follows is counted on from what the other side has read.
  const next = say('PA', 'PING\r\n', 6667);
  expect(next.sequence).toBe(said.sequence + said.payload.length);

  const call = (source: string, sourcePort: number) =>
    bench.receive(tcpFrame({ source, destination: OWN, sourcePort, destinationPort: port, flags: 'S' }));
  const came = call(STRANGER, 7000);
  expect(came.verdict).toBe(TC_ACT_REDIRECT);
  expect(came.frame).toMatchObject({ source: STRANGER, sourcePort: 7000, destination: HOST, destinationPort: 5000 });
  const answered = bench.receive(
    tcpFrame({ source: HOST, destination: STRANGER, sourcePort: 5000, destinationPort: 7000, flags: 'SA' }),
  );
  expect(answered.frame).toMatchObject({ source: OWN, sourcePort: port, destination: STRANGER, valid: true });
  expect(call('192.0.2.98', 7000).frame.destination).toBe(OWN);
});

test.each([
  `SEND file ${HOST_NUMBER} 0 1234 7`,
  `SEND file 3232235777 5000 1234`,
  `RESUME file 5000 10`,
  `SEND file`,
  `SEND "file ${HOST_NUMBER} 5000`,
])('%s is no offer of the host, and stays', (what) => {
  begin(6667);
  expect(text(say('PA', offer(what), 6667))).toBe(offer(what));
});

test('FTP: where a masqueraded host waits is a port of ours to the outside', () => {
  begin(21);
  const said = text(say('PA', 'PORT 10,2,0,1,19,136\r\n', 21));
  const [, high, low] = /^PORT 203,0,113,1,(\d+),(\d+)\r\n$/.exec(said) ?? [];
  const port = Number(high) * 256 + Number(low);
  const came = bench.receive(
    tcpFrame({ source: FAR, destination: OWN, sourcePort: 20, destinationPort: port, flags: 'S' }),
  );
  expect(came.frame).toMatchObject({ source: FAR, sourcePort: 20, destination: HOST, destinationPort: 5000 });
});
