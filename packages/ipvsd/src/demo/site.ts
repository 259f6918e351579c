/**
 * The demo's network in the kernel: hosts in network namespaces and the cables between them.
 *
 *     nat, fullnat:  client 172.16.45.2 ── 172.16.45.10 (VIP) director 192.168.45.1 ──┬── real server 1  192.168.45.2
 *                                                                                     └── real server 2  192.168.45.3
 *
 *     dr:            client 172.16.45.2 ── router 192.168.2.1 ──┬── director       192.168.2.10, VIP 192.168.2.254
 *                                                               ├── real server 1  192.168.2.2
 *                                                               └── real server 2  192.168.2.3
 *
 *     tun:           client 172.16.45.2 ── router ──┬── 192.168.2.1 ── director       192.168.2.10, VIP 192.168.2.254
 *                                                   ├── 10.1.0.1    ── real server 1  10.1.0.2
 *                                                   └── 10.2.0.1    ── real server 2  10.2.0.2
 */
import type { Cluster, Host } from './cluster.ts';
import { LOCAL_ADDRESS, type Scene } from './scene.ts';

export interface Site {
  readonly client: Host;
  readonly director: Host;
  /** As the scene lists them. */
  readonly realServers: readonly Host[];
}

export function buildSite(cluster: Cluster, scene: Scene): Site {
  const client = cluster.host('client');
  const director = cluster.host('director');
  const realServers = scene.realServers.map((_, i) => cluster.host(`real${i + 1}`));
  const site = { client, director, realServers };
  director.sysctl('net.ipv4.ip_forward', 1);
  client.sysctl('net.ipv4.ip_local_port_range', '1024 65535');
  if (scene.method === 'dr') joinSegment(cluster, scene, site);
  else if (scene.method === 'tun') joinByRouter(cluster, scene, site);
  else joinBehindDirector(cluster, scene, site);
  return site;
}

function joinBehindDirector(cluster: Cluster, scene: Scene, { client, director, realServers }: Site): void {
  cluster.connect(client, { name: 'eth0', addresses: clientAddresses(scene) }, director, {
    name: 'eth0',
    addresses: [`${scene.vip}/24`],
  });
  cluster.switch('switch', [
    [director, { name: 'eth1', addresses: [`${LOCAL_ADDRESS}/24`] }],
    ...faces(scene, realServers),
  ]);
  if (scene.method === 'nat') for (const host of realServers) host.route('default', LOCAL_ADDRESS);
}

const ROUTER = '192.168.2.1';
const DIRECTOR = '192.168.2.10';

function joinSegment(cluster: Cluster, scene: Scene, { client, director, realServers }: Site): void {
  const router = routerOf(cluster, scene, client);
  cluster.switch('switch', [
    [router, { name: 'eth1', addresses: [`${ROUTER}/24`] }],
    [director, { name: 'eth0', addresses: [`${DIRECTOR}/24`, `${scene.vip}/32`] }],
    ...faces(scene, realServers),
  ]);
  for (const host of [director, ...realServers]) host.route('default', ROUTER);
}

function joinByRouter(cluster: Cluster, scene: Scene, { client, director, realServers }: Site): void {
  const router = routerOf(cluster, scene, client);
  cluster.connect(router, { name: 'eth1', addresses: [`${ROUTER}/24`] }, director, {
    name: 'eth0',
    addresses: [`${DIRECTOR}/24`, `${scene.vip}/32`],
  });
  director.route('default', ROUTER);
  for (const [i, host] of realServers.entries()) {
    const own = scene.realServers[i]!.address;
    const gateway = own.replace(/\d+$/, '1');
    cluster.connect(router, { name: `eth${i + 2}`, addresses: [`${gateway}/24`] }, host, {
      name: 'eth0',
      addresses: [`${own}/24`],
    });
    host.route('default', gateway);
  }
}

/** Towards the client, whose address it has the first of the network for. */
function routerOf(cluster: Cluster, scene: Scene, client: Host): Host {
  const router = cluster.host('router');
  router.sysctl('net.ipv4.ip_forward', 1);
  // Replies come from the virtual address by another cable than the one that leads to it.
  for (const name of ['all', 'default']) router.sysctl(`net.ipv4.conf.${name}.rp_filter`, 0);
  const gateway = scene.clients[0]!.replace(/\d+$/, '1');
  cluster.connect(client, { name: 'eth0', addresses: clientAddresses(scene) }, router, {
    name: 'eth0',
    addresses: [`${gateway}/24`],
  });
  client.route('default', gateway);
  return router;
}

const clientAddresses = (scene: Scene): readonly string[] => scene.clients.map((address) => `${address}/24`);

const faces = (scene: Scene, hosts: readonly Host[]) =>
  hosts.map((host, i) => [host, { name: 'eth0', addresses: [`${scene.realServers[i]!.address}/24`] }] as const);
