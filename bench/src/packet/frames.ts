/** Packets of each kind that a director meets, as bytes. */
import { internetChecksum, tcpFrame } from '@ipvsd/ipvs';
import { parseIp } from '@ipvsd/linux';

export interface Ends {
  readonly source: string;
  readonly destination: string;
  readonly sourcePort: number;
  readonly destinationPort: number;
}

export const segment = (ends: Ends, flags: string): Uint8Array => tcpFrame({ ...ends, flags });

/** The second half of a datagram that was cut: no ports in it. IPv6 has a header of its own for that. */
export function fragment(ends: Ends): Uint8Array {
  const whole = segment(ends, 'A');
  if (whole[12] === 8) {
    const frame = whole.slice();
    const view = new DataView(frame.buffer);
    view.setUint16(14 + 6, 0x2001);
    view.setUint16(14 + 10, 0);
    view.setUint16(14 + 10, internetChecksum(frame.subarray(14, 34)));
    return frame;
  }
  const extension = Uint8Array.of(whole[14 + 6]!, 0, 0, 9, 0, 0, 0, 1);
  const frame = Uint8Array.from([...whole.subarray(0, 54), ...extension, ...whole.subarray(54)]);
  frame[14 + 6] = 44;
  new DataView(frame.buffer).setUint16(14 + 4, frame.length - 54);
  return frame;
}

/** A real server's or router's "port unreachable" about a packet with these ends, on its way to the packet's source. */
export function unreachable(from: string, about: Ends): Uint8Array {
  const inner = segment(about, 'A');
  const v4 = inner[12] === 8;
  const quoted = inner.subarray(14, v4 ? 14 + 28 : inner.length);
  const frame = new Uint8Array(14 + (v4 ? 20 : 40) + 8 + quoted.length);
  const view = new DataView(frame.buffer);
  frame.set(inner.subarray(0, v4 ? 34 : 54));
  const at = v4 ? 34 : 54;
  frame.set(parseIp(from), v4 ? 14 + 12 : 14 + 8);
  frame.set(parseIp(about.source), v4 ? 14 + 16 : 14 + 24);
  frame[at] = v4 ? 3 : 1;
  frame[at + 1] = v4 ? 3 : 4;
  frame.set(quoted, at + 8);
  if (v4) {
    view.setUint16(at + 2, internetChecksum(frame.subarray(at)));
    view.setUint16(16, frame.length - 14);
    frame[23] = 1;
    view.setUint16(24, 0);
    view.setUint16(24, internetChecksum(frame.subarray(14, 34)));
    return frame;
  }
  view.setUint16(18, frame.length - 54);
  frame[20] = 58;
  const tail = Uint8Array.of(0, 58, (frame.length - 54) >> 8, (frame.length - 54) & 255);
  view.setUint16(at + 2, internetChecksum(frame.subarray(22, 54), tail, frame.subarray(at)));
  return frame;
}
