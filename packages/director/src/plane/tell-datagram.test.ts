/** How UDP's real servers behind FULLNAT hear who a client is: the PROXY protocol, and UOA. */
import { NodeSkb, TC_ACT_REDIRECT, TC_ACT_SHOT } from '@ipvsd/bpf';
import { internetChecksum, type ParsedFrame, parseFrame, udpFrame } from '@ipvsd/ipvs';
import { beforeEach, describe, expect, test } from 'vitest';
import type { ServiceId, ServiceSettings } from '../model.ts';
import { NodeBench, serverSettings, serviceSettings, udpService, VIP } from '../testing/node-bench.ts';

const VIP6 = '2001:db8::100';
const service6: ServiceId = { kind: 'address', family: 'ipv6', protocol: 'udp', address: VIP6, port: 53 };
const FOUR = { client: '192.0.2.1', vip: VIP, real: '10.2.0.1', local: '10.2.0.250', service: udpService };
const SIX = { client: '2001:db8::1', vip: VIP6, real: 'fd00::1', local: 'fd00::250', service: service6 };
type Ends = typeof FOUR | typeof SIX;
const BOTH = [
  ['IPv4', FOUR],
  ['IPv6', SIX],
] as const;
const PORT = 40_000;
const LOCAL_PORT = 32_768;
const QUERY = new TextEncoder().encode('who?');
const MTU = 1500;

let bench: NodeBench;
beforeEach(() => {
  bench = new NodeBench();
  bench.execute({ kind: 'setSysctl', name: 'local_port_range', value: `${LOCAL_PORT} ${LOCAL_PORT}` });
});

function begin({ service, real, local }: Ends, settings: Partial<ServiceSettings> = {}): void {
  bench.execute({ kind: 'addService', service, settings: serviceSettings('rr', settings) });
  const forwarding = serverSettings(1, { forwarding: 'fullnat' });
  bench.execute({ kind: 'addServer', service, server: { address: real, port: 5353 }, settings: forwarding });
  bench.execute({ kind: 'addLocalAddress', service, address: local });
}

const datagram = ({ client, vip }: Ends, payload: Uint8Array): Uint8Array =>
  udpFrame({ source: client, destination: vip, sourcePort: PORT, destinationPort: 53, payload });

function send(frame: Uint8Array): Uint8Array {
  const skb = new NodeSkb(frame);
  expect(bench.plane.receive(skb)).toBe(TC_ACT_REDIRECT);
  return skb.bytes;
}

function up(ends: Ends, payload = QUERY): ParsedFrame {
  const parsed = parseFrame(send(datagram(ends, payload)));
  expect(parsed).toMatchObject({ source: ends.local, sourcePort: LOCAL_PORT, destination: ends.real, valid: true });
  return parsed;
}

function down({ real, local, vip, client }: Ends, payload = QUERY): void {
  const frame = udpFrame({ source: real, sourcePort: 5353, destination: local, destinationPort: LOCAL_PORT, payload });
  expect(parseFrame(send(frame))).toMatchObject({ source: vip, destination: client, payload, valid: true });
}

const SIGNATURE = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a];
const ports = [PORT >> 8, PORT & 255, 0, 53];
const address6 = (last: number[]): number[] => [0x20, 1, 0xd, 0xb8, ...Array(10).fill(0), ...last];
const HEADERS = new Map<Ends, number[]>([
  [FOUR, [...SIGNATURE, 0x21, 0x12, 0, 12, 192, 0, 2, 1, 10, 0, 0, 100, ...ports]],
  [SIX, [...SIGNATURE, 0x21, 0x22, 0, 36, ...address6([0, 1]), ...address6([1, 0]), ...ports]],
]);

describe('the PROXY protocol before datagrams', () => {
  test.each(BOTH)('is there until the real server answers (%s)', (_, ends) => {
    begin(ends, { proxyProtocol: 'v2' });
    const header = HEADERS.get(ends)!;
    for (const payload of [QUERY, new Uint8Array(0), Uint8Array.of(1), new Uint8Array(1001).fill(7)]) {
      expect([...up(ends, payload).payload]).toEqual([...header, ...payload]);
    }
    down(ends);
    expect([...up(ends).payload]).toEqual([...QUERY]);
    expect(bench.count('untold')).toBe(0);
  });

  test('is there before each where the service says so, and begins anew with a new connection', () => {
    begin(FOUR, { proxyProtocol: 'v2-each' });
    const told = [...HEADERS.get(FOUR)!, ...QUERY];
    for (let i = 0; i < 3; i++) {
      expect([...up(FOUR).payload]).toEqual(told);
      down(FOUR);
    }
    bench.execute({
      kind: 'editService',
      service: udpService,
      settings: serviceSettings('rr', { proxyProtocol: 'v2' }),
    });
    bench.pass(310);
    expect([...up(FOUR).payload]).toEqual(told);
    down(FOUR);
    expect([...up(FOUR).payload]).toEqual([...QUERY]);
    bench.pass(310);
    expect([...up(FOUR).payload]).toEqual(told);
  });

  test('gives a datagram without a checksum a right one', () => {
    begin(FOUR, { proxyProtocol: 'v2' });
    const frame = datagram(FOUR, QUERY);
    frame.set([0, 0], 40);
    const left = parseFrame(send(frame));
    expect(left.valid).toBe(true);
    expect([...left.payload]).toEqual([...HEADERS.get(FOUR)!, ...QUERY]);
  });

  test.each([
    ['IPv4', FOUR, 28, [3, 4]],
    ['IPv6', SIX, 48, [2, 0]],
  ] as const)('counts into what fits, and the client is told of the rest (%s)', (_, ends, headers, kind) => {
    begin(ends, { proxyProtocol: 'v2' });
    const size = HEADERS.get(ends)!.length;
    const most = MTU - headers - size;
    expect(up(ends, new Uint8Array(most)).payload.length).toBe(most + size);
    const frame = datagram(ends, new Uint8Array(most + 1));
    if (ends === FOUR) doNotFragment(frame);
    const answer = send(frame);
    const at = ends === FOUR ? 34 : 54;
    expect([...answer.subarray(at, at + 2)]).toEqual(kind);
    expect((answer[at + 6]! << 8) | answer[at + 7]!).toBe(MTU - size);
    expect(bench.count('tooLong')).toBe(1);
  });

  test('is left out of fragments and of what is cut later, and that is counted', () => {
    begin(FOUR, { proxyProtocol: 'v2' });
    const first = datagram(FOUR, new Uint8Array(32));
    first[20] = 0x20;
    first.set([0, 0], 24);
    const sum = internetChecksum(first.subarray(14, 34));
    first.set([sum >> 8, sum & 255], 24);
    expect(parseFrame(send(first)).payload.length).toBe(32);
    const large = new NodeSkb(datagram(FOUR, new Uint8Array(4000)), { gsoSize: 1000 });
    expect(bench.plane.receive(large)).toBe(TC_ACT_REDIRECT);
    expect(large.bytes.length).toBe(14 + 28 + 4000);
    expect(bench.count('untold')).toBe(2);
  });

  test('has no first version for UDP, and none for a service of firewall marks that says so', () => {
    const service: ServiceId = { kind: 'fwmark', family: 'ipv4', fwmark: 7 };
    begin({ ...FOUR, service } as unknown as Ends, { proxyProtocol: 'v1' });
    const skb = new NodeSkb(datagram(FOUR, QUERY), { mark: 7 });
    expect(bench.plane.receive(skb)).toBe(TC_ACT_REDIRECT);
    expect([...parseFrame(skb.bytes).payload]).toEqual([...QUERY]);
  });
});

describe('UOA', () => {
  const four = [31, 8, PORT >> 8, PORT & 255, 192, 0, 2, 1];
  const six = [31, 20, PORT >> 8, PORT & 255, ...address6([0, 1])];
  const mode = (value: string): void => bench.execute({ kind: 'setSysctl', name: 'uoa_mode', value });

  test('is not sent unless an operator says so', () => {
    begin(FOUR);
    expect([...up(FOUR).payload]).toEqual([...QUERY]);
  });

  test('is an option of IPv4 in the first three datagrams', () => {
    mode('1');
    begin(FOUR);
    for (let i = 0; i < 3; i++) {
      const left = send(datagram(FOUR, QUERY));
      expect([left[14], (left[16]! << 8) | left[17]!]).toEqual([0x47, 20 + 8 + 8 + QUERY.length]);
      expect([...left.subarray(34, 42)]).toEqual(four);
      expect(internetChecksum(left.subarray(14, 42))).toBe(0);
      const without = Uint8Array.from([...left.subarray(0, 34), ...left.subarray(42)]);
      expect(parseFrame(left)).toMatchObject({ destinationPort: 5353, valid: true });
      expect([...without.subarray(42)]).toEqual([...QUERY]);
    }
    expect([...up(FOUR).payload]).toEqual([...QUERY]);
    begin(SIX);
    expect([...up(SIX).payload]).toEqual([...QUERY]);
    expect(bench.count('untold')).toBe(1);
  });

  test.each([
    ['IPv4', FOUR, [0x10, 17, 0, 12, ...four], 34, 23],
    ['IPv6', SIX, [0x20, 17, 0, 24, ...six], 54, 20],
  ] as const)('is a header between IP and UDP (%s)', (_, ends, header, at, protocolAt) => {
    mode('2');
    begin(ends);
    for (let i = 0; i < 3; i++) {
      const left = send(datagram(ends, QUERY));
      expect(left[protocolAt]).toBe(248);
      expect([...left.subarray(at, at + header.length)]).toEqual(header);
      if (ends === FOUR) expect(internetChecksum(left.subarray(14, 34))).toBe(0);
      // What its module makes of it: without the header, and UDP again.
      const opened = Uint8Array.from([...left.subarray(0, at), ...left.subarray(at + header.length)]);
      opened[protocolAt] = 17;
      const length = opened.length - 14 - (ends === FOUR ? 0 : 40);
      opened.set([length >> 8, length & 255], ends === FOUR ? 16 : 18);
      if (ends === FOUR) {
        opened.set([0, 0], 24);
        const sum = internetChecksum(opened.subarray(14, 34));
        opened.set([sum >> 8, sum & 255], 24);
      }
      expect(parseFrame(opened)).toMatchObject({ source: ends.local, destinationPort: 5353, valid: true });
      expect([...parseFrame(opened).payload]).toEqual([...QUERY]);
    }
    expect([...up(ends).payload]).toEqual([...QUERY]);
  });

  test('ends when the real server answers, and an empty answer to it is not for the client', () => {
    mode('2');
    begin(FOUR);
    send(datagram(FOUR, QUERY));
    down(FOUR);
    up(FOUR);
    bench.pass(310);
    send(datagram(FOUR, QUERY));
    const empty = udpFrame({
      source: FOUR.real,
      sourcePort: 5353,
      destination: FOUR.local,
      destinationPort: LOCAL_PORT,
    });
    expect(bench.plane.receive(new NodeSkb(empty.slice()))).toBe(TC_ACT_SHOT);
    expect(bench.count('acknowledged')).toBe(1);
    up(FOUR);
    // Another one is the application's.
    down(FOUR, new Uint8Array(0));
  });

  test('is left out where there is no room, and then counted', () => {
    mode('2');
    begin(FOUR);
    expect(up(FOUR, new Uint8Array(MTU - 28 - 11)).payload.length).toBe(MTU - 28 - 11);
    expect(bench.count('untold')).toBe(1);
    expect(send(datagram(FOUR, new Uint8Array(MTU - 28 - 12)))[23]).toBe(248);
  });

  test('makes room for the PROXY protocol where the service has that', () => {
    mode('1');
    begin(FOUR, { proxyProtocol: 'v2' });
    expect([...up(FOUR).payload]).toEqual([...HEADERS.get(FOUR)!, ...QUERY]);
  });
});

function doNotFragment(frame: Uint8Array): void {
  frame[20] = 0x40;
  frame.set([0, 0], 24);
  const sum = internetChecksum(frame.subarray(14, 34));
  frame.set([sum >> 8, sum & 255], 24);
}
