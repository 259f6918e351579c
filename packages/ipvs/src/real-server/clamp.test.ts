import { bytesOf, NodeSkb, World } from '@ipvsd/bpf';
import { loadCollection } from '@ipvsd/bpf/kernel';
import { describeKernel } from '@ipvsd/bpf/testing';
import { parseIp } from '@ipvsd/linux';
import { describe, expect, test } from 'vitest';
import { compiledPrograms } from '../compiled.ts';
import { parseFrame, tcpFrame } from '../frame/frame.ts';
import { AF_INET, AF_INET6 } from '../packet/address.ts';
import { clamping } from '../programs/real-server.ts';
import { Vip, VipKey, vips } from './vips.ts';

const MOST = 1420;
const VIPS = { 4: '192.0.2.10', 6: '2001:db8::10' } as const;
const CLIENTS = { 4: '198.51.100.7', 6: '2001:db8:1::7' } as const;

const MSS_1460 = [2, 4, 1460 >> 8, 1460 & 255];
const MSS_1420 = [2, 4, 1420 >> 8, 1420 & 255];
const MSS_536 = [2, 4, 536 >> 8, 536 & 255];
const NOP = 1;
const END = 0;
const SACK = [4, 2];
const TIMESTAMPS = [8, 10, 1, 2, 3, 4, 0, 0, 0, 0];

/** What a SYN says, and what it says behind us. */
const CASES: readonly (readonly [what: string, flags: string, options: readonly number[], after: readonly number[]])[] =
  [
    ['first', 'S', [...MSS_1460, NOP, NOP, ...SACK], [...MSS_1420, NOP, NOP, ...SACK]],
    ['in an answer', 'SA', MSS_1460, MSS_1420],
    ['behind an even number of bytes', 'S', [...SACK, NOP, NOP, ...MSS_1460], [...SACK, NOP, NOP, ...MSS_1420]],
    ['behind an odd number of bytes', 'S', [NOP, ...MSS_1460, NOP, NOP, NOP], [NOP, ...MSS_1420, NOP, NOP, NOP]],
    ['last of many', 'S', [...TIMESTAMPS, ...SACK, ...MSS_1460], [...TIMESTAMPS, ...SACK, ...MSS_1420]],
    ['small enough', 'S', MSS_536, MSS_536],
    ['not there', 'S', [...SACK, NOP, NOP], [...SACK, NOP, NOP]],
    ['behind the end', 'S', [END, NOP, NOP, NOP, ...MSS_1460], [END, NOP, NOP, NOP, ...MSS_1460]],
    ['in no SYN', 'A', MSS_1460, MSS_1460],
    ['cut off', 'S', [NOP, NOP, 2, 4], [NOP, NOP, 2, 4]],
    ['of a length that it cannot have', 'S', [2, 0, NOP, NOP, ...MSS_1460], [2, 0, NOP, NOP, ...MSS_1460]],
  ];

const CASES_OF_BOTH = CASES.flatMap(([what, ...rest]) =>
  ([4, 6] as const).map((family) => [what, family, ...rest] as const),
);

const KNOWN = ([4, 6] as const).map((family) => {
  const key = bytesOf(VipKey.create({ family: family === 4 ? AF_INET : AF_INET6 }));
  key.set(parseIp(VIPS[family]));
  return [key, bytesOf(Vip.create({ segmentSize: MOST }))] as const;
});

function judge(
  family: 4 | 6,
  flags: string,
  options: readonly number[],
  after: readonly number[],
  run: (frame: Uint8Array) => Uint8Array,
): void {
  const frame = (said: readonly number[]): Uint8Array =>
    tcpFrame({
      source: VIPS[family],
      destination: CLIENTS[family],
      sourcePort: 80,
      destinationPort: 4000,
      flags,
      options: Uint8Array.from(said),
      payload: new Uint8Array(33),
    });
  const out = run(frame(options));
  expect(out).toEqual(frame(after));
  expect(parseFrame(out).valid).toBe(true);
}

describe('the largest segment that a SYN names is lowered, checksum and all', () => {
  const world = new World({ now: () => 0n, random: () => 0 });
  for (const [key, value] of KNOWN) world.map(vips).update(key, value);

  test.each(CASES_OF_BOTH)('%s (IPv%s)', (_what, family, flags, options, after) => {
    judge(family, flags, options, after, (frame) => {
      const skb = new NodeSkb(frame);
      world.runTc(clamping, skb);
      return skb.bytes;
    });
  });

  test('for virtual addresses only', () => {
    const skb = new NodeSkb(
      tcpFrame({
        source: '192.0.2.11',
        destination: CLIENTS[4],
        sourcePort: 80,
        destinationPort: 4000,
        flags: 'SA',
        options: Uint8Array.from(MSS_1460),
      }),
    );
    const before = skb.bytes.slice();
    world.runTc(clamping, skb);
    expect(skb.bytes).toEqual(before);
  });
});

describeKernel('the kernel does the same', () => {
  test.each(CASES_OF_BOTH)('%s (IPv%s)', (_what, family, flags, options, after) => {
    const collection = loadCollection(compiledPrograms('real-server'), { programs: [clamping.name] });
    try {
      for (const [key, value] of KNOWN) collection.map(vips.name).update(key, value);
      judge(family, flags, options, after, (data) => collection.program(clamping.name).testRun({ data }).data);
    } finally {
      collection.close();
    }
  });
});
