/**
 * Rules that give packets a firewall mark by where they go: a network of destinations, a protocol, a port. They have no order:
 * the most exact one counts, as packages/ipvs/src/service/mark.ts looks them up.
 */
import { type Address, addressBytes, type Family, familyOf, formatAddress, parseAddress } from './address.ts';
import type { Protocol } from './model.ts';

/** What a rule is found by. */
export interface MarkDestination {
  readonly family: Family;
  /** The network's first address. */
  readonly address: Address;
  readonly prefix: number;
  /** null: any. */
  readonly protocol: Protocol | null;
  /** 0: any; always 0 without a protocol. */
  readonly port: number;
}

export interface MarkRule extends MarkDestination {
  /** 0: packets stay unmarked, an exception from a wider rule. */
  readonly mark: number;
}

const BITS = { ipv4: 32, ipv6: 128 } as const satisfies Record<Family, number>;

/** One string per destination, equal exactly when the destinations are. */
export const markRuleKey = ({ protocol, address, prefix, port }: MarkDestination): string =>
  `${protocol ?? 'any'} ${address}/${prefix} ${port}`;

/** A network's first address and prefix length; undefined for what is no network. Bits beyond the prefix are cleared. */
export function parseNetwork(text: string): Pick<MarkDestination, 'family' | 'address' | 'prefix'> | undefined {
  const [host = '', length, ...rest] = text.split('/');
  const address = parseAddress(host);
  if (address === undefined || rest.length > 0) return undefined;
  const family = familyOf(address);
  const prefix = length === undefined ? BITS[family] : prefixOf(length, family);
  return prefix === undefined ? undefined : { family, prefix, address: firstOf(address, prefix) };
}

/** 24, or 255.255.255.0. */
function prefixOf(text: string, family: Family): number | undefined {
  if (/^\d{1,3}$/.test(text)) return Number(text) <= BITS[family] ? Number(text) : undefined;
  const mask = family === 'ipv4' ? parseAddress(text) : undefined;
  if (mask === undefined || familyOf(mask) !== 'ipv4') return undefined;
  const bits = [...addressBytes(mask)].map((byte) => byte.toString(2).padStart(8, '0')).join('');
  return /^1*0*$/.test(bits) ? bits.replace(/0/g, '').length : undefined;
}

function firstOf(address: Address, prefix: number): Address {
  const bytes = addressBytes(address);
  return formatAddress(bytes.map((byte, i) => byte & (0xff00 >> Math.min(8, Math.max(0, prefix - 8 * i)))));
}

/** `192.0.2.10:80`, `192.0.2.0/24`, `[2001:db8::/64]:80`, `2001:db8::1`; undefined for anything else. */
export function parseMarkDestination(text: string, protocol: Protocol | null): MarkDestination | undefined {
  const parts =
    /^\[([^\]]+)\](\/\d+)?(?::(\d{1,5}))?$/.exec(text) ??
    (/:.*:/.test(text) ? /^([^[\]]+)()$/.exec(text) : /^([^:/]+)(\/[^:]+)?(?::(\d{1,5}))?$/.exec(text));
  if (parts === null) return undefined;
  const [, host = '', length = '', port] = parts;
  const network = parseNetwork(host + length);
  const number = Number(port ?? 0);
  if (network === undefined || number > 65_535 || (port !== undefined && (number === 0 || protocol === null))) {
    return undefined;
  }
  return { ...network, protocol, port: number };
}

export function formatMarkDestination({ family, address, prefix, port }: MarkDestination): string {
  const network = prefix === BITS[family] ? address : `${address}/${prefix}`;
  if (port === 0) return network;
  return family === 'ipv6' ? `[${network}]:${port}` : `${network}:${port}`;
}

const rank = ({ protocol, port }: MarkDestination): number => (protocol === null ? 0 : port === 0 ? 1 : 2);

/** Above 0 where `a` counts before `b` for packets that both fit; 0 only where they are the same, given that some do. */
export const compareExactness = (a: MarkDestination, b: MarkDestination): number =>
  rank(a) - rank(b) || a.prefix - b.prefix;

/** Whether a packet may fit both. */
export function overlaps(a: MarkDestination, b: MarkDestination): boolean {
  if (a.family !== b.family) return false;
  if (a.protocol !== null && b.protocol !== null && a.protocol !== b.protocol) return false;
  if (a.port !== 0 && b.port !== 0 && a.port !== b.port) return false;
  const shorter = Math.min(a.prefix, b.prefix);
  return firstOf(a.address, shorter) === firstOf(b.address, shorter);
}
