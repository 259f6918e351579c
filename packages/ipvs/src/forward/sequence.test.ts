import { NodeSkb, type Skb, World } from '@ipvsd/bpf';
import { expect, test } from 'vitest';
import { REPLY, REQUEST } from '../family.ts';
import { parseFrame, tcpFrame } from '../frame/frame.ts';
import {
  Adjustment,
  adjusted,
  adjustmentOf,
  beginAt,
  beginUnchanged,
  mendSequences,
  shift,
  undone,
} from './sequence.ts';

const TRANSPORT = 34;
const CONNECTION = 3;

const world = (): World => new World({ now: () => 0n, random: () => 0 });

function record(from: number, before: number, after: number): Adjustment {
  const a = Adjustment.create();
  a.from = from >>> 0;
  a.before = before >>> 0;
  a.after = after >>> 0;
  return a;
}

test.each([
  ['a line of 47 bytes at 1000 became 48', 1047, 0, 1],
  ['a line of 47 bytes at 1000 became 41', 1047, 0, -6],
  ['the change lies where the numbers come round', 5, -3, 4],
  ['the first byte comes after a header of 28 bytes', 0xffff_fff0, 0, 28],
  ['all numbers are others', 0, 0xdead_beef, 0xdead_beef],
])('what is added to sequence numbers is taken from acknowledgements: %s', (_what, from, before, after) => {
  const a = record(from, before, after);
  for (const distance of [-1_000_000, -48, 0, 1, 2, 1_000_000, 0x3fff_ffff]) {
    const sequence = (from + distance) >>> 0;
    const growth = distance < 0 ? before : after;
    expect(adjusted(a, sequence)).toBe((sequence + growth) >>> 0);
    expect(undone(a, adjusted(a, sequence))).toBe(sequence);
  }
});

test('acknowledging a part of what was put in acknowledges nothing that lies behind it', () => {
  const a = record(1000, 0, 28);
  expect(undone(a, 1000)).toBe(1000);
  expect(undone(a, 1010)).toBe(1000);
  expect(undone(a, 1028)).toBe(1000);
  expect(undone(a, 1029)).toBe(1001);
});

test('a second change adds to the first; the same one again does not, nor one that came before it', () => {
  const a = record(0, 0, 0);
  shift(a, 0xffff_fff0, 2);
  expect([a.from, a.before, a.after]).toEqual([0xffff_fff0, 0, 2]);
  shift(a, 0xffff_fff0, 2);
  shift(a, 0xffff_ff00, 9);
  expect([a.from, a.before, a.after]).toEqual([0xffff_fff0, 0, 2]);
  shift(a, 20, -5 >>> 0);
  expect([a.from, a.before, a.after]).toEqual([20, 2, -3 >>> 0]);
});

/** Bytes of a frame with options between the TCP header and its payload, all checksums right. */
function segment(sequence: number, acknowledgement: number, options: readonly number[], flags = 'A'): Uint8Array {
  // Options are the first bytes of what the frame's maker takes for payload; then the header's length says otherwise.
  const bytes = tcpFrame({
    source: '192.0.2.1',
    destination: '10.2.0.1',
    sourcePort: 40_000,
    destinationPort: 21,
    flags,
    sequence,
    acknowledgement,
    payload: Uint8Array.of(...options, 65, 66, 67),
  });
  const view = new DataView(bytes.buffer);
  const words = 5 + options.length / 4;
  const sum = view.getUint16(TRANSPORT + 16) - ((words - 5) << 12);
  bytes[TRANSPORT + 12] = words << 4;
  view.setUint16(TRANSPORT + 16, sum < 0 ? sum - 1 : sum);
  expect(parseFrame(bytes).valid).toBe(true);
  return bytes;
}

function mended(frame: Uint8Array, direction: number, prepare: () => void): Uint8Array {
  const skb = new NodeSkb(frame);
  const run = (): number => {
    beginUnchanged(CONNECTION);
    prepare();
    mendSequences(skb, TRANSPORT, CONNECTION, direction);
    return 0;
  };
  world().runTc({ run }, skb);
  return skb.bytes;
}

const edges = (blocks: readonly (readonly [number, number])[]): number[] =>
  blocks.flat().flatMap((edge) => [24, 16, 8, 0].map((bits) => (edge >>> bits) & 0xff));
const edgesAt = (frame: Uint8Array, at: number, count: number): number[] =>
  Array.from({ length: count }, (_, i) => new DataView(frame.buffer).getUint32(TRANSPORT + at + 4 * i));

const TIMESTAMP = [1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8];

test("a packet gets its direction's numbers, and acknowledges in those of the other", () => {
  const changed = (): void => {
    shift(adjustmentOf(CONNECTION, REPLY)!, 5000, 7);
    beginAt(CONNECTION, REQUEST, 0xffff_0000);
  };
  const request = parseFrame(mended(segment(0xffff, 5107, []), REQUEST, changed));
  expect(request).toMatchObject({ sequence: 0xffff_ffff, acknowledgement: 5100, valid: true });
  const reply = parseFrame(mended(segment(5100, 0xffff_ffff, TIMESTAMP), REPLY, changed));
  expect(reply).toMatchObject({ sequence: 5107, acknowledgement: 0xffff, valid: true });
});

test('the number in a segment that acknowledges nothing stays', () => {
  const frame = mended(segment(77, 0x1234_5678, [], 'S'), REQUEST, () => beginAt(CONNECTION, REPLY, 1));
  expect(parseFrame(frame)).toMatchObject({ acknowledgement: 0x1234_5678, valid: true });
});

test.each([
  ['behind a timestamp', [...TIMESTAMP, 1, 1], 14],
  ['first', [1, 1], 2],
  ['at an odd place', [1], 1],
])('selective acknowledgements are counted back: %s', (_where, before, at) => {
  const blocks = [
    [5007, 5010],
    [0xffff_fff8, 3],
  ] as const;
  const sack = [...before, 5, 18, ...edges(blocks)];
  while (sack.length % 4 !== 0) sack.push(0);
  const frame = mended(segment(1, 9000, sack), REQUEST, () => {
    beginAt(CONNECTION, REPLY, 7);
  });
  expect(parseFrame(frame).valid).toBe(true);
  expect(edgesAt(frame, 20 + at + 2, 4)).toEqual([5000, 5003, 0xffff_fff1, 0xffff_fffc]);
});

test('options that say nonsense about their length are left alone', () => {
  for (const options of [
    [5, 0, 1, 2],
    [8, 1, 5, 10],
    [5, 255, 9, 9],
    [3, 200, 5, 10],
  ]) {
    const frame = mended(segment(1, 9000, options), REQUEST, () => beginAt(CONNECTION, REPLY, 7));
    expect(parseFrame(frame)).toMatchObject({ acknowledgement: 8993, valid: true });
  }
});

test('gigabytes behind a change the numbers still fit', () => {
  const sent: number[] = [];
  const skb = (sequence: number): NodeSkb => new NodeSkb(segment(sequence, 1, []));
  const one = world();
  const begin = (): number => {
    beginUnchanged(CONNECTION);
    shift(adjustmentOf(CONNECTION, REQUEST)!, 100, 28);
    return 0;
  };
  const mend = (packet: Skb): number => {
    mendSequences(packet, TRANSPORT, CONNECTION, REQUEST);
    return 0;
  };
  one.runTc({ run: begin }, skb(0));
  for (let i = 0; i < 20; i++) {
    const packet = skb((100 + i * 0x2000_0000) >>> 0);
    one.runTc({ run: mend }, packet);
    sent.push(parseFrame(packet.bytes).sequence);
  }
  expect(sent).toEqual(sent.map((_, i) => (128 + i * 0x2000_0000) >>> 0));
});
