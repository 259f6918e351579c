/** The addresses of the fuzzer's world: clients and virtual services on one network, real servers on another. */
import type { Family } from '../../address.ts';

export interface Site {
  readonly virtual: readonly string[];
  readonly client: (n: number) => string;
  readonly real: (n: number) => string;
  /** The director's own addresses: towards clients, towards real servers. */
  readonly own: readonly [string, string];
}

export const SITES: Readonly<Record<Family, Site>> = {
  ipv4: {
    virtual: ['10.1.0.100', '10.1.0.100', '10.1.0.101'],
    client: (n) => `10.1.0.${2 + n}`,
    real: (n) => `10.2.0.${11 + n}`,
    own: ['10.1.0.1', '10.2.0.1'],
  },
  ipv6: {
    virtual: ['2001:db8:1::100', '2001:db8:1::100', '2001:db8:1::101'],
    client: (n) => `2001:db8:1::${(2 + n).toString(16)}`,
    real: (n) => `2001:db8:2::${(11 + n).toString(16)}`,
    own: ['2001:db8:1::1', '2001:db8:2::1'],
  },
};

/** Where real servers are. */
export const MASQUERADED: Readonly<Record<Family, string>> = { ipv4: '10.2.0.0/24', ipv6: '2001:db8:2::/64' };

/** Of FULLNAT. */
export const LOCALS: Readonly<Record<Family, readonly string[]>> = {
  ipv4: ['10.2.0.250', '10.2.0.251'],
  ipv6: ['2001:db8:2::250', '2001:db8:2::251'],
};

export const OWN_ADDRESSES: readonly string[] = [...SITES.ipv4.own, ...SITES.ipv6.own];
export const REAL_SERVERS = 5;
export const MARKS = [7, 8] as const;
/** Services' ports; 500 is for the key exchange of AH and ESP, 21 and beyond 1024 for FTP's. */
export const PORTS = [80, 80, 80, 81, 53, 500, 21] as const;
export const GUE_PORT = 5555;
