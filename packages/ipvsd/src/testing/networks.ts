/**
 * The networks that most tests of real programs use: hosts outside, and hosts behind a director that is their only way.
 *
 *     client1 172.16.45.2, client2 172.16.45.3 ── 172.16.45.10 director 192.168.45.1 ── real1 192.168.45.2, real2 192.168.45.3
 *     fd00:45::2, fd00:45::3                      fd00:45::10          fd00:46::1       fd00:46::2, fd00:46::3
 */
import type { Cluster, Host } from '../demo/cluster.ts';
import { ours, until } from './ours.ts';

export interface Networks {
  readonly clients: readonly [Host, Host];
  readonly director: Host;
  readonly reals: readonly [Host, Host];
}

export const VIP = { ipv4: '172.16.45.10', ipv6: 'fd00:45::10' } as const;
export const LOCAL = { ipv4: '192.168.45.1', ipv6: 'fd00:46::1' } as const;

/** `gateway`: whether hosts inside send to the outside through the director, as FULLNAT does not need. */
export function buildNetworks(cluster: Cluster, gateway: boolean): Networks {
  const clients = [cluster.host('client1'), cluster.host('client2')] as const;
  const director = cluster.host('director');
  const reals = [cluster.host('real1'), cluster.host('real2')] as const;
  cluster.switch('outside', [
    [director, { name: 'eth0', addresses: [`${VIP.ipv4}/24`, `${VIP.ipv6}/64`] }],
    ...clients.map((host, i) => [host, face('172.16.45', 'fd00:45', i + 2)] as const),
  ]);
  cluster.switch('inside', [
    [director, { name: 'eth1', addresses: [`${LOCAL.ipv4}/24`, `${LOCAL.ipv6}/64`] }],
    ...reals.map((host, i) => [host, face('192.168.45', 'fd00:46', i + 2)] as const),
  ]);
  director.sysctl('net.ipv4.ip_forward', 1);
  director.sysctl('net.ipv6.conf.all.forwarding', 1);
  if (gateway) for (const host of reals) throughDirector(host);
  return { clients, director, reals };
}

const face = (four: string, six: string, n: number) => ({
  name: 'eth0',
  addresses: [`${four}.${n}/24`, `${six}::${n}/64`],
});

function throughDirector(host: Host): void {
  host.route('0.0.0.0/0', LOCAL.ipv4);
  host.route('::/0', LOCAL.ipv6);
}

/** A service of the VIP with both real servers. */
export function addService(director: Host, option: '-t' | '-u', port: number, method: 'NAT' | 'FULLNAT', six = false) {
  const [vip, local, real] = six
    ? [`[${VIP.ipv6}]`, LOCAL.ipv6, (n: number) => `[fd00:46::${n}]`]
    : [VIP.ipv4, LOCAL.ipv4, (n: number) => `192.168.45.${n}`];
  const service = [option, `${vip}:${port}`];
  ours(director, 'ipvsadm', '-A', ...service, '-s', 'rr');
  if (method === 'FULLNAT') ours(director, 'ipvsadm', '-P', ...service, '-z', local, '-F', 'eth1');
  const how = method === 'NAT' ? '-m' : '--fullnat';
  for (const n of [2, 3]) ours(director, 'ipvsadm', '-a', ...service, '-r', `${real(n)}:${port}`, how);
}

/** Until somebody listens on that TCP port. */
export async function waitForPort(host: Host, port: number): Promise<void> {
  const listening = new RegExp(`:${port.toString(16).toUpperCase().padStart(4, '0')} 0{8}(0{24})?:0000 0A`);
  const files = ['/proc/net/tcp', '/proc/net/tcp6'];
  await until(`a listener on port ${port} of ${host.name}`, () => listening.test(host.run('cat', files).stdout));
}
