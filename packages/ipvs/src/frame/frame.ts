/**
 * Whole Ethernet frames in Node: made for tests, replays and the simulated network, and read back as tcpdump would print
 * them. Not part of the packet path, which never builds a packet.
 */
import { formatIp, parseIp } from '@ipvsd/linux';
import { ETHERNET, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP } from '../packet/headers.ts';

export interface FrameInit {
  readonly source: string;
  readonly destination: string;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly payload?: Uint8Array;
  readonly timeToLive?: number;
  readonly tos?: number;
}

export interface TcpInit extends FrameInit {
  /** Letters as tcpdump has them: S F R P A U. */
  readonly flags: string;
  readonly sequence?: number;
  readonly acknowledgement?: number;
  readonly window?: number;
  /** A multiple of four bytes, 40 at most. */
  readonly options?: Uint8Array;
}

const FLAG_LETTERS = 'FSRPAU';

/** A TCP segment in an Ethernet frame, all checksums right. */
export function tcpFrame(init: TcpInit): Uint8Array {
  const payload = init.payload ?? new Uint8Array(0);
  const options = init.options ?? new Uint8Array(0);
  const header = 20 + options.length;
  const segment = new Uint8Array(header + payload.length);
  const view = new DataView(segment.buffer);
  view.setUint16(0, init.sourcePort);
  view.setUint16(2, init.destinationPort);
  view.setUint32(4, init.sequence ?? 0);
  view.setUint32(8, init.acknowledgement ?? 0);
  view.setUint8(12, (header / 4) << 4);
  view.setUint8(
    13,
    [...init.flags].reduce((bits, letter) => bits | (1 << FLAG_LETTERS.indexOf(letter)), 0),
  );
  view.setUint16(14, init.window ?? 65_535);
  segment.set(options, 20);
  segment.set(payload, header);
  return ipFrame(init, IPPROTO_TCP, segment, 16);
}

/** A UDP datagram in an Ethernet frame. */
export function udpFrame(init: FrameInit): Uint8Array {
  const payload = init.payload ?? new Uint8Array(0);
  const datagram = new Uint8Array(8 + payload.length);
  const view = new DataView(datagram.buffer);
  view.setUint16(0, init.sourcePort);
  view.setUint16(2, init.destinationPort);
  view.setUint16(4, datagram.length);
  datagram.set(payload, 8);
  return ipFrame(init, IPPROTO_UDP, datagram, 6);
}

/** An SCTP packet in an Ethernet frame: `chunks` follow its common header. */
export function sctpFrame(init: Omit<FrameInit, 'payload'>, chunks: Uint8Array): Uint8Array {
  const packet = new Uint8Array(12 + chunks.length);
  const view = new DataView(packet.buffer);
  view.setUint16(0, init.sourcePort);
  view.setUint16(2, init.destinationPort);
  packet.set(chunks, 12);
  view.setUint32(8, crc32c(packet), true);
  return ipFrame(init, IPPROTO_SCTP, packet);
}

/** What follows an IP header, in an Ethernet frame; `checksumAt`: where it has a checksum over a pseudo header. */
export function ipFrame(
  init: Pick<FrameInit, 'source' | 'destination' | 'timeToLive' | 'tos'>,
  protocol: number,
  transport: Uint8Array,
  checksumAt?: number,
): Uint8Array {
  const source = parseIp(init.source);
  const destination = parseIp(init.destination);
  if (checksumAt !== undefined) {
    const sum = transportChecksum(source, destination, protocol, transport) || 0xffff;
    new DataView(transport.buffer).setUint16(checksumAt, sum);
  }
  const header = source.length === 4 ? header4(init, source, destination) : header6(init, source, destination);
  const view = new DataView(header.buffer);
  if (source.length === 4) {
    view.setUint16(2, 20 + transport.length);
    view.setUint8(9, protocol);
    view.setUint16(10, internetChecksum(header));
  } else {
    view.setUint16(4, transport.length);
    view.setUint8(6, protocol);
  }
  const frame = new Uint8Array(ETHERNET + header.length + transport.length);
  frame.set([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, ...(source.length === 4 ? [8, 0] : [0x86, 0xdd])]);
  frame.set(header, ETHERNET);
  frame.set(transport, ETHERNET + header.length);
  return frame;
}

type HeaderInit = Pick<FrameInit, 'timeToLive' | 'tos'>;

function header4({ timeToLive = 64, tos = 0 }: HeaderInit, source: Uint8Array, destination: Uint8Array): Uint8Array {
  const header = new Uint8Array(20);
  header[0] = 0x45;
  header[1] = tos;
  header[6] = 0x40;
  header[8] = timeToLive;
  header.set(source, 12);
  header.set(destination, 16);
  return header;
}

function header6({ timeToLive = 64, tos = 0 }: HeaderInit, source: Uint8Array, destination: Uint8Array): Uint8Array {
  const header = new Uint8Array(40);
  header[0] = 0x60 | (tos >> 4);
  header[1] = (tos & 15) << 4;
  header[7] = timeToLive;
  header.set(source, 8);
  header.set(destination, 24);
  return header;
}

/** RFC 1071 over bytes, in network order. */
export function internetChecksum(...parts: readonly Uint8Array[]): number {
  let sum = 0;
  for (const part of parts) {
    for (let i = 0; i < part.length; i += 2) sum += (part[i]! << 8) | (part[i + 1] ?? 0);
  }
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x1_0000);
  return ~sum & 0xffff;
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  let crc = n;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f6_3b78 : crc >>> 1;
  return crc >>> 0;
});

/** SCTP's checksum (RFC 9260), as the little-endian word that it is on the wire; its field is 0 meanwhile. */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffff_ffff;
  for (const byte of bytes) crc = CRC_TABLE[(crc ^ byte) & 0xff]! ^ (crc >>> 8);
  return ~crc >>> 0;
}

function transportChecksum(source: Uint8Array, destination: Uint8Array, protocol: number, segment: Uint8Array): number {
  const tail = Uint8Array.of(0, protocol, segment.length >> 8, segment.length & 0xff);
  return internetChecksum(source, destination, tail, segment);
}

/** What a frame says, for assertions and for people. */
export interface ParsedFrame {
  readonly family: 4 | 6;
  readonly source: string;
  readonly destination: string;
  readonly protocol: number;
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** TCP flags as letters; empty for others. */
  readonly flags: string;
  readonly sequence: number;
  readonly acknowledgement: number;
  readonly timeToLive: number;
  /** Of TCP; empty for others. */
  readonly options: Uint8Array;
  readonly payload: Uint8Array;
  /** Header (IPv4) and transport checksums are right. */
  readonly valid: boolean;
}

export function parseFrame(frame: Uint8Array): ParsedFrame {
  const v4 = frame[12] === 8;
  const ip = frame.subarray(ETHERNET);
  const headerLength = v4 ? (ip[0]! & 0xf) * 4 : 40;
  const [source, destination] = v4 ? [ip.slice(12, 16), ip.slice(16, 20)] : [ip.slice(8, 24), ip.slice(24, 40)];
  const view = new DataView(ip.buffer, ip.byteOffset);
  const length = v4 ? view.getUint16(2) - headerLength : view.getUint16(4);
  const segment = ip.subarray(headerLength, headerLength + length);
  const protocol = v4 ? ip[9]! : ip[6]!;
  const tcp = protocol === IPPROTO_TCP;
  const t = new DataView(segment.buffer, segment.byteOffset);
  const valid =
    (!v4 || internetChecksum(ip.subarray(0, headerLength)) === 0) &&
    transportChecksum(source, destination, protocol, segment) === 0;
  return {
    family: v4 ? 4 : 6,
    source: formatIp(source),
    destination: formatIp(destination),
    protocol,
    sourcePort: t.getUint16(0),
    destinationPort: t.getUint16(2),
    flags: tcp ? [...FLAG_LETTERS].filter((_, i) => (t.getUint8(13) >> i) & 1).join('') : '',
    sequence: tcp ? t.getUint32(4) : 0,
    acknowledgement: tcp ? t.getUint32(8) : 0,
    timeToLive: v4 ? ip[8]! : ip[7]!,
    options: segment.slice(20, tcp ? (t.getUint8(12) >> 4) * 4 : 20),
    payload: segment.slice(tcp ? (t.getUint8(12) >> 4) * 4 : 8),
    valid,
  };
}

/** One line, as tcpdump would print it. */
export function describeFrame(frame: Uint8Array): string {
  const p = parseFrame(frame);
  const from = `${p.source}.${p.sourcePort}`;
  const to = `${p.destination}.${p.destinationPort}`;
  const what = p.protocol === IPPROTO_TCP ? `Flags [${p.flags}], seq ${p.sequence}, ack ${p.acknowledgement}` : 'UDP';
  const name = p.family === 4 ? 'IP' : 'IP6';
  return `${name} ${from} > ${to}: ${what}, ttl ${p.timeToLive}, length ${p.payload.length}${p.valid ? '' : ' (bad checksum)'}`;
}
