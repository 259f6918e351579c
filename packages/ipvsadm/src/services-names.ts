/**
 * Names for addresses and ports. /etc/services is read here, once and only when a name is wanted; host names are the
 * system resolver's, so /etc/hosts, DNS and nsswitch.conf mean what they mean to every other program.
 */
import { readFileSync } from 'node:fs';
import { type Address, familyOf, type Protocol, parseAddress } from '@ipvsd/director';

/** `null` is a protocol nobody has named yet (`-r` before `-t`) or none at all (a firewall mark): it has no port names. */
export type NamedProtocol = Protocol | null;

export interface Names {
  /** The first IPv4 address of a host. */
  hostAddress(name: string): Promise<Address | undefined>;
  hostName(address: Address): Promise<string | undefined>;
  servicePort(name: string, protocol: NamedProtocol): number | undefined;
  serviceName(port: number, protocol: NamedProtocol): string | undefined;
}

export function systemNames(): Names {
  return {
    ...portNames(() => readText('/etc/services')),
    hostAddress: async (name) => {
      if (name === '') return undefined;
      const { lookup } = await import('node:dns/promises');
      return lookup(name, { family: 4 }).then(
        ({ address }) => address,
        () => undefined,
      );
    },
    hostName: async (address) => {
      const { lookupService } = await import('node:dns/promises');
      return lookupService(address, 0).then(
        ({ hostname }) => (hostname === address ? undefined : hostname),
        () => undefined,
      );
    },
  };
}

/** Names from the texts of a hosts and a services file and from nowhere else. */
export function fileNames(hosts: string, services: string): Names {
  const lines = tableLines(hosts).map(([address = '', ...names]) => ({ address: parseAddress(address), names }));
  return {
    ...portNames(() => services),
    hostAddress: async (name) =>
      lines.find(({ address, names }) => names.includes(name) && address && familyOf(address) === 'ipv4')?.address,
    hostName: async (wanted) => lines.find(({ address }) => address === wanted)?.names[0],
  };
}

/** Remembers what was asked: a table names the same host over and over. */
export function rememberingNames(names: Names): Names {
  const hosts = new Map<Address, Promise<string | undefined>>();
  return {
    ...names,
    hostName: (address) => {
      const known = hosts.get(address) ?? names.hostName(address);
      hosts.set(address, known);
      return known;
    },
  };
}

function portNames(text: () => string): Pick<Names, 'servicePort' | 'serviceName'> {
  let ports: Map<string, number> | undefined;
  let names: Map<string, string> | undefined;
  const read = () => {
    ports = new Map();
    names = new Map();
    for (const [name = '', portAndProtocol = '', ...aliases] of tableLines(text())) {
      const [port, protocol] = portAndProtocol.split('/');
      if (!names.has(portAndProtocol)) names.set(portAndProtocol, name);
      for (const each of [name, ...aliases]) {
        if (!ports.has(`${each}/${protocol}`)) ports.set(`${each}/${protocol}`, Number(port));
      }
    }
    return { ports, names };
  };
  return {
    servicePort: (name, protocol) => (ports ?? read().ports).get(`${name}/${protocol}`),
    serviceName: (port, protocol) => (protocol ? (names ?? read().names).get(`${port}/${protocol}`) : undefined),
  };
}

/** Words of each line, `#` comments and empty lines left out. */
function tableLines(text: string): string[][] {
  return text
    .split('\n')
    .map((line) => line.replace(/#.*/, '').trim())
    .filter((line) => line !== '')
    .map((line) => line.split(/\s+/));
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
