/** IP and hardware addresses between text and the bytes on the wire. */

import { isIPv4, isIPv6 } from 'node:net';

export const AF_INET = 2;
export const AF_INET6 = 10;

export interface Prefix {
  readonly family: typeof AF_INET | typeof AF_INET6;
  readonly address: Uint8Array;
  readonly length: number;
}

/** 4 bytes for IPv4, 16 for IPv6. */
export function parseIp(text: string): Uint8Array {
  if (isIPv4(text)) return Uint8Array.from(text.split('.'), Number);
  if (isIPv6(text) && !text.includes('%')) return parseIpv6(text);
  throw new TypeError(`Cannot read "${text}" as an IP address`);
}

/** As RFC 5952 writes it: lower case, the longest run of zeros as `::`. */
export function formatIp(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join('.');
  if (bytes.length !== 16)
    throw new RangeError(`Cannot format ${bytes.length} bytes as an IP address: must be 4 or 16`);
  const groups = Array.from({ length: 8 }, (_, i) => ((bytes[i * 2]! << 8) | bytes[i * 2 + 1]!).toString(16));
  const text = groups.join(':');
  const longest = [...text.matchAll(/(?<=^|:)0(?::0)+(?=:|$)/g)].reduce<RegExpMatchArray | undefined>(
    (best, run) => (best === undefined || run[0].length > best[0].length ? run : best),
    undefined,
  );
  if (longest === undefined) return text;
  const at = longest.index!;
  return `${text.slice(0, at).replace(/:$/, '')}::${text.slice(at + longest[0].length).replace(/^:/, '')}`;
}

/** `10.0.0.1/24`; without a length it is the address alone, /32 or /128. */
export function parsePrefix(text: string): Prefix {
  const [ip = '', length, ...rest] = text.split('/');
  const address = parseIp(ip);
  const bits = address.length * 8;
  const value = length === undefined ? bits : Number(length);
  if (rest.length > 0 || length === '' || !Number.isInteger(value) || value < 0 || value > bits) {
    throw new TypeError(`Cannot read "${text}" as an address with prefix length: the length must be 0 to ${bits}`);
  }
  return { family: address.length === 4 ? AF_INET : AF_INET6, address, length: value };
}

export function parseMac(text: string): Uint8Array {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text)) throw new TypeError(`Cannot read "${text}" as a hardware address`);
  return Uint8Array.from(text.split(':'), (part) => Number.parseInt(part, 16));
}

export function formatMac(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(':');
}

function parseIpv6(text: string): Uint8Array {
  const plain = text.replace(/[^:]*\.[^:]*$/, (v4) => {
    const [a = 0, b = 0, c = 0, d = 0] = v4.split('.').map(Number);
    return `${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
  });
  const [head = '', tail] = plain.split('::');
  const before = head === '' ? [] : head.split(':');
  const after = tail === undefined || tail === '' ? [] : tail.split(':');
  const bytes = new Uint8Array(16);
  const put = (group: string, index: number): void => {
    const value = Number.parseInt(group, 16);
    bytes[index * 2] = value >> 8;
    bytes[index * 2 + 1] = value & 0xff;
  };
  for (const [i, group] of before.entries()) put(group, i);
  for (const [i, group] of after.entries()) put(group, 8 - after.length + i);
  return bytes;
}
