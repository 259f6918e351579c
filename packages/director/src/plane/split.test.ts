/** What is too long for its way and may be fragmented: in tunnels of either family, and under FULLNAT both ways. */
import { answerOnLink, NodeSkb, TC_ACT_REDIRECT, TC_ACT_UNSPEC } from '@ipvsd/bpf';
import { internetChecksum, parseFrame, udpFrame } from '@ipvsd/ipvs';
import { expect, test } from 'vitest';
import { plainTunnel, type Tunnel } from '../model.ts';
import { NodeBench, serverSettings, serviceSettings, udpService, VIP } from '../testing/node-bench.ts';

const CLIENT = '192.0.2.1';
const LOCAL = '10.2.0.250';
const ETHERNET = 14;
const MTU = 1500;

/** A director whose ways carry `mtu` bytes. */
const benchOf = (mtu = MTU): NodeBench =>
  new NodeBench(undefined, undefined, (parameters) => {
    parameters.set([0xfd, 9], 16);
    return answerOnLink(parameters, 2, mtu);
  });

function begin(bench: NodeBench, real: string, fullnat: boolean, tunnel: Tunnel = plainTunnel): void {
  bench.execute({ kind: 'addService', service: udpService, settings: serviceSettings('rr') });
  const settings = serverSettings(1, { forwarding: fullnat ? 'fullnat' : 'tunnel', tunnel });
  bench.execute({ kind: 'addServer', service: udpService, server: { address: real, port: 53 }, settings });
  bench.execute({ kind: 'addLocalAddress', service: udpService, address: LOCAL });
  bench.execute({ kind: 'setSysctl', name: 'local_port_range', value: '2000 2000' });
}

const payloadOf = (size: number): Uint8Array => Uint8Array.from({ length: size }, (_, i) => (i * 31 + (i >> 8)) & 255);
const datagram = (size: number): Uint8Array =>
  setHeader(
    udpFrame({ source: CLIENT, destination: VIP, sourcePort: 4000, destinationPort: 53, payload: payloadOf(size) }),
    0,
  );

/** All packets that leave, those that came in once more with them. */
function pieces(bench: NodeBench, frame: Uint8Array): Uint8Array[] {
  const left: Uint8Array[] = [];
  for (const waiting = [frame]; waiting.length > 0; ) {
    const skb = new NodeSkb(waiting.shift()!);
    expect(bench.plane.receive(skb)).toBe(TC_ACT_REDIRECT);
    left.push(skb.bytes);
    waiting.push(...skb.clones.flatMap(({ packet }) => packet ?? []));
    expect(left.length).toBeLessThan(20);
  }
  return left;
}

/** As a receiver puts pieces together (RFC 791, RFC 8200): the packet without any sign of them. */
function together(frames: readonly Uint8Array[], mtu = MTU): Uint8Array {
  const [first] = frames;
  const four = first![12] === 8;
  const header = ETHERNET + (four ? 20 : 48);
  const parts = frames.map((frame) => {
    const view = new DataView(frame.buffer, frame.byteOffset);
    expect(frame.length - ETHERNET).toBeLessThanOrEqual(mtu);
    if (four) {
      expect(internetChecksum(frame.subarray(ETHERNET, ETHERNET + 20))).toBe(0);
      expect(view.getUint16(16)).toBe(frame.length - ETHERNET);
    } else {
      expect(frame[20]).toBe(44);
      expect(view.getUint16(18)).toBe(frame.length - ETHERNET - 40);
    }
    const said = view.getUint16(four ? 20 : 56);
    const id = four ? view.getUint16(18) : view.getUint32(58);
    const offset = four ? (said & 0x1fff) * 8 : said & 0xfff8;
    const isMore = (said & (four ? 0x2000 : 1)) !== 0;
    const same = Buffer.from(frame.subarray(four ? 26 : 22, four ? 34 : 54)).toString('hex');
    return { offset, isMore, same: `${id} ${same}`, bytes: frame.subarray(header) };
  });
  expect(new Set(parts.map(({ same }) => same)).size).toBe(1);
  let length = 0;
  for (const [i, { offset, isMore, bytes }] of parts.entries()) {
    expect(offset).toBe(length);
    expect(isMore).toBe(i < parts.length - 1);
    if (isMore) expect(bytes.length % 8).toBe(0);
    length += bytes.length;
  }
  const whole = new Uint8Array(ETHERNET + (four ? 20 : 40) + length);
  whole.set(first!.subarray(0, ETHERNET + (four ? 20 : 40)));
  let at = ETHERNET + (four ? 20 : 40);
  for (const { bytes } of parts) {
    whole.set(bytes, at);
    at += bytes.length;
  }
  const view = new DataView(whole.buffer);
  if (four) {
    view.setUint16(16, whole.length - ETHERNET);
    view.setUint16(20, 0);
    view.setUint16(24, 0);
    view.setUint16(24, internetChecksum(whole.subarray(ETHERNET, ETHERNET + 20)));
  } else {
    whole[20] = first![54]!;
    view.setUint16(18, whole.length - ETHERNET - 40);
  }
  return whole;
}

const REALS = { four: '10.2.0.1', six: 'fd00::1' } as const;

test.each([
  ['IP in IP', 'four', plainTunnel, 20],
  ['GUE', 'four', { type: 'gue', port: 5555, checksum: 'none' }, 32],
  ['IP in IPv6', 'six', plainTunnel, 40],
  ['GRE over IPv6', 'six', { type: 'gre', port: 0, checksum: 'none' }, 44],
  ['GRE with a checksum over IPv6', 'six', { type: 'gre', port: 0, checksum: 'full' }, 48],
  ['GUE over IPv6', 'six', { type: 'gue', port: 5555, checksum: 'full' }, 52],
] as const)('a packet that is too long in its tunnel leaves in pieces, which make it whole (%s)', (_, family, tunnel, outer) => {
  const bench = benchOf();
  begin(bench, REALS[family], false, tunnel);
  for (const size of [MTU - 28 - outer, MTU - 28 - outer + 1, MTU - 28 - 1, MTU - 28]) {
    const left = pieces(bench, datagram(size));
    expect(left.length).toBe(size === MTU - 28 - outer ? 1 : 2);
    const whole = left.length === 1 ? left[0]! : together(left);
    const inner = Uint8Array.from([...whole.subarray(0, 12), 8, 0, ...whole.subarray(ETHERNET + outer)]);
    expect(parseFrame(inner)).toMatchObject({ source: CLIENT, destination: VIP, timeToLive: 63, valid: true });
    expect(parseFrame(inner).payload).toEqual(payloadOf(size));
    if (family === 'six' && left.length > 1) {
      // The host itself would judge pieces that nobody knows.
      const skb = new NodeSkb(left[1]!);
      skb.bytes[61] = skb.bytes[61]! ^ 1;
      expect(bench.plane.receive(skb)).toBe(TC_ACT_UNSPEC);
    }
  }
  expect(bench.count('tooLong')).toBe(0);
});

test('one that may not be fragmented is answered, also in a tunnel of IPv6', () => {
  const bench = benchOf();
  begin(bench, REALS.six, false);
  const frame = wholeOnly(datagram(MTU - 28));
  const { bytes } = bench.receive(frame);
  expect([...bytes.subarray(34, 36)]).toEqual([3, 4]);
  expect((bytes[40]! << 8) | bytes[41]!).toBe(MTU - 40);
});

test.each([1499, 1000, 576, 100])('under FULLNAT it is split for ways of %i bytes, and so are fragments', (mtu) => {
  const bench = benchOf(mtu);
  begin(bench, REALS.four, true);
  const sent = payloadOf(1472);
  const up = together(pieces(bench, datagram(1472)), mtu);
  expect(parseFrame(up)).toMatchObject({ source: LOCAL, sourcePort: 2000, destination: REALS.four, valid: true });
  expect(parseFrame(up).payload).toEqual(sent);
  const reply = { source: REALS.four, sourcePort: 53, destination: LOCAL, destinationPort: 2000, payload: sent };
  const down = together(pieces(bench, setHeader(udpFrame(reply), 0)), mtu);
  expect(parseFrame(down)).toMatchObject({ source: VIP, destination: CLIENT, destinationPort: 4000, valid: true });
  expect(parseFrame(down).payload).toEqual(sent);
  // One that its sender has split already.
  const [first, second] = halves(datagram(2000), 1480);
  const frames = [...pieces(bench, first), ...pieces(bench, second)];
  const whole = together(frames, mtu);
  expect(parseFrame(whole)).toMatchObject({ destination: REALS.four, valid: true });
  expect(parseFrame(whole).payload).toEqual(payloadOf(2000));
});

test('a checksum that was left to the network card is made before', () => {
  for (const real of [REALS.four, REALS.six]) {
    const bench = benchOf(1400);
    begin(bench, real, false);
    const frame = datagram(1372);
    // The sum of the pseudo header alone.
    const pseudo = Uint8Array.from([...frame.subarray(26, 34), 0, 17, ...frame.subarray(38, 40)]);
    const sum = 0xffff - internetChecksum(pseudo);
    frame.set([sum >> 8, sum & 255], 40);
    const left = together(pieces(bench, frame), 1400);
    const outer = real === REALS.four ? 20 : 40;
    const inner = Uint8Array.from([...left.subarray(0, 12), 8, 0, ...left.subarray(ETHERNET + outer)]);
    expect(parseFrame(inner).valid).toBe(true);
  }
});

test('under FULLNAT one that may not be fragmented, or cannot be, is answered as ever', () => {
  const bench = benchOf(1000);
  begin(bench, REALS.four, true);
  const { bytes } = bench.receive(wholeOnly(datagram(1400)));
  expect([...bytes.subarray(34, 36)]).toEqual([3, 4]);
  const large = new NodeSkb(datagram(4000), { gsoSize: 1400 });
  expect(bench.plane.receive(large)).toBe(TC_ACT_REDIRECT);
  expect([...large.bytes.subarray(34, 36)]).toEqual([3, 4]);
  expect(bench.count('tooLong')).toBe(2);
});

function setHeader(frame: Uint8Array, fragment: number): Uint8Array {
  frame.set([fragment >> 8, fragment & 255], 20);
  frame.set([(frame.length - ETHERNET) >> 8, (frame.length - ETHERNET) & 255], 16);
  frame.set([0, 0], 24);
  const sum = internetChecksum(frame.subarray(ETHERNET, ETHERNET + 20));
  frame.set([sum >> 8, sum & 255], 24);
  return frame;
}

const wholeOnly = (frame: Uint8Array): Uint8Array => setHeader(frame, 0x4000);

function halves(frame: Uint8Array, size: number): [Uint8Array, Uint8Array] {
  const first = frame.slice(0, ETHERNET + 20 + size);
  const second = Uint8Array.from([...frame.subarray(0, ETHERNET + 20), ...frame.subarray(ETHERNET + 20 + size)]);
  return [setHeader(first, 0x2000), setHeader(second, size / 8)];
}
