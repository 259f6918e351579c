/** The demo's stage in the kernel: five network namespaces, real sockets, real packets. */
import { spawnSync } from 'node:child_process';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { KernelDirector, type ServiceId } from '@ipvsd/director';
import { inNamespace } from '@ipvsd/linux';
import { Cluster, type Host } from './cluster.ts';
import type { ServedBy, Stage } from './demo.ts';
import type { LoadResult } from './load.ts';

const VIP = '172.16.45.10';
const SERVICE: ServiceId = { kind: 'address', family: 'ipv4', protocol: 'tcp', address: VIP, port: 80 };

/** Our commands, as this process was started: the built tree or an installed package. */
const program = (name: string): string => fileURLToPath(new URL(`./${name}.js`, import.meta.url));

export class KernelStage implements Stage {
  readonly plane = 'kernel';
  readonly #cluster: Cluster;
  readonly #client: Host;
  readonly #director: Host;

  private constructor(cluster: Cluster, client: Host, director: Host) {
    this.#cluster = cluster;
    this.#client = client;
    this.#director = director;
  }

  static async open(): Promise<KernelStage> {
    const cluster = new Cluster(`ipvsd-demo-${process.pid}`);
    try {
      const client = cluster.host('client');
      const director = cluster.host('director');
      const [one, two] = [cluster.host('real1'), cluster.host('real2')];
      cluster.connect(client, { name: 'eth0', addresses: ['172.16.45.2/24'] }, director, {
        name: 'eth0',
        addresses: [`${VIP}/24`],
      });
      cluster.switch('switch', [
        [director, { name: 'eth1', addresses: ['192.168.45.1/24'] }],
        [one, { name: 'eth0', addresses: ['192.168.45.2/24'] }],
        [two, { name: 'eth0', addresses: ['192.168.45.3/24'] }],
      ]);
      for (const real of [one, two]) real.route('default', '192.168.45.1');
      director.sysctl('net.ipv4.ip_forward', 1);
      client.sysctl('net.ipv4.ip_local_port_range', '1024 65535');
      await Promise.all([startServer(one, 8000), startServer(two, 80)]);
      return new KernelStage(cluster, client, director);
    } catch (error) {
      cluster.remove();
      throw error;
    }
  }

  async ipvsadm(args: readonly string[]): Promise<string> {
    const { status, stdout, stderr } = await this.#director.execute(process.execPath, [program('ipvsadm'), ...args]);
    if (status !== 0)
      throw new Error(`Cannot run ipvsadm ${args.join(' ')}: it ended with ${status}: ${stderr.trim()}`);
    return stdout;
  }

  async load(requests: number, concurrency: number): Promise<LoadResult> {
    if (spawnSync('ab', ['-V']).status === 0) return this.#benchmark(requests, concurrency);
    const url = `http://${VIP}/`;
    const args = ['demo-load', url, '--requests', `${requests}`, '--concurrency', `${concurrency}`];
    const { status, stdout, stderr } = await this.#client.execute(process.execPath, [program('ipvsd'), ...args]);
    if (status !== 0) throw new Error(`Cannot make load: the load generator ended with ${status}: ${stderr.trim()}`);
    return JSON.parse(stdout) as LoadResult;
  }

  async #benchmark(requests: number, concurrency: number): Promise<LoadResult> {
    const args = ['-q', '-r', '-c', `${concurrency}`, '-n', `${requests}`, `http://${VIP}/`];
    const { status, stdout, stderr } = await this.#client.execute('ab', args);
    const figure = (label: string): number => Number(new RegExp(`${label}:\\s+([\\d.]+)`).exec(stdout)?.[1] ?? 'NaN');
    const complete = figure('Complete requests');
    if (status !== 0 || Number.isNaN(complete)) {
      throw new Error(`Cannot make load: ab ended with ${status}: ${stderr.trim() || stdout.trim()}`);
    }
    const bad = /Non-2xx responses:\s+(\d+)/.exec(stdout)?.[1];
    return {
      requests: complete,
      failures: figure('Failed requests') + Number(bad ?? 0) + (requests - complete),
      milliseconds: Math.round(figure('Time taken for tests') * 1000),
    };
  }

  async settle(): Promise<void> {
    await setTimeout(2500);
  }

  realServers(): readonly ServedBy[] {
    const service = inNamespace(this.#director.namespace, () => new KernelDirector().service(SERVICE));
    return (service?.realServers ?? [])
      .map(({ address, port, stats }) => ({ address: `${address}:${port}`, connections: Number(stats.connections) }))
      .sort((a, b) => a.address.localeCompare(b.address));
  }

  keep(): string {
    for (const host of this.#cluster.hosts) host.release();
    const enter = (host: Host, command: string): string => `  nsenter --net=/run/netns/${host.namespace} ${command}\n`;
    return (
      `\nThe cluster stays. In it, for example:\n` +
      enter(this.#client, `curl http://${VIP}/`) +
      enter(this.#director, `${process.execPath} ${program('ipvsadm')} -Lnc`) +
      `Remove it: ${process.execPath} ${program('ipvsd')} demo --remove ${this.#cluster.name}\n`
    );
  }

  remove(): void {
    this.#cluster.remove();
  }
}

/** An HTTP server on the host, once it listens. */
function startServer(host: Host, port: number): Promise<void> {
  const args = [program('ipvsd'), 'demo-server', '--port', `${port}`, '--name', host.name];
  const child = host.start(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'], detached: true });
  return new Promise((resolve, reject) => {
    child.stdout!.once('data', () => resolve());
    child.once('exit', (code) => reject(new Error(`Cannot start a real server: it ended with ${code}`)));
  });
}
