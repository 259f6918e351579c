/**
 * Packets as the simulated hosts make and read them: IP bytes without a link header, all checksums right. Unlike the data
 * plane's frames these carry the options a real Linux stack sends, because the recordings count bytes.
 */
import { crc32c, internetChecksum } from '@ipvsd/ipvs';
import { formatIp, parseIp } from '@ipvsd/linux';

export const ICMP = 1;
export const IPIP = 4;
export const TCP = 6;
export const UDP = 17;
export const IPV6_IN_IP = 41;
export const GRE = 47;
export const ICMPV6 = 58;
export const SCTP = 132;

const addressBytes = new Map<string, Uint8Array>();

function bytesOf(address: string): Uint8Array {
  const known = addressBytes.get(address);
  if (known !== undefined) return known;
  const parsed = parseIp(address);
  addressBytes.set(address, parsed);
  return parsed;
}

/** As `formatIp` writes it, so that addresses are equal when their texts are. */
export const canonical = (address: string): string => formatIp(parseIp(address));

export const isIpv4 = (address: string): boolean => !address.includes(':');

export interface IpInit {
  readonly source: string;
  readonly destination: string;
  readonly protocol: number;
  readonly timeToLive?: number;
  readonly tos?: number;
  readonly id?: number;
  readonly doNotFragment?: boolean;
}

/** An IP packet around a payload whose own checksum is already right. */
export function ipPacket(init: IpInit, payload: Uint8Array): Uint8Array {
  const source = bytesOf(init.source);
  const destination = bytesOf(init.destination);
  const v4 = source.length === 4;
  const headerLength = v4 ? 20 : 40;
  const packet = new Uint8Array(headerLength + payload.length);
  const view = new DataView(packet.buffer);
  if (v4) {
    packet[0] = 0x45;
    packet[1] = init.tos ?? 0;
    view.setUint16(2, packet.length);
    view.setUint16(4, init.id ?? 0);
    view.setUint16(6, (init.doNotFragment ?? true) ? 0x4000 : 0);
    packet[8] = init.timeToLive ?? 64;
    packet[9] = init.protocol;
    packet.set(source, 12);
    packet.set(destination, 16);
    view.setUint16(10, internetChecksum(packet.subarray(0, 20)));
  } else {
    packet[0] = 0x60;
    view.setUint16(4, payload.length);
    packet[6] = init.protocol;
    packet[7] = init.timeToLive ?? 64;
    packet.set(source, 8);
    packet.set(destination, 24);
  }
  packet.set(payload, headerLength);
  return packet;
}

function withPseudoHeader(init: IpInit, payload: Uint8Array): number {
  const tail = Uint8Array.of(0, init.protocol, payload.length >> 8, payload.length & 0xff);
  return internetChecksum(bytesOf(init.source), bytesOf(init.destination), tail, payload);
}

export interface Ends {
  readonly source: string;
  readonly destination: string;
  readonly sourcePort: number;
  readonly destinationPort: number;
}

export interface TcpSegment extends Ends {
  /** Letters: F S R P A U. */
  readonly flags: string;
  readonly sequence: number;
  readonly acknowledgement: number;
  readonly payload?: Uint8Array;
  /** As the stack says them: `syn` 20 bytes, `data` 12 bytes (timestamps), `sack` 12 more, `none`. */
  readonly options?: 'syn' | 'data' | 'sack' | 'none';
}

const FLAGS = 'FSRPAU';
const SYN_OPTIONS = Uint8Array.of(2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7);
const DATA_OPTIONS = Uint8Array.of(1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 1);
const SACK_OPTIONS = Uint8Array.of(...DATA_OPTIONS, 1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2);
const NOTHING = new Uint8Array(0);

export function tcpPacket(segment: TcpSegment): Uint8Array {
  const payload = segment.payload ?? NOTHING;
  const options = { syn: SYN_OPTIONS, data: DATA_OPTIONS, sack: SACK_OPTIONS, none: NOTHING }[
    segment.options ?? 'none'
  ];
  const bytes = new Uint8Array(20 + options.length + payload.length);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, segment.sourcePort);
  view.setUint16(2, segment.destinationPort);
  view.setUint32(4, segment.sequence >>> 0);
  view.setUint32(8, segment.acknowledgement >>> 0);
  bytes[12] = ((20 + options.length) / 4) << 4;
  bytes[13] = [...segment.flags].reduce((bits, letter) => bits | (1 << FLAGS.indexOf(letter)), 0);
  // A reset takes nothing more.
  view.setUint16(14, segment.flags.includes('R') ? 0 : 64_240);
  bytes.set(options, 20);
  bytes.set(payload, 20 + options.length);
  const init = { source: segment.source, destination: segment.destination, protocol: TCP };
  view.setUint16(16, withPseudoHeader(init, bytes));
  return ipPacket(init, bytes);
}

export function udpPacket(ends: Ends, payload: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(8 + payload.length);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, ends.sourcePort);
  view.setUint16(2, ends.destinationPort);
  view.setUint16(4, bytes.length);
  bytes.set(payload, 8);
  const init = { source: ends.source, destination: ends.destination, protocol: UDP };
  view.setUint16(6, withPseudoHeader(init, bytes) || 0xffff);
  return ipPacket(init, bytes);
}

/** An SCTP packet of whole chunks. */
export function sctpPacket(ends: Ends, chunks: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(12 + chunks.reduce((sum, chunk) => sum + chunk.length, 0));
  const view = new DataView(bytes.buffer);
  view.setUint16(0, ends.sourcePort);
  view.setUint16(2, ends.destinationPort);
  view.setUint32(4, 0x1234_5678);
  let at = 12;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  view.setUint32(8, crc32c(bytes), true);
  return ipPacket({ source: ends.source, destination: ends.destination, protocol: SCTP }, bytes);
}

/** An ICMP message of either family; `rest` is the second word of its header. */
export function icmpPacket(
  source: string,
  destination: string,
  type: number,
  code: number,
  rest: number,
  body: Uint8Array,
): Uint8Array {
  const v4 = isIpv4(source);
  const bytes = new Uint8Array(8 + body.length);
  const view = new DataView(bytes.buffer);
  bytes[0] = type;
  bytes[1] = code;
  view.setUint32(4, rest);
  bytes.set(body, 8);
  const init = {
    source,
    destination,
    protocol: v4 ? ICMP : ICMPV6,
    doNotFragment: false,
    tos: v4 && type !== 0 ? 0xc0 : 0,
  };
  view.setUint16(2, v4 ? internetChecksum(bytes) : withPseudoHeader(init, bytes));
  return ipPacket(init, bytes);
}

/** The error a host or router sends about a packet: as much of it as Linux quotes. */
export function icmpError(source: string, about: Uint8Array, kind: 'port' | 'host'): Uint8Array {
  const { source: to } = parsePacket(about);
  if (isIpv4(source)) return icmpPacket(source, to, 3, kind === 'port' ? 3 : 1, 0, about.slice(0, 548));
  return icmpPacket(source, to, 1, kind === 'port' ? 4 : 3, 0, about.slice(0, 1232));
}

/** What an IP packet says. Ports are 0 where it has none. */
export interface Parsed extends Ends {
  readonly family: 4 | 6;
  readonly protocol: number;
  readonly timeToLive: number;
  /** Behind the IP header (and extension headers). */
  readonly transport: Uint8Array;
  readonly fragmentOffset: number;
  readonly moreFragments: boolean;
  readonly flags: string;
  readonly sequence: number;
  readonly acknowledgement: number;
  readonly payload: Uint8Array;
}

export function parsePacket(ip: Uint8Array): Parsed {
  const v4 = ip[0]! >> 4 === 4;
  const view = new DataView(ip.buffer, ip.byteOffset, ip.byteLength);
  let protocol = v4 ? ip[9]! : ip[6]!;
  let at = v4 ? (ip[0]! & 15) * 4 : 40;
  const end = Math.min(ip.length, v4 ? view.getUint16(2) : 40 + view.getUint16(4));
  let fragment = v4 ? view.getUint16(6) & 0x3fff : 0;
  if (!v4 && protocol === 44 && ip.length >= 48) {
    const word = view.getUint16(42);
    fragment = (word >> 3) | (word & 1 ? 0x2000 : 0);
    protocol = ip[40]!;
    at = 48;
  }
  const transport = ip.subarray(at, end);
  const t = new DataView(transport.buffer, transport.byteOffset, transport.byteLength);
  const first = (fragment & 0x1fff) === 0;
  const hasPorts = first && [TCP, UDP, SCTP].includes(protocol) && transport.length >= 8;
  const isTcp = first && protocol === TCP && transport.length >= 20;
  return {
    family: v4 ? 4 : 6,
    source: formatIp(v4 ? ip.subarray(12, 16) : ip.subarray(8, 24)),
    destination: formatIp(v4 ? ip.subarray(16, 20) : ip.subarray(24, 40)),
    protocol,
    timeToLive: v4 ? ip[8]! : ip[7]!,
    transport,
    fragmentOffset: (fragment & 0x1fff) * 8,
    moreFragments: (fragment & 0x2000) !== 0,
    sourcePort: hasPorts ? t.getUint16(0) : 0,
    destinationPort: hasPorts ? t.getUint16(2) : 0,
    flags: isTcp ? [...FLAGS].filter((_, i) => (t.getUint8(13) >> i) & 1).join('') : '',
    sequence: isTcp ? t.getUint32(4) : 0,
    acknowledgement: isTcp ? t.getUint32(8) : 0,
    payload: isTcp ? transport.subarray((transport[12]! >> 4) * 4) : transport.subarray(Math.min(8, transport.length)),
  };
}

/** One line, as tcpdump would print it. */
export function describePacket(ip: Uint8Array): string {
  const p = parsePacket(ip);
  const what =
    p.protocol === TCP
      ? `Flags [${p.flags}], seq ${p.sequence}, ack ${p.acknowledgement}`
      : [ICMP, ICMPV6].includes(p.protocol)
        ? `ICMP type ${p.transport[0]} code ${p.transport[1]}`
        : `protocol ${p.protocol}`;
  return `${p.source}.${p.sourcePort} > ${p.destination}.${p.destinationPort}: ${what}, length ${ip.length}`;
}

/** One hop less; undefined where that was the last. */
export function hopLess(ip: Uint8Array): Uint8Array | undefined {
  const copy = ip.slice();
  const at = copy[0]! >> 4 === 4 ? 8 : 7;
  if (copy[at]! <= 1) return undefined;
  copy[at]! -= 1;
  if (at === 8) {
    copy.set([0, 0], 10);
    new DataView(copy.buffer).setUint16(10, internetChecksum(copy.subarray(0, (copy[0]! & 15) * 4)));
  }
  return copy;
}

/** What lies in a tunnel packet of a kind that real servers open; the packet itself where it is none. */
export function decapsulate(ip: Uint8Array): Uint8Array {
  const { protocol, transport, fragmentOffset } = parsePacket(ip);
  if (fragmentOffset > 0) return ip;
  if (protocol === IPIP || protocol === IPV6_IN_IP) return transport.slice();
  if (protocol === GRE) return transport.slice(transport[0]! & 0x80 ? 8 : 4);
  // GUE: UDP, then a word whose low five bits of the first byte count the option words.
  if (
    protocol === UDP &&
    transport.length > 12 &&
    [IPIP, IPV6_IN_IP].includes(transport[9]!) &&
    transport[8]! >> 6 === 0
  ) {
    const inner = transport.slice(12 + (transport[8]! & 31) * 4);
    if (inner.length >= 20 && [4, 6].includes(inner[0]! >> 4)) return inner;
  }
  return ip;
}
