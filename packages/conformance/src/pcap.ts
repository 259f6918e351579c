/** Reads a pcap file of Ethernet frames (libpcap's classic format, microseconds or nanoseconds, either byte order). */

export interface CapturedFrame {
  /** Microseconds. */
  readonly time: number;
  readonly bytes: Uint8Array;
}

const MAGIC = 0xa1b2_c3d4;
const MAGIC_NANOSECONDS = 0xa1b2_3c4d;
const ETHERNET = 1;

export function readPcap(file: Uint8Array, name: string): CapturedFrame[] {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  if (file.length < 24)
    throw new Error(`Cannot read "${name}": it has ${file.length} bytes, a pcap file has at least 24`);
  const little = [MAGIC, MAGIC_NANOSECONDS].includes(view.getUint32(0, true));
  const magic = view.getUint32(0, little);
  if (magic !== MAGIC && magic !== MAGIC_NANOSECONDS) throw new Error(`Cannot read "${name}": it is not a pcap file`);
  if (view.getUint32(20, little) !== ETHERNET) throw new Error(`Cannot read "${name}": its frames are not Ethernet`);
  const fraction = magic === MAGIC ? 1 : 1000;
  const frames: CapturedFrame[] = [];
  for (let at = 24; at + 16 <= file.length; ) {
    const length = view.getUint32(at + 8, little);
    const time = view.getUint32(at, little) * 1_000_000 + view.getUint32(at + 4, little) / fraction;
    frames.push({ time, bytes: file.slice(at + 16, at + 16 + length) });
    at += 16 + length;
  }
  return frames;
}
