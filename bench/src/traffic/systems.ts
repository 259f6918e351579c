/**
 * What is measured: every way to get a client's connection to one of two real servers. Ours, what users would pick instead,
 * and the limits that no director passes.
 */
import { existsSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { bytesOf } from '@ipvsd/bpf';
import { attachTc, loadCollection } from '@ipvsd/bpf/kernel';
import { type Command, type ForwardingMethod, KernelDirector, plainTunnel, type ServiceId } from '@ipvsd/director';
import { AF_INET, compiledPrograms, decapsulating, TAKES_IPIP, Vip, VipKey, vips } from '@ipvsd/ipvs';
import { inNamespace, parseIp, withRoutes, writeSysctl } from '@ipvsd/linux';
import { BULK_PORT, REQUEST_PORT } from '../load/protocol.ts';
import { Group, Task } from '../stage/processes.ts';
import { DIRECT, FOLDER, REALS, Site } from '../stage/site.ts';

export interface System {
  /** In tables, results and on the command line. */
  readonly name: string;
  /** In the chart. */
  readonly title: string;
  readonly own: boolean;
  /** Where the client connects to, taken in turn. */
  readonly addresses: readonly string[];
  /** Undefined where no process is part of it. */
  readonly group: Group | undefined;
  /** For those with processes of their own: with how many threads, on which CPUs. */
  start(threads: number, cpus: string): Promise<void>;
  stop(): Promise<void>;
}

/** Makes a system; throws with the reason where this machine does not have it. */
interface Recipe {
  readonly name: string;
  readonly title: string;
  readonly own?: true;
  readonly linkMtu?: number;
  make(site: Site): Pick<System, 'addresses'> & Partial<Pick<System, 'group' | 'start' | 'stop'>>;
}

export interface LeftOut {
  readonly system: string;
  readonly reason: string;
}

const PORTS = [REQUEST_PORT, BULK_PORT];

/** A site's number is its place here plus one, so a system's addresses do not depend on which others are measured. */
const RECIPES: readonly Recipe[] = [
  { name: 'none', title: 'no director', make: () => ({ addresses: DIRECT }) },
  { name: 'routing', title: 'plain routing', make: (site) => route(site) },
  {
    name: 'routing-dr',
    title: 'routing, direct return',
    make: (site) => {
      site.replyDirectly();
      return route(site);
    },
  },
  { name: 'ipvsd-nat', title: 'ipvsd NAT', own: true, make: (site) => ipvsd(site, 'masq') },
  {
    name: 'ipvsd-dr',
    title: 'ipvsd DR',
    own: true,
    make: (site) => {
      site.shareVip();
      site.replyDirectly();
      return ipvsd(site, 'route');
    },
  },
  {
    name: 'ipvsd-tun',
    title: 'ipvsd TUN',
    own: true,
    linkMtu: 1520,
    make: (site) => {
      site.shareVip();
      site.replyDirectly();
      endTunnels(site);
      return ipvsd(site, 'tunnel');
    },
  },
  { name: 'ipvsd-fullnat', title: 'ipvsd FULLNAT', own: true, make: (site) => ipvsd(site, 'fullnat') },
  { name: 'nftables', title: 'nftables DNAT', make: (site) => nftables(site) },
  { name: 'haproxy', title: 'HAProxy, mode tcp', make: (site) => haproxy(site) },
  { name: 'nginx', title: 'nginx stream', make: (site) => nginx(site) },
  { name: 'node', title: 'Node.js proxy', make: (site) => nodeProxy(site) },
];

export const SYSTEM_NAMES: readonly string[] = RECIPES.map(({ name }) => name);
/** As pictures name them, and in their order. */
export const LABELS = RECIPES.map(({ name, title, own = false }) => ({ name, title, own }));

/** Every system that can be set up here, and why the others cannot. */
export function makeSystems(wanted: readonly string[]): { systems: System[]; leftOut: LeftOut[] } {
  const systems: System[] = [];
  const leftOut: LeftOut[] = [];
  for (const [i, recipe] of RECIPES.entries()) {
    const { name, title, own = false } = recipe;
    if (!wanted.includes(name)) continue;
    try {
      const site = new Site(i + 1, name, recipe.linkMtu);
      const made = recipe.make(site);
      systems.push({ name, title, own, group: undefined, start: async () => {}, stop: async () => {}, ...made });
    } catch (error) {
      leftOut.push({ system: name, reason: (error as Error).message });
    }
  }
  return { systems, leftOut };
}

/** The real servers take the outer header off. */
function endTunnels(site: Site): void {
  for (const [i, real] of REALS.entries()) {
    try {
      withRoutes(real, (routes) => {
        routes.addIpip(`t${site.number}`, { local: site.reals[i]!, remote: `10.${site.number}.${i + 1}.1` });
        routes.setUp(`t${site.number}`);
      });
    } catch {
      // This kernel has no such interfaces.
      decapsulateOn(`s${site.number}`, real, site.vip);
    }
  }
}

/** With the program that `ipvsd real-server setup` attaches. */
function decapsulateOn(interfaceName: string, namespace: string, vip: string): void {
  const collection = loadCollection(compiledPrograms('real-server'), { programs: [decapsulating.name] });
  const key = bytesOf(VipKey.create({ family: AF_INET }));
  key.set(parseIp(vip));
  collection.map(vips.name).update(key, bytesOf(Vip.create({ tunnels: TAKES_IPIP })));
  attachTc(collection.program(decapsulating.name), { interface: interfaceName, direction: 'ingress', namespace });
}

/** By the kernel's own routes: half of the connections to each real server, by a hash of addresses and ports. */
function route(site: Site) {
  site.shareVip();
  quicken(site);
  writeSysctl('net.ipv4.fib_multipath_hash_policy', 1, site.director);
  const hops = site.reals.flatMap((real) => ['nexthop', 'via', real]);
  site.run('ip', ['route', 'add', `${site.vip}/32`, ...hops]);
  return { addresses: [site.vip] };
}

/** A director that ends no connection need not look for one among its own sockets. */
function quicken(site: Site): void {
  writeSysctl('net.ipv4.ip_early_demux', 0, site.director);
}

function ipvsd(site: Site, forwarding: ForwardingMethod) {
  quicken(site);
  // An address of the host, as a VIP is; nothing listens there, so what the data plane does not take is refused.
  if (forwarding === 'masq' || forwarding === 'fullnat') site.ownVip();
  const commands = PORTS.flatMap((port) => serviceOf(site, port, forwarding));
  const errors = inNamespace(site.director, () => new KernelDirector().executeAll(commands, { atomic: true }));
  const refused = errors.find((error) => error !== undefined);
  if (refused !== undefined) throw refused;
  return { addresses: [site.vip] };
}

function serviceOf(site: Site, port: number, forwarding: ForwardingMethod): Command[] {
  const service: ServiceId = { kind: 'address', family: 'ipv4', protocol: 'tcp', address: site.vip, port };
  const settings = { scheduler: 'rr', schedulerFlags: 0, persistence: null, persistenceEngine: null, onePacket: false };
  const server = { forwarding, weight: 1, upperThreshold: 0, lowerThreshold: 0, tunnel: plainTunnel };
  return [
    { kind: 'addService', service, settings },
    ...(forwarding === 'fullnat' ? [{ kind: 'addLocalAddress', service, address: site.directorAddress } as const] : []),
    ...site.reals.map(
      (address) => ({ kind: 'addServer', service, server: { address, port }, settings: server }) as const,
    ),
  ];
}

function nftables(site: Site) {
  quicken(site);
  const rules = `
    table ip bench {
      chain prerouting {
        type nat hook prerouting priority dstnat;
        ip daddr ${site.vip} tcp dport { ${PORTS.join(', ')} } dnat to numgen inc mod 2 map { 0 : ${site.reals[0]}, 1 : ${site.reals[1]} }
      }
    }`;
  site.run('nft', ['-f', '-'], rules);
  return { addresses: [site.vip] };
}

// Proxies -----------------------------------------------------------------------------------------------------------

function haproxy(site: Site) {
  return proxy(site, 'haproxy', '/usr/sbin/haproxy', (threads) => {
    const file = `${FOLDER}/haproxy.cfg`;
    const listeners = PORTS.map(
      (port) =>
        `listen p${port}\n  bind ${site.vip}:${port} backlog 16384\n  balance roundrobin\n` +
        site.reals.map((real, i) => `  server r${i} ${real}:${port}\n`).join(''),
    );
    writeFileSync(
      file,
      `global\n  nbthread ${threads}\n  maxconn 6000\n  tune.bufsize 65536\ndefaults\n  mode tcp\n  timeout connect 5s\n` +
        `  timeout client 60s\n  timeout server 60s\n${listeners.join('')}`,
    );
    return ['-f', file, '-db', '-q'];
  });
}

function nginx(site: Site) {
  return proxy(site, 'nginx', '/usr/sbin/nginx', (threads) => {
    const file = `${FOLDER}/nginx.conf`;
    const modules = '/usr/lib/nginx/modules/ngx_stream_module.so';
    if (!existsSync(modules)) throw new Error(`Cannot start nginx: ${modules} is missing, install libnginx-mod-stream`);
    const servers = PORTS.map(
      (port) =>
        `  upstream u${port} { ${site.reals.map((real) => `server ${real}:${port};`).join(' ')} }\n` +
        `  server { listen ${site.vip}:${port} backlog=16384 reuseport; proxy_pass u${port}; proxy_buffer_size 64k; tcp_nodelay on; }\n`,
    );
    writeFileSync(
      file,
      `load_module ${modules};\nuser root;\nworker_processes ${threads};\ndaemon off;\npid ${FOLDER}/nginx.pid;\n` +
        `error_log stderr crit;\nevents { worker_connections 15000; }\nstream {\n${servers.join('')}}\n`,
    );
    return ['-c', file, '-e', 'stderr'];
  });
}

function nodeProxy(site: Site) {
  const script = fileURLToPath(new URL('../load/node-proxy.js', import.meta.url));
  const rules = PORTS.map((port) => `${port}=${site.reals.map((real) => `${real}:${port}`).join(',')}`);
  return proxy(site, 'node', process.execPath, () => [script, ...rules]);
}

/** A process that accepts on the VIP and connects on. */
function proxy(site: Site, name: string, command: string, configure: (threads: number) => readonly string[]) {
  if (!existsSync(command)) throw new Error(`Cannot start ${name}: ${command} is not installed`);
  site.ownVip();
  const group = new Group(name);
  let task: Task | undefined;
  return {
    addresses: [site.vip],
    group,
    start: async (threads: number, cpus: string) => {
      await group.end(task);
      task = new Task(site.director, group, cpus, command, configure(threads));
      await listening(site, task);
    },
    stop: () => group.end(task),
  };
}

const START_MS = 5000;

/** Waits until every port of the VIP is listened on. */
async function listening(site: Site, task: Task): Promise<void> {
  const until = performance.now() + START_MS;
  while (performance.now() < until) {
    if (task.ended !== undefined) throw new Error(`Cannot start a proxy: ${task.ended}`);
    const ports = site.run('ss', ['-Hltn']);
    if (PORTS.every((port) => new RegExp(`:${port}\\s`).test(ports))) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`Cannot start a proxy: it does not listen after ${START_MS} ms`);
}
