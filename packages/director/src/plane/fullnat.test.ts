import { TC_ACT_REDIRECT, TC_ACT_SHOT, TC_ACT_UNSPEC } from '@ipvsd/bpf';
import { internetChecksum, tcpFrame, udpFrame } from '@ipvsd/ipvs';
import { beforeEach, describe, expect, test } from 'vitest';
import type { Command } from '../command.ts';
import type { ServiceId } from '../model.ts';
import {
  addressOf,
  NodeBench,
  serverSettings,
  serviceSettings,
  tcpService,
  udpService,
  VIP,
} from '../testing/node-bench.ts';

const CLIENT = '192.0.2.1';
const REAL = '10.2.0.1';
const LOCAL = '10.2.0.250';
const VIP6 = '2001:db8::100';
const service6: ServiceId = { kind: 'address', family: 'ipv6', protocol: 'tcp', address: VIP6, port: 80 };

let bench: NodeBench;
beforeEach(() => {
  bench = new NodeBench();
});

const fullnat = (service: ServiceId, address: string, port: number): Command => ({
  kind: 'addServer',
  service,
  server: { address, port },
  settings: serverSettings(1, { forwarding: 'fullnat' }),
});

function setUp(service: ServiceId, reals: readonly string[], locals: readonly string[], ports = '1024 32767'): void {
  bench.execute({ kind: 'addService', service, settings: serviceSettings('rr') });
  for (const address of reals) bench.execute(fullnat(service, address, 8000));
  for (const address of locals) bench.execute({ kind: 'addLocalAddress', service, address });
  bench.execute({ kind: 'setSysctl', name: 'local_port_range', value: ports });
}

const syn = (port: number, client = CLIENT, flags = 'S') =>
  bench.receive(tcpFrame({ source: client, destination: VIP, sourcePort: port, destinationPort: 80, flags }));
const answer = (localPort: number, flags = 'SA', real = REAL, local = LOCAL) =>
  bench.receive(tcpFrame({ source: real, destination: local, sourcePort: 8000, destinationPort: localPort, flags }));

/** A connection that is over: its entry leaves in two minutes. */
function close(port: number, localPort: number): void {
  answer(localPort, 'FA');
  syn(port, CLIENT, 'FA');
}

describe('a packet under FULLNAT', () => {
  test.each([
    ['IPv4', tcpService, CLIENT, VIP, REAL, LOCAL],
    ['IPv6', service6, '2001:db8::1', VIP6, 'fd00::1', 'fd00::250'],
  ] as const)('has both ends rewritten, and its reply both back (%s)', (_, service, client, vip, real, local) => {
    setUp(service, [real], [local]);
    const up = bench.receive(
      tcpFrame({ source: client, destination: vip, sourcePort: 4000, destinationPort: 80, flags: 'S' }),
    );
    expect(up.verdict).toBe(TC_ACT_REDIRECT);
    expect(up.frame).toMatchObject({
      source: local,
      sourcePort: 1024,
      destination: real,
      destinationPort: 8000,
      timeToLive: 63,
      valid: true,
    });
    const down = bench.receive(
      tcpFrame({ source: real, destination: local, sourcePort: 8000, destinationPort: 1024, flags: 'SA' }),
    );
    expect(down.verdict).toBe(TC_ACT_REDIRECT);
    expect(down.frame).toMatchObject({
      source: vip,
      sourcePort: 80,
      destination: client,
      destinationPort: 4000,
      timeToLive: 63,
      valid: true,
    });
    expect([...bench.director.connections()][0]).toMatchObject({ state: 'SYN_RECV' });
  });

  test('of UDP is rewritten too, and one without a checksum gets one', () => {
    setUp(udpService, [REAL], [LOCAL]);
    const ends = { source: CLIENT, destination: VIP, sourcePort: 4000, destinationPort: 53 };
    const frame = udpFrame({ ...ends, payload: Uint8Array.of(1, 2, 3) });
    frame.set([0, 0], 40);
    expect(bench.receive(frame).frame).toMatchObject({
      source: LOCAL,
      sourcePort: 1024,
      destination: REAL,
      valid: true,
    });
    expect(
      bench.receive(udpFrame({ source: REAL, destination: LOCAL, sourcePort: 8000, destinationPort: 1024 })).frame,
    ).toMatchObject({ source: VIP, sourcePort: 53, destination: CLIENT, destinationPort: 4000, valid: true });
  });

  test('that may travel no further is answered to its sender, and never left to the host', () => {
    setUp(tcpService, [REAL], [LOCAL]);
    syn(4000);
    const frame = tcpFrame({
      source: REAL,
      destination: LOCAL,
      sourcePort: 8000,
      destinationPort: 1024,
      flags: 'A',
      timeToLive: 1,
    });
    const { verdict, bytes } = bench.receive(frame);
    expect(verdict).toBe(TC_ACT_REDIRECT);
    expect([...bytes.subarray(34, 36)]).toEqual([11, 0]);
    expect(bench.count('timeToLive')).toBe(1);
  });

  test('in fragments goes and comes with both addresses', () => {
    setUp(udpService, [REAL], [LOCAL]);
    const ends = { source: CLIENT, destination: VIP, sourcePort: 4000, destinationPort: 53 };
    const [first, last] = fragments(udpFrame({ ...ends, payload: new Uint8Array(64) }));
    bench.receive(first!);
    expect(bench.receive(last!).frame).toMatchObject({ source: LOCAL, destination: REAL });
    const back = { source: REAL, destination: LOCAL, sourcePort: 8000, destinationPort: 1024 };
    const [one, two] = fragments(udpFrame({ ...back, payload: new Uint8Array(64) }));
    bench.receive(one!);
    const { frame, bytes } = bench.receive(two!);
    expect(frame).toMatchObject({ source: VIP, destination: CLIENT });
    expect(internetChecksum(bytes.subarray(14, 34))).toBe(0);
  });
});

/** The datagram in two. */
function fragments(frame: Uint8Array): Uint8Array[] {
  const cut = 14 + 20 + 16;
  return [
    [0x20, 0, 14 + 20, cut],
    [0, 2, cut, frame.length],
  ].map(([high, low, from, to]) => {
    const part = Uint8Array.from([...frame.subarray(0, 34), ...frame.subarray(from, to)]);
    const view = new DataView(part.buffer);
    view.setUint16(16, part.length - 14);
    part.set([high!, low!], 20);
    view.setUint16(24, 0);
    view.setUint16(24, internetChecksum(part.subarray(14, 34)));
    return part;
  });
}

describe("a client's timestamps", () => {
  const nop = Array(10).fill(1);
  test.each([
    [
      'as Linux sends them',
      [2, 4, 5, 180, 4, 2, 8, 10, 9, 8, 7, 6, 0, 0, 0, 0, 1, 3, 3, 7],
      [2, 4, 5, 180, 4, 2, ...nop, 1, 3, 3, 7],
    ],
    ['at an odd place', [1, 8, 10, 9, 8, 7, 6, 1, 2, 3, 4, 0], [1, ...nop, 0]],
    ['behind a length that is none', [3, 0, 8, 10, 9, 8, 7, 6, 1, 2, 3, 4], [3, 0, 8, 10, 9, 8, 7, 6, 1, 2, 3, 4]],
    ['cut off', [1, 1, 8, 10], [1, 1, 8, 10]],
  ])('are blotted out of its SYN (%s)', (_, options, expected) => {
    setUp(tcpService, [REAL], [LOCAL]);
    const ends = { source: CLIENT, destination: VIP, sourcePort: 4000, destinationPort: 80 };
    const { frame } = bench.receive(tcpFrame({ ...ends, flags: 'S', options: Uint8Array.from(options) }));
    expect([...frame.options]).toEqual(expected);
    expect(frame.valid).toBe(true);
    const later = bench.receive(tcpFrame({ ...ends, flags: 'A', options: Uint8Array.from(options) }));
    expect([...later.frame.options]).toEqual(options);
    expect(later.frame.valid).toBe(true);
  });
});

describe('local addresses and ports', () => {
  test('take turns, and each goes through its ports in turn', () => {
    setUp(tcpService, [REAL], ['10.2.0.250', '10.2.0.251']);
    const ends = [1, 2, 3, 4].map((port) => syn(port).frame).map(({ source, sourcePort }) => `${source}:${sourcePort}`);
    expect(ends).toEqual(['10.2.0.250:1024', '10.2.0.251:1024', '10.2.0.250:1025', '10.2.0.251:1025']);
  });

  test('are not taken twice while a connection lives, and then the next client is counted and dropped', () => {
    setUp(tcpService, [REAL], [LOCAL], '2000 2003');
    const ports = [1, 2, 3, 4].map((port) => syn(port).frame.sourcePort);
    expect(ports).toEqual([2000, 2001, 2002, 2003]);
    for (const [i, port] of ports.entries()) {
      answer(port);
      syn(i + 1, CLIENT, 'A');
    }
    expect(syn(5).verdict).toBe(TC_ACT_SHOT);
    expect(bench.count('noLocalPort')).toBe(1);
    // Closing is not the end of it: the entry is, after its time.
    close(2, 2001);
    expect(syn(5).verdict).toBe(TC_ACT_SHOT);
    bench.pass(130);
    expect(syn(5).frame).toMatchObject({ sourcePort: 2001, valid: true });
    expect(syn(6).verdict).toBe(TC_ACT_SHOT);
    expect(answer(2001, 'SA').frame).toMatchObject({ destination: CLIENT, destinationPort: 5 });
  });

  test('of one address serve as many connections for each real server', () => {
    setUp(tcpService, [REAL, '10.2.0.2'], [LOCAL], '2000 2003');
    for (let port = 1; port <= 8; port++) expect(syn(port).verdict).toBe(TC_ACT_REDIRECT);
    expect(syn(9).verdict).toBe(TC_ACT_SHOT);
  });

  test('of another address serve where those of one are all taken', () => {
    setUp(tcpService, [REAL], [LOCAL, '10.2.0.251'], '2000 2003');
    const used = Array.from({ length: 8 }, (_, i) => syn(i + 1).frame).map((f) => `${f.source}:${f.sourcePort}`);
    expect(new Set(used).size).toBe(8);
    expect(syn(9).verdict).toBe(TC_ACT_SHOT);
  });

  test('rest until all others of the address have been used', () => {
    setUp(tcpService, [REAL], [LOCAL], '2000 2009');
    syn(1);
    close(1, 2000);
    bench.pass(130);
    expect([2, 3, 4].map((port) => syn(port).frame.sourcePort)).toEqual([2001, 2002, 2003]);
  });

  test('are all found, the last one free too', () => {
    const many = 4000;
    setUp(tcpService, [REAL], [LOCAL], `1024 ${1023 + many}`);
    for (let i = 0; i < many; i++) {
      expect(syn(1000 + (i % 4), addressOf(0xc000_0200 + Math.floor(i / 4))).verdict).toBe(TC_ACT_REDIRECT);
    }
    expect(syn(9000).verdict).toBe(TC_ACT_SHOT);
    // One in the middle comes free: a client's SYNs, each going on where the one before ended, find it.
    const client = addressOf(0xc000_0200 + 500);
    answer(1024 + 2000, 'R');
    expect(
      bench.receive(tcpFrame({ source: client, destination: VIP, sourcePort: 1000, destinationPort: 80, flags: 'R' }))
        .verdict,
    ).toBe(TC_ACT_REDIRECT);
    bench.pass(12);
    const tries = [1, 2, 3, 4, 5].map(() => syn(9000));
    const found = tries.find(({ verdict }) => verdict === TC_ACT_REDIRECT);
    expect(found?.frame).toMatchObject({ sourcePort: 1024 + 2000, valid: true });
  });

  test('outlive their removal from the service in connections that have them', () => {
    setUp(tcpService, [REAL], [LOCAL]);
    syn(1);
    bench.execute({ kind: 'addLocalAddress', service: tcpService, address: '10.2.0.251' });
    bench.execute({ kind: 'deleteLocalAddress', service: tcpService, address: LOCAL });
    expect(bench.director.service(tcpService)!.localAddresses).toEqual(['10.2.0.251']);
    expect(syn(1, CLIENT, 'A').frame).toMatchObject({ source: LOCAL, sourcePort: 1024 });
    expect(syn(2).frame).toMatchObject({ source: '10.2.0.251' });
  });

  test('are needed: without one a first packet is counted and dropped', () => {
    setUp(tcpService, [REAL], []);
    expect(syn(1).verdict).toBe(TC_ACT_SHOT);
    expect(bench.count('noLocalAddress')).toBe(1);
    expect([...bench.director.connections()]).toEqual([]);
  });

  test('are not the host’s any more: what is of no connection goes to it, as before', () => {
    setUp(tcpService, [REAL], [LOCAL]);
    expect(answer(5555).verdict).toBe(TC_ACT_UNSPEC);
  });
});

describe('an ICMP error about a connection under FULLNAT', () => {
  const quote = (source: string, sourcePort: number, destination: string, destinationPort: number): Uint8Array =>
    tcpFrame({ source, sourcePort, destination, destinationPort, flags: 'A' }).slice(14, 14 + 28);

  function unreachable(source: string, destination: string, quoted: Uint8Array): Uint8Array {
    const frame = udpFrame({ source, destination, sourcePort: 0, destinationPort: 0, payload: quoted });
    frame[23] = 1;
    frame.set([3, 1, 0, 0, 0, 0, 0, 0], 34);
    const view = new DataView(frame.buffer);
    view.setUint16(36, internetChecksum(frame.subarray(34)));
    view.setUint16(24, 0);
    view.setUint16(24, internetChecksum(frame.subarray(14, 34)));
    return frame;
  }

  const ends = (bytes: Uint8Array): string => {
    const [source, destination] = [14 + 12, 14 + 16].map((at) => bytes.subarray(at, at + 4).join('.'));
    const quoted = 34 + 8;
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    const [a, b] = [12, 16].map((at) => bytes.subarray(quoted + at, quoted + at + 4).join('.'));
    return `${source} > ${destination}: ${a}:${view.getUint16(quoted + 20)} > ${b}:${view.getUint16(quoted + 22)}`;
  };

  const isRight = (bytes: Uint8Array): boolean =>
    [bytes.subarray(14, 34), bytes.subarray(34), bytes.subarray(42, 62)].every((part) => internetChecksum(part) === 0);

  test('reads at the client as if it were about its own packet', () => {
    setUp(tcpService, [REAL], [LOCAL]);
    syn(4000);
    const { verdict, bytes } = bench.receive(unreachable(REAL, LOCAL, quote(LOCAL, 1024, REAL, 8000)));
    expect(verdict).toBe(TC_ACT_REDIRECT);
    expect(ends(bytes)).toBe(`${VIP} > ${CLIENT}: ${CLIENT}:4000 > ${VIP}:80`);
    expect(isRight(bytes)).toBe(true);
  });

  test('and at the real server about its own', () => {
    setUp(tcpService, [REAL], [LOCAL]);
    syn(4000);
    const { verdict, bytes } = bench.receive(unreachable(CLIENT, VIP, quote(VIP, 80, CLIENT, 4000)));
    expect(verdict).toBe(TC_ACT_REDIRECT);
    expect(ends(bytes)).toBe(`${LOCAL} > ${REAL}: ${REAL}:8000 > ${LOCAL}:1024`);
    expect(isRight(bytes)).toBe(true);
  });
});

describe('what cannot be', () => {
  const refusal = (command: Command) => bench.director.executeAll([command], { atomic: true })[0];

  test('is refused: a local address of the other family', () => {
    setUp(tcpService, [REAL], []);
    const error = refusal({ kind: 'addLocalAddress', service: tcpService, address: 'fd00::250' });
    expect(error?.message).toMatch(/fd00::250 is of another family, must be of the service's own/);
  });

  test('is refused: one-packet scheduling with FULLNAT, whichever comes first', () => {
    const once = serviceSettings('rr', { onePacket: true });
    bench.execute({ kind: 'addService', service: udpService, settings: once });
    expect(refusal(fullnat(udpService, REAL, 53))?.message).toMatch(/one-packet scheduling keeps no connections/);
    bench.execute({ kind: 'editService', service: udpService, settings: serviceSettings('rr') });
    bench.execute(fullnat(udpService, REAL, 53));
    expect(refusal({ kind: 'editService', service: udpService, settings: once })?.code).toBe('EINVAL');
  });
});
