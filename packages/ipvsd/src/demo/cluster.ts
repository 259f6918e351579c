/**
 * Hosts in network namespaces, joined by virtual cables, and gone at the end whatever happens.
 *
 * A cluster's namespaces bear its name, so one that was kept can be found and removed by another process.
 */
import type { ChildProcess, SpawnOptions } from 'node:child_process';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { KernelPlane } from '@ipvsd/director';
import {
  createNamespace,
  deleteNamespace,
  inNamespace,
  listNamespaces,
  namespaceId,
  runInNamespace,
  spawnInNamespace,
  withRoutes,
  writeSysctl,
} from '@ipvsd/linux';
import { isSetUp, takeBack } from '../real-server/real-server.ts';

export interface Interface {
  readonly name: string;
  /** `172.16.45.2/24`; none for the port of a switch. */
  readonly addresses: readonly string[];
}

/** How a command ended; `status` is null when a signal ended it. */
export interface Ended {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export class Host {
  readonly name: string;
  readonly namespace: string;
  readonly #children: ChildProcess[] = [];

  constructor(cluster: string, name: string) {
    this.name = name;
    this.namespace = `${cluster}-${name}`;
    createNamespace(this.namespace);
    withRoutes(this.namespace, (routes) => routes.setUp('lo'));
  }

  route(to: string, via: string): void {
    withRoutes(this.namespace, (routes) => routes.addRoute({ to, via }));
  }

  sysctl(name: string, value: string | number): void {
    writeSysctl(name, value, this.namespace);
  }

  /** Run a command to its end; its output is text. */
  run(command: string, args: readonly string[], options: { readonly timeout?: number } = {}) {
    return runInNamespace(this.namespace, command, args, { maxBuffer: 1 << 28, ...options });
  }

  /** The same without holding up this process, which hears signals meanwhile. */
  async execute(command: string, args: readonly string[]): Promise<Ended> {
    const child = spawnInNamespace(this.namespace, command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    const output = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr'] as const) {
      child[name]!.setEncoding('utf8').on('data', (text: string) => {
        output[name] += text;
      });
    }
    const status = await new Promise<number | null>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', resolve);
    });
    return { status, ...output };
  }

  /** Start a process that runs for as long as the cluster. */
  start(command: string, args: readonly string[], options: SpawnOptions = {}): ChildProcess {
    const child = spawnInNamespace(this.namespace, command, args, options);
    this.#children.push(child);
    return child;
  }

  /** Let its processes live on without this one. */
  release(): void {
    for (const child of this.#children) {
      child.stdout?.destroy();
      child.stderr?.destroy();
      child.unref();
    }
  }

  remove(): void {
    removeNamespace(this.namespace);
  }
}

export class Cluster {
  readonly name: string;
  readonly hosts: Host[] = [];

  constructor(name: string) {
    this.name = name;
  }

  host(name: string): Host {
    const host = new Host(this.name, name);
    this.hosts.push(host);
    return host;
  }

  /** A cable between two hosts. */
  connect(a: Host, aInterface: Interface, b: Host, bInterface: Interface): void {
    withRoutes(a.namespace, (routes) => routes.addVeth(aInterface.name, bInterface.name, b.namespace));
    configure(a, aInterface);
    configure(b, bInterface);
  }

  /** A host that is a switch, with a port for each of these. */
  switch(name: string, ends: readonly (readonly [Host, Interface])[]): Host {
    const host = this.host(name);
    withRoutes(host.namespace, (routes) => {
      routes.addBridge('br0');
      routes.setUp('br0');
    });
    for (const [i, [end, face]] of ends.entries()) {
      this.connect(end, face, host, { name: `port${i}`, addresses: [] });
      withRoutes(host.namespace, (routes) => routes.setMaster(`port${i}`, 'br0'));
    }
    return host;
  }

  remove(): void {
    removeCluster(this.name);
  }
}

function configure(host: Host, { name, addresses }: Interface): void {
  withRoutes(host.namespace, (routes) => {
    for (const address of addresses) routes.addAddress(name, address, { nodad: true });
    routes.setUp(name);
  });
}

/** End a cluster by its name: its processes, what its director pinned, its namespaces. */
export function removeCluster(name: string): number {
  const namespaces = listNamespaces().filter((namespace) => namespace.name.startsWith(`${name}-`));
  for (const namespace of namespaces) removeNamespace(namespace.name);
  return namespaces.length;
}

function removeNamespace(name: string): void {
  inNamespace(name, () => {
    KernelPlane.open()?.detach();
    if (isSetUp()) takeBack([]);
  });
  for (const pid of processesIn(namespaceId(name))) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It ended by itself meanwhile.
    }
  }
  deleteNamespace(name);
}

function processesIn(namespace: number): number[] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry) && Number(entry) !== process.pid)
    .filter((pid) => {
      try {
        return (
          readlinkSync(`/proc/${pid}/ns/net`) === `net:[${namespace}]` && readFileSync(`/proc/${pid}/stat`).length > 0
        );
      } catch {
        return false;
      }
    })
    .map(Number);
}
