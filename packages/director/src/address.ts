/**
 * Addresses. Everywhere in ipvsd an address is a string in its one canonical spelling: dotted IPv4, or IPv6 as RFC 5952
 * and inet_ntop write it (lower case, the first longest run of zero groups cut, mapped IPv4 in its dotted form). One
 * spelling makes an address a map key, a JSON value and an `===` away from another; bytes appear only at the maps.
 */
export type Address = string;
export type Family = 'ipv4' | 'ipv6';

/** What an address may be used for, judged from its bits alone: real servers must be unicast. */
export type AddressKind = 'unicast' | 'unspecified' | 'broadcast' | 'multicast' | 'link-local' | 'mapped';

/** Strict reading, as inet_pton does: four decimal parts, or IPv6 without zone. Canonical spelling or undefined. */
export function parseAddress(text: string): Address | undefined {
  const bytes = text.includes(':') ? parseIPv6(text) : parseIPv4(text);
  return bytes && formatAddress(bytes);
}

export function familyOf(address: Address): Family {
  return address.includes(':') ? 'ipv6' : 'ipv4';
}

/** 4 or 16 bytes in network order. */
export function addressBytes(address: Address): Uint8Array {
  const bytes = address.includes(':') ? parseIPv6(address) : parseIPv4(address);
  if (!bytes) throw new TypeError(`Cannot read address "${address}"`);
  return bytes;
}

export function formatAddress(bytes: Uint8Array): Address {
  return bytes.length === 4 ? bytes.join('.') : formatIPv6(bytes);
}

/** The IPv4 address as an unsigned number in host order. */
export function ipv4Number(address: Address): number {
  const [a = 0, b = 0, c = 0, d = 0] = addressBytes(address);
  return ((a << 24) | (b << 16) | (c << 8) | d) >>> 0;
}

export function ipv4FromNumber(value: number): Address {
  return `${value >>> 24}.${(value >>> 16) & 255}.${(value >>> 8) & 255}.${value & 255}`;
}

/** Eight groups of four digits, the spelling of /proc/net/ip_vs. */
export function expandIPv6(address: Address): string {
  const hex = Buffer.from(addressBytes(address)).toString('hex');
  return hex.match(/.{4}/g)!.join(':');
}

export function addressKind(address: Address): AddressKind {
  const bytes = addressBytes(address);
  return bytes.length === 4 ? ipv4Kind(bytes) : ipv6Kind(bytes);
}

function ipv4Kind(bytes: Uint8Array): AddressKind {
  if (bytes.every((byte) => byte === 0)) return 'unspecified';
  if (bytes.every((byte) => byte === 255)) return 'broadcast';
  return (bytes[0]! & 0xf0) === 0xe0 ? 'multicast' : 'unicast';
}

function ipv6Kind(bytes: Uint8Array): AddressKind {
  if (bytes[0] === 0xff) return 'multicast';
  if (bytes[0] === 0xfe && (bytes[1]! & 0xc0) === 0x80) return 'link-local';
  if (bytes.every((byte) => byte === 0)) return 'unspecified';
  return isMapped(bytes) ? 'mapped' : 'unicast';
}

function isMapped(bytes: Uint8Array): boolean {
  return bytes[10] === 255 && bytes[11] === 255 && bytes.subarray(0, 10).every((byte) => byte === 0);
}

const [DOT, ZERO, NINE] = [46, 48, 57];

/**
 * What four decimal parts spell, each below 256 and without a zero before it, as an unsigned number. Digit by digit: a restore
 * reads hundreds of thousands of addresses.
 */
export function parseDotted(text: string): number | undefined {
  let [value, part, digits, dots] = [0, 0, 0, 0];
  for (let at = 0; at <= text.length; at++) {
    const code = at < text.length ? text.charCodeAt(at) : DOT;
    if (code === DOT) {
      if (digits === 0 || part > 255) return undefined;
      value = value * 256 + part;
      dots++;
      part = 0;
      digits = 0;
    } else {
      if (code < ZERO || code > NINE || digits === 3 || (digits > 0 && part === 0)) return undefined;
      part = part * 10 + code - ZERO;
      digits++;
    }
    if (dots > 4) return undefined;
  }
  return dots === 4 ? value : undefined;
}

function parseIPv4(text: string): Uint8Array | undefined {
  const value = parseDotted(text);
  if (value === undefined) return undefined;
  const bytes = new Uint8Array(4);
  for (let i = 0; i < 4; i++) bytes[i] = value >>> (24 - 8 * i);
  return bytes;
}

/** `::` stands for the groups that are missing; the last two groups may be written as IPv4. */
function parseIPv6(text: string): Uint8Array | undefined {
  const halves = text.split('::');
  if (halves.length > 2) return undefined;
  const head = parseGroups(halves[0]!, halves.length === 1);
  const tail = parseGroups(halves[1] ?? '', true);
  if (!head || !tail) return undefined;
  const missing = 16 - head.length - tail.length;
  if (halves.length === 1 ? missing !== 0 : missing < 2) return undefined;
  return Uint8Array.from([...head, ...new Array<number>(missing).fill(0), ...tail]);
}

function parseGroups(text: string, mayEndInIPv4: boolean): number[] | undefined {
  if (text === '') return [];
  const bytes: number[] = [];
  const groups = text.split(':');
  for (const [index, group] of groups.entries()) {
    if (/^[0-9a-fA-F]{1,4}$/.test(group)) {
      const value = Number.parseInt(group, 16);
      bytes.push(value >> 8, value & 255);
      continue;
    }
    const dotted = mayEndInIPv4 && index === groups.length - 1 ? parseIPv4(group) : undefined;
    if (!dotted) return undefined;
    bytes.push(...dotted);
  }
  return bytes;
}

function formatIPv6(bytes: Uint8Array): Address {
  const groups: number[] = [];
  for (let i = 0; i < 16; i += 2) groups.push((bytes[i]! << 8) | bytes[i + 1]!);
  const run = longestZeroRun(groups);
  const endsInIPv4 = run.start === 0 && (run.length === 6 || (run.length === 5 && groups[5] === 0xffff));
  const texts = groups.map((group) => group.toString(16));
  if (endsInIPv4) texts.splice(6, 2, bytes.subarray(12).join('.'));
  if (run.length < 2) return texts.join(':');
  return `${texts.slice(0, run.start).join(':')}::${texts.slice(run.start + run.length).join(':')}`;
}

function longestZeroRun(groups: readonly number[]): { start: number; length: number } {
  let best = { start: 0, length: 0 };
  for (let start = 0; start < groups.length; start++) {
    let end = start;
    while (groups[end] === 0) end++;
    if (end - start > best.length) best = { start, length: end - start };
  }
  return best;
}
