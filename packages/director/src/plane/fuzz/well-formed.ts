/** Whether a receiver would take a frame: its headers say what is there, and all checksums are right. */
import { crc32c, ETHERNET, internetChecksum } from '@ipvsd/ipvs';

import { GUE_PORT } from './site.ts';

const [ICMP, TCP, UDP, FRAGMENT, ICMP6, SCTP] = [1, 6, 17, 44, 58, 132];

export function isWellFormed(frame: Uint8Array): boolean {
  const type = (frame[12]! << 8) | frame[13]!;
  const ip = frame.subarray(ETHERNET);
  if (type === 0x0800) return isWellFormed4(ip);
  return type === 0x86dd && isWellFormed6(ip);
}

const word = (bytes: Uint8Array, at: number): number => (bytes[at]! << 8) | bytes[at + 1]!;

function isWellFormed4(ip: Uint8Array): boolean {
  const header = (ip[0]! & 15) * 4;
  const length = word(ip, 2);
  if (ip[0]! >> 4 !== 4 || header < 20 || length < header || length > ip.length) return false;
  if (internetChecksum(ip.subarray(0, header)) !== 0) return false;
  if ((word(ip, 6) & 0x3fff) !== 0) return true;
  const body = ip.subarray(header, length);
  const protocol = ip[9]!;
  if (protocol === ICMP) return internetChecksum(body) === 0;
  return isRight(body, protocol, ip.subarray(12, 20)) || (protocol === UDP && body.length >= 8 && word(body, 6) === 0);
}

function isWellFormed6(ip: Uint8Array): boolean {
  const length = word(ip, 4);
  if (ip.length < 40 || ip[0]! >> 4 !== 6 || length + 40 > ip.length) return false;
  const protocol = ip[6]!;
  if (protocol === FRAGMENT) return length >= 8;
  return isRight(ip.subarray(40, 40 + length), protocol, ip.subarray(8, 40));
}

/** What has no checksum that we know is right. */
function isRight(body: Uint8Array, protocol: number, addresses: Uint8Array): boolean {
  const tail = Uint8Array.of(0, protocol, body.length >> 8, body.length & 255);
  const least = protocol === TCP ? 20 : 8;
  if (protocol === SCTP) return body.length >= 12 && isRightSctp(body);
  if (protocol !== TCP && protocol !== UDP && protocol !== ICMP6) return true;
  if (body.length < least) return false;
  // IPv6 has none without a checksum but for tunnels (RFC 6935).
  if (protocol === UDP && word(body, 6) === 0) return word(body, 2) === GUE_PORT;
  return internetChecksum(addresses, tail, body) === 0;
}

function isRightSctp(body: Uint8Array): boolean {
  const blank = body.slice();
  blank.fill(0, 8, 12);
  return crc32c(blank) === new DataView(body.buffer, body.byteOffset).getUint32(8, true);
}
