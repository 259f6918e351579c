import { internetChecksum } from '@ipvsd/ipvs';
import { expect, test } from 'vitest';
import { fragment, unreachable } from './frames.ts';

const v4 = { source: '10.64.0.1', destination: '10.9.0.1', sourcePort: 1024, destinationPort: 80 };
const v6 = { source: 'fd64::1', destination: 'fd09::1', sourcePort: 1024, destinationPort: 80 };

test('a fragment of IPv4 has an offset and a right header checksum', () => {
  const frame = fragment(v4);
  expect(new DataView(frame.buffer).getUint16(20) & 0x3fff).toBe(0x2001);
  expect(internetChecksum(frame.subarray(14, 34))).toBe(0);
});

test('a fragment of IPv6 has a fragment header before the transport', () => {
  const frame = fragment(v6);
  expect([frame[20], frame[54], frame.length]).toEqual([44, 6, 14 + 40 + 8 + 20]);
});

test('an ICMP error goes to the source of what it quotes, with right checksums', () => {
  const frame = unreachable('10.3.0.10', v4);
  expect([...frame.subarray(30, 34)]).toEqual([10, 64, 0, 1]);
  expect(internetChecksum(frame.subarray(14, 34))).toBe(0);
  expect(internetChecksum(frame.subarray(34))).toBe(0);
  expect([...frame.subarray(42 + 16, 42 + 20)]).toEqual([10, 9, 0, 1]);
});

test('an ICMPv6 error has a checksum over its pseudo header', () => {
  const frame = unreachable('fd03::a', v6);
  const tail = Uint8Array.of(0, 58, 0, frame.length - 54);
  expect(internetChecksum(frame.subarray(22, 54), tail, frame.subarray(54))).toBe(0);
});
