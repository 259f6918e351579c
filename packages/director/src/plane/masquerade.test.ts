import { answerOnLink, BPF_FIB_LOOKUP_SRC, TC_ACT_REDIRECT, TC_ACT_SHOT, TC_ACT_UNSPEC } from '@ipvsd/bpf';
import { internetChecksum, tcpFrame, udpFrame } from '@ipvsd/ipvs';
import { beforeEach, describe, expect, test } from 'vitest';
import { parseNetwork } from '../mark-rule.ts';
import { NodeBench, serverSettings, serviceSettings, tcpService, VIP } from '../testing/node-bench.ts';
import { MasqueradeTable } from './masquerade-table.ts';

/** Everything is on link behind it. */
const OUTSIDE = 2;
/** BPF_FIB_LKUP_RET_NOT_FWDED: a kernel that names no preferred source, so that the rule's address is taken. */
const NOT_FOUND = 4;
const OWN = '203.0.113.1';
const HOST = '10.2.0.1';
const FAR = '198.51.100.7';

let bench: NodeBench;
let table: MasqueradeTable;
beforeEach(() => {
  bench = new NodeBench(undefined, 1024, (parameters, flags) =>
    (flags & BPF_FIB_LOOKUP_SRC) === 0 ? answerOnLink(parameters, OUTSIDE) : NOT_FOUND,
  );
  table = new MasqueradeTable(bench.plane);
  table.add({ from: parseNetwork('10.2.0.0/24')!, ifindex: OUTSIDE, address: OWN });
});

const out = (port: number, host = HOST, flags = 'S') =>
  bench.receive(tcpFrame({ source: host, destination: FAR, sourcePort: port, destinationPort: 443, flags }));
const back = (port: number, flags = 'SA') =>
  bench.receive(tcpFrame({ source: FAR, destination: OWN, sourcePort: 443, destinationPort: port, flags }));

describe('a masqueraded host', () => {
  test('leaves with the address of the director and a port of its own, and is answered', () => {
    const up = out(40_000);
    expect(up.verdict).toBe(TC_ACT_REDIRECT);
    expect(up.frame).toMatchObject({
      source: OWN,
      sourcePort: 1024,
      destination: FAR,
      destinationPort: 443,
      valid: true,
    });
    expect(up.frame.timeToLive).toBe(63);
    const down = back(1024);
    expect(down.verdict).toBe(TC_ACT_REDIRECT);
    expect(down.frame).toMatchObject({
      source: FAR,
      sourcePort: 443,
      destination: HOST,
      destinationPort: 40_000,
      valid: true,
    });
  });

  test('shares the address with others, whatever ports they take', () => {
    const ports = [HOST, '10.2.0.2', '10.2.0.3'].map((host) => out(40_000, host).frame.sourcePort);
    expect(ports).toEqual([1024, 1025, 1026]);
    expect(back(1025).frame.destination).toBe('10.2.0.2');
  });

  test('gets no port that is in use, and is counted when there is none', () => {
    bench.execute({ kind: 'setSysctl', name: 'local_port_range', value: '2000 2001' });
    expect([1, 2].map((port) => out(port).verdict)).toEqual([TC_ACT_REDIRECT, TC_ACT_REDIRECT]);
    expect(out(3).verdict).toBe(TC_ACT_SHOT);
    expect(bench.count('noLocalPort')).toBe(1);
  });

  test('does not leak what belongs to no connection', () => {
    expect(out(40_000, HOST, 'A').verdict).toBe(TC_ACT_SHOT);
    expect(bench.count('unmasqueraded')).toBe(1);
  });

  test('is no connection of a virtual service, and none where it has no network', () => {
    out(40_000);
    expect([...bench.director.connections()]).toEqual([]);
    expect(out(40_000, '10.3.0.1').verdict).toBe(TC_ACT_UNSPEC);
    table.remove(parseNetwork('10.2.0.0/24')!);
    expect(out(40_001).verdict).toBe(TC_ACT_UNSPEC);
  });

  test('keeps its connections when its network is removed, as long as there is another or a service', () => {
    out(40_000);
    table.add({ from: parseNetwork('10.9.0.0/24')!, ifindex: OUTSIDE, address: OWN });
    table.remove(parseNetwork('10.2.0.0/24')!);
    expect(out(40_000, HOST, 'A').frame.source).toBe(OWN);
  });

  test('that is a real server too answers its clients as the virtual service', () => {
    bench.execute({ kind: 'addService', service: tcpService, settings: serviceSettings('rr') });
    bench.execute({
      kind: 'addServer',
      service: tcpService,
      server: { address: HOST, port: 80 },
      settings: serverSettings(),
    });
    bench.packet('192.0.2.1', 1000);
    const reply = { source: HOST, destination: '192.0.2.1', sourcePort: 80, destinationPort: 1000, flags: 'SA' };
    expect(bench.receive(tcpFrame(reply)).frame).toMatchObject({ source: VIP, sourcePort: 80 });
  });

  test('has no way out by another interface', () => {
    table.add({ from: parseNetwork('10.2.0.0/24')!, ifindex: 9, address: OWN });
    expect(out(40_000).verdict).toBe(TC_ACT_UNSPEC);
  });
});

describe('echo', () => {
  function echo(type: number, id: number, source: string, destination: string): Uint8Array {
    const frame = udpFrame({ source, destination, sourcePort: 0, destinationPort: 0, payload: Uint8Array.of(1, 2, 3) });
    frame[23] = 1;
    frame.set([type, 0, 0, 0, id >> 8, id & 255, 0, 1], 34);
    const view = new DataView(frame.buffer);
    view.setUint16(36, internetChecksum(frame.subarray(34)));
    view.setUint16(24, 0);
    view.setUint16(24, internetChecksum(frame.subarray(14, 34)));
    return frame;
  }
  const idOf = (bytes: Uint8Array): number => (bytes[38]! << 8) | bytes[39]!;
  const isRight = (bytes: Uint8Array): boolean =>
    internetChecksum(bytes.subarray(14, 34)) === 0 && internetChecksum(bytes.subarray(34)) === 0;

  test('of two hosts with one identifier comes back to each', () => {
    const hosts = [HOST, '10.2.0.2'];
    const sent = hosts.map((host) => bench.receive(echo(8, 77, host, FAR)));
    expect(sent.map(({ frame }) => frame.source)).toEqual([OWN, OWN]);
    const ids = sent.map(({ bytes }) => idOf(bytes));
    expect(new Set(ids).size).toBe(2);
    for (const [i, id] of ids.entries()) {
      const { frame, bytes } = bench.receive(echo(0, id, FAR, OWN));
      expect([frame.destination, idOf(bytes), isRight(bytes)]).toEqual([hosts[i], 77, true]);
    }
    expect(sent.every(({ bytes }) => isRight(bytes))).toBe(true);
  });

  test('is forgotten half a minute after the last', () => {
    const id = idOf(bench.receive(echo(8, 77, HOST, FAR)).bytes);
    bench.pass(20);
    expect(bench.receive(echo(0, id, FAR, OWN)).verdict).toBe(TC_ACT_REDIRECT);
    bench.pass(40);
    expect(bench.receive(echo(0, id, FAR, OWN)).verdict).toBe(TC_ACT_UNSPEC);
  });

  test('of the director itself is its own', () => {
    expect(bench.receive(echo(0, 5, FAR, OWN)).verdict).toBe(TC_ACT_UNSPEC);
    expect(bench.receive(echo(8, 5, FAR, OWN)).verdict).toBe(TC_ACT_UNSPEC);
  });
});

test('the table lists what was added, in order, and refuses to remove what is not there', () => {
  table.add({ from: parseNetwork('fd00::/64')!, ifindex: 3, address: 'fd01::1' });
  table.add({ from: parseNetwork('10.1.0.0/16')!, ifindex: 3, address: OWN });
  expect(table.list().map(({ from, ifindex }) => `${from.address}/${from.prefix} ${ifindex}`)).toEqual([
    '10.1.0.0/16 3',
    '10.2.0.0/24 2',
    'fd00::/64 3',
  ]);
  expect(() => table.remove(parseNetwork('10.2.0.0/25')!)).toThrow(
    /Cannot remove 10\.2\.0\.0\/25: it is not masqueraded/,
  );
});
