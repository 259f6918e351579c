/**
 * The recordings' network as the director sees it (golden README, Topology): which addresses are its own, which lie behind
 * which interface, and which are nobody's.
 */
import { formatIp, parseIp, parsePrefix } from '@ipvsd/linux';
import type { Side } from './plane.ts';

export interface Route {
  readonly side: Side;
  readonly hop: string;
  /** The director's own address on that side. */
  readonly source: string;
}

interface Network {
  readonly prefix: string;
  readonly side: Side;
  /** Undefined: on link. */
  readonly hop?: string;
}

export const CLIENT_ADDRESSES = { 4: '10.1.0.2', 6: '2001:db8:1::2' } as const;
export const REAL_SERVERS = ['r1', 'r2', 'r3', 'r4'] as const;
export type RealServerName = (typeof REAL_SERVERS)[number];

const OWN = ['10.1.0.1', '10.2.0.1', '10.1.0.100', '10.3.0.1', '2001:db8:1::1', '2001:db8:2::1', '2001:db8:1::100'];
const SOURCES = {
  client: { 4: '10.1.0.1', 6: '2001:db8:1::1' },
  server: { 4: '10.2.0.1', 6: '2001:db8:2::1' },
} as const;
const NETWORKS: readonly Network[] = [
  { prefix: '10.1.0.0/24', side: 'client' },
  { prefix: '172.16.0.0/12', side: 'client', hop: '10.1.0.2' },
  { prefix: '192.168.77.0/24', side: 'client', hop: '10.1.0.2' },
  { prefix: '2001:db8:1::/64', side: 'client' },
  { prefix: '2001:db8:c::/48', side: 'client', hop: '2001:db8:1::2' },
  { prefix: '2001:db8:77::/48', side: 'client', hop: '2001:db8:1::2' },
  { prefix: '10.2.0.0/24', side: 'server' },
  { prefix: '2001:db8:2::/64', side: 'server' },
];
/** Networks whose addresses all are the client's. */
const CLIENT_NETWORKS = ['172.16.0.0/12', '2001:db8:c::/48', '10.1.0.2/32', '2001:db8:1::2/128'];
const NEIGHBOURS = ['10.1.0.2', '10.1.0.254', '10.2.0.254', '2001:db8:1::2'];

export class Site {
  readonly mtu = 1500;
  /** More prefixes that are local to the director. */
  readonly #local: Matcher;
  readonly #networks: readonly (Network & { readonly matcher: Matcher })[];
  readonly #neighbours: ReadonlySet<string>;
  readonly #routes = new Map<string, Route | undefined>();
  readonly #bytes = new Map<string, Uint8Array>();

  constructor(local: readonly string[] = []) {
    this.#local = matcher([...OWN, ...local]);
    this.#networks = NETWORKS.map((network) => ({ ...network, matcher: matcher([network.prefix]) }));
    this.#neighbours = new Set([...NEIGHBOURS, ...REAL_SERVERS.flatMap((name) => realServerAddresses(name))]);
  }

  bytes(address: string): Uint8Array {
    const known = this.#bytes.get(address) ?? parseIp(address);
    this.#bytes.set(address, known);
    return known;
  }

  isOwn(address: string): boolean {
    return this.#local(this.bytes(address));
  }

  hasNeighbour(address: string): boolean {
    return this.#neighbours.has(address);
  }

  /** Where a packet to `address` goes; undefined where it is the director's own or nobody's. */
  route(address: string): Route | undefined {
    if (!this.#routes.has(address)) this.#routes.set(address, this.#findRoute(address));
    return this.#routes.get(address);
  }

  #findRoute(address: string): Route | undefined {
    if (this.isOwn(address)) return undefined;
    const bytes = this.bytes(address);
    const network = this.#networks.find(({ matcher }) => matcher(bytes));
    if (network === undefined) return undefined;
    const source = SOURCES[network.side][bytes.length === 4 ? 4 : 6];
    return { side: network.side, hop: network.hop ?? address, source };
  }
}

export function realServerAddresses(name: RealServerName): readonly string[] {
  const number = name.slice(1);
  return [`10.2.0.1${number}`, `2001:db8:2::1${number}`];
}

export const VIPS = ['10.1.0.100', '2001:db8:1::100'] as const;

export type Matcher = (address: Uint8Array) => boolean;

/** Whether an address lies in one of the prefixes. */
export function matcher(prefixes: readonly string[]): Matcher {
  const parsed = prefixes.map(parsePrefix);
  return (address) =>
    parsed.some(({ address: network, length }) => {
      if (network.length !== address.length) return false;
      for (let bit = 0; bit < length; bit++) {
        if (((network[bit >> 3]! ^ address[bit >> 3]!) >> (7 - (bit & 7))) & 1) return false;
      }
      return true;
    });
}

const clientMatcher = matcher(CLIENT_NETWORKS);
export const isClientAddress = (address: string): boolean => clientMatcher(parseIp(address));
export const addressText = (bytes: Uint8Array): string => formatIp(bytes);
