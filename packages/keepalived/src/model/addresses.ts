/** Members of a virtual_server_group: an address, a range in one of its three spellings, or a network. */
import { type Address, addressBytes, formatAddress, parseAddress } from '@ipvsd/director';
import type { DiagnosticCode } from '../conf/diagnostics.ts';

/** A /16 of virtual services is the most that anyone has been seen to configure. */
const MOST_ADDRESSES = 65_536;

export type AddressRange = readonly Address[] | { readonly wrong: DiagnosticCode };

export function readAddressRange(text: string): AddressRange | undefined {
  const single = parseAddress(text);
  if (single !== undefined) return [single];
  const [, base = '', mark, end = ''] = /^([0-9a-fA-F.:]+)([-/])([0-9a-fA-F.:]+)$/.exec(text) ?? [];
  const first = parseAddress(base);
  if (first === undefined) return undefined;
  return mark === '/' ? readNetwork(first, end) : readSpan(first, end);
}

function readNetwork(first: Address, length: string): AddressRange | undefined {
  const bytes = addressBytes(first);
  const bits = bytes.length * 8;
  const prefix = /^[0-9]+$/.test(length) ? Number(length) : Number.NaN;
  if (!(prefix >= 0 && prefix <= bits)) return undefined;
  const start = toBigInt(bytes);
  const size = 1n << BigInt(bits - prefix);
  if (start % size !== 0n) return { wrong: 'rangeHostBits' };
  return addresses(start, start + size - 1n, bytes.length);
}

/** `1.2.3.4-9`: the end may be only the last part, decimal for IPv4, hexadecimal for IPv6. */
function readSpan(first: Address, end: string): AddressRange | undefined {
  const bytes = addressBytes(first);
  const whole = parseAddress(end);
  let last: bigint;
  if (whole !== undefined) {
    const lastBytes = addressBytes(whole);
    if (lastBytes.length !== bytes.length) return undefined;
    last = toBigInt(lastBytes);
  } else {
    const valid = bytes.length === 4 ? /^[0-9]{1,3}$/.test(end) : /^[0-9a-fA-F]{1,4}$/.test(end);
    const part = Number.parseInt(end, bytes.length === 4 ? 10 : 16);
    if (!valid || (bytes.length === 4 && part > 255)) return undefined;
    const partBits = bytes.length === 4 ? 8n : 16n;
    last = ((toBigInt(bytes) >> partBits) << partBits) | BigInt(part);
  }
  const start = toBigInt(bytes);
  return last < start ? { wrong: 'rangeReversed' } : addresses(start, last, bytes.length);
}

function addresses(first: bigint, last: bigint, bytes: number): AddressRange {
  if (last - first >= BigInt(MOST_ADDRESSES)) return { wrong: 'rangeTooLarge' };
  const all: Address[] = [];
  for (let value = first; value <= last; value++) all.push(formatAddress(toBytes(value, bytes)));
  return all;
}

function toBigInt(bytes: Uint8Array): bigint {
  return bytes.reduce((value, byte) => (value << 8n) | BigInt(byte), 0n);
}

function toBytes(value: bigint, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let at = length - 1, rest = value; at >= 0; at--, rest >>= 8n) bytes[at] = Number(rest & 255n);
  return bytes;
}
