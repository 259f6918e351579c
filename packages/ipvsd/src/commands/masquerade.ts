/** `ipvsd masquerade`: hosts behind the director reach the outside through it, with its address. */
import {
  addressKind,
  DirectorError,
  familyOf,
  formatNetwork,
  KernelPlane,
  MasqueradeTable,
  type Network,
  parseNetwork,
} from '@ipvsd/director';
import { withRoutes } from '@ipvsd/linux';
import { openDirector } from '../open-director.ts';

export function add(text: string, name: string): void {
  const from = networkOf(text);
  const { ifindex, address } = outside(from, name);
  const director = openDirector();
  const plane = KernelPlane.open() ?? director.make().plane;
  plane.attach();
  new MasqueradeTable(plane).add({ from, ifindex, address });
}

export function remove(text: string): void {
  const from = networkOf(text);
  openDirector();
  const plane = KernelPlane.open();
  if (plane === undefined) throw wrong('remove', text, 'ENOENT', 'there is no director in this network namespace');
  new MasqueradeTable(plane).remove(from);
}

export function list(json: boolean): void {
  openDirector();
  const plane = KernelPlane.open();
  const rules = plane === undefined ? [] : new MasqueradeTable(plane).list();
  const names = withRoutes(undefined, (routes) => new Map(routes.links().map(({ ifindex, name }) => [ifindex, name])));
  const rows = rules.map(({ from, ifindex }) => ({ from: formatNetwork(from), to: names.get(ifindex) ?? null }));
  if (json) {
    process.stdout.write(`${JSON.stringify(rows)}\n`);
    return;
  }
  const width = Math.max(4, ...rows.map(({ from }) => from.length));
  const lines = rows.map(
    ({ from, to }) => `${from.padEnd(width)}  ${to ?? 'an interface that is gone: add it again'}\n`,
  );
  process.stdout.write(
    rows.length === 0 ? 'No network is masqueraded\n' : `${'From'.padEnd(width)}  To\n${lines.join('')}`,
  );
}

function outside({ family, ...from }: Network, name: string): { ifindex: number; address: string } {
  return withRoutes(undefined, (routes) => {
    const link = routes.links().find((each) => each.name === name);
    const text = formatNetwork({ family, ...from });
    if (link === undefined) {
      const names = routes.links().map((each) => each.name);
      throw wrong('masquerade', text, 'ENODEV', `there is no interface ${name}, must be one of ${names.join(', ')}`);
    }
    if (name === 'lo') throw wrong('masquerade', text, 'EINVAL', 'the loopback leads to no outside');
    const own = routes
      .addresses()
      .filter(({ ifindex }) => ifindex === link.ifindex)
      .map(({ address }) => address.replace(/\/\d+$/, ''))
      .find((address) => familyOf(address) === family && addressKind(address) === 'unicast');
    if (own === undefined) {
      const kind = family === 'ipv4' ? 'IPv4' : 'IPv6';
      throw wrong('masquerade', text, 'EINVAL', `${name} has no address of ${kind} that packets could leave with`);
    }
    return { ifindex: link.ifindex, address: own };
  });
}

function networkOf(text: string): Network {
  const network = parseNetwork(text);
  if (network !== undefined) return network;
  throw wrong('masquerade', `"${text}"`, 'EINVAL', 'it must be a network such as 192.168.45.0/24 or fd00:46::/64');
}

const wrong = (action: string, what: string, code: 'EINVAL' | 'ENODEV' | 'ENOENT', reason: string): DirectorError =>
  new DirectorError(code, `Cannot ${action} ${what}: ${reason}`);
