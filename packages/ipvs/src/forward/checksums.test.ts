import { htons, NodeSkb, raw, World } from '@ipvsd/bpf';
import { expect, test } from 'vitest';
import { IPV4 } from '../family.ts';
import { parseFrame, udpFrame } from '../frame/frame.ts';
import { mendSctp } from './sctp-checksum.ts';
import { mendUdp } from './udp-checksum.ts';

const world = new World({ now: () => 0n, random: () => 0 });
const TRANSPORT = 34;

/** CRC32c bit by bit (RFC 9260 appendix A). */
function crc32c(bytes: Uint8Array): number {
  let crc = 0xffff_ffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f6_3b78 : crc >>> 1;
  }
  return ~crc >>> 0;
}

function sctpFrame(length: number): Uint8Array {
  const frame = new Uint8Array(TRANSPORT + length);
  frame.set([8, 0, 0x45], 12);
  const view = new DataView(frame.buffer);
  view.setUint16(16, 20 + length);
  for (let i = 0; i < length; i++) frame[TRANSPORT + i] = (i * 37 + length) & 0xff;
  view.setUint32(TRANSPORT + 8, 0);
  view.setUint32(TRANSPORT + 8, crc32c(frame.subarray(TRANSPORT)), true);
  return frame;
}

test.each([16, 17, 40, 1000, 1480])('a changed port keeps the CRC of %i bytes of SCTP right', (length) => {
  for (const [first, at] of [
    [1, 0],
    [0, 2],
  ] as const) {
    const skb = new NodeSkb(sctpFrame(length));
    const view = new DataView(skb.bytes.buffer);
    const old = view.getUint16(TRANSPORT + at);
    view.setUint16(TRANSPORT + at, 8080);
    world.runTc(
      {
        run: (packet) => {
          mendSctp(packet, IPV4, TRANSPORT, first, htons(old), htons(8080));
          return 0;
        },
      },
      skb,
    );
    const crc = view.getUint32(TRANSPORT + 8, true);
    view.setUint32(TRANSPORT + 8, 0);
    expect(crc).toBe(crc32c(skb.bytes.subarray(TRANSPORT)));
  }
});

test.each([0, 1, 7, 31, 32, 100, 1001])('a UDP checksum of 0 becomes a real one (%i bytes of payload)', (length) => {
  const payload = Uint8Array.from({ length }, (_, i) => (i * 91 + 7) & 0xff);
  const frame = udpFrame({ source: '192.0.2.1', destination: '10.2.0.1', sourcePort: 9, destinationPort: 53, payload });
  new DataView(frame.buffer).setUint16(TRANSPORT + 6, 0);
  const skb = new NodeSkb(frame);
  world.runTc(
    {
      run: (packet) => {
        mendUdp(packet, IPV4, TRANSPORT, 0, raw(htons(53)), raw(htons(53)));
        return 0;
      },
    },
    skb,
  );
  expect(new DataView(skb.bytes.buffer).getUint16(TRANSPORT + 6)).not.toBe(0);
  expect(parseFrame(skb.bytes).valid).toBe(true);
});
