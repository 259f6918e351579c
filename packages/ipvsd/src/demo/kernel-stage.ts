/** The demo's stage in the kernel: network namespaces, real sockets, real packets. */
import { spawnSync } from 'node:child_process';
import { createInterface } from 'node:readline';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { KernelDirector } from '@ipvsd/director';
import { inNamespace } from '@ipvsd/linux';
import { Cluster, type Host } from './cluster.ts';
import type { ServedBy, Stage } from './demo.ts';
import type { FtpResult } from './ftp-load.ts';
import { CLIENT, LISTENING } from './http-server.ts';
import type { LoadResult } from './load.ts';
import { type Scene, webService } from './scene.ts';
import { buildSite, type Site } from './site.ts';

/** Our commands, as this process was started: the built tree or an installed package. */
const program = (name: string): string => fileURLToPath(new URL(`./${name}.js`, import.meta.url));

export class KernelStage implements Stage {
  readonly plane = 'kernel';
  readonly #scene: Scene;
  readonly #cluster: Cluster;
  readonly #site: Site;
  readonly #seen = new Set<string>();

  private constructor(scene: Scene, cluster: Cluster, site: Site) {
    this.#scene = scene;
    this.#cluster = cluster;
    this.#site = site;
  }

  static async open(scene: Scene): Promise<KernelStage> {
    const cluster = new Cluster(`ipvsd-demo-${process.pid}`);
    try {
      const stage = new KernelStage(scene, cluster, buildSite(cluster, scene));
      await stage.#startServers();
      return stage;
    } catch (error) {
      cluster.remove();
      throw error;
    }
  }

  async #startServers(): Promise<void> {
    const { realServers } = this.#site;
    await Promise.all(
      realServers.flatMap((host, i) => [
        this.#serve(host, ['--port', `${this.#scene.realServers[i]!.port}`], (client) => this.#seen.add(client)),
        ...(this.#scene.ftp ? [this.#serve(host, ['--ftp'], () => {})] : []),
      ]),
    );
  }

  /** A server on the host, once it listens; `saw` hears of each new client. */
  #serve(host: Host, what: readonly string[], saw: (client: string) => void): Promise<void> {
    const args = [program('ipvsd'), 'demo-server', '--name', host.name, ...what];
    // None of our own outputs: a cluster that is kept would hold them open for whoever reads what we say.
    const child = host.start(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'], detached: true });
    let complaint = '';
    child.stderr!.on('data', (text) => {
      complaint += text;
    });
    return new Promise((resolve, reject) => {
      createInterface({ input: child.stdout! }).on('line', (line) => {
        if (line === LISTENING) resolve();
        else if (line.startsWith(CLIENT)) saw(line.slice(CLIENT.length));
      });
      child.once('exit', (code) =>
        reject(new Error(`Cannot start a real server: it ended with ${code}: ${complaint}`)),
      );
    });
  }

  async setUpRealServers(args: readonly string[]): Promise<string> {
    let text = '';
    for (const host of this.#site.realServers) {
      const said = await run(host, 'ipvsd', ['real-server', 'setup', ...args]);
      text += said.replaceAll(/^(?=.)/gm, host.name);
    }
    return text;
  }

  ipvsadm(args: readonly string[]): Promise<string> {
    return run(this.#site.director, 'ipvsadm', args);
  }

  async load(requests: number, concurrency: number): Promise<LoadResult> {
    const url = `http://${this.#scene.vip}/`;
    if (spawnSync('ab', ['-V']).status === 0) return this.#benchmark(url, requests, concurrency);
    const args = ['demo-load', url, '--requests', `${requests}`, '--concurrency', `${concurrency}`];
    return JSON.parse(await run(this.#site.client, 'ipvsd', args)) as LoadResult;
  }

  async #benchmark(url: string, requests: number, concurrency: number): Promise<LoadResult> {
    const args = ['-q', '-r', '-c', `${concurrency}`, '-n', `${requests}`, url];
    const { status, stdout, stderr } = await this.#site.client.execute('ab', args);
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

  async ftp(sessions: number): Promise<FtpResult> {
    const clients = this.#scene.clients.flatMap((client) => ['--client', client]);
    const args = ['demo-ftp-load', this.#scene.vip, ...clients, '--sessions', `${sessions}`];
    return JSON.parse(await run(this.#site.client, 'ipvsd', args)) as FtpResult;
  }

  sources(): readonly string[] {
    return [...this.#seen].sort();
  }

  async settle(): Promise<void> {
    await setTimeout(2500);
  }

  realServers(): readonly ServedBy[] {
    const service = inNamespace(this.#site.director.namespace, () =>
      new KernelDirector().service(webService(this.#scene)),
    );
    return (service?.realServers ?? [])
      .map(({ address, port, stats }) => ({ address: `${address}:${port}`, connections: Number(stats.connections) }))
      .sort((a, b) => a.address.localeCompare(b.address));
  }

  keep(): string {
    for (const host of this.#cluster.hosts) host.release();
    const enter = (host: Host, command: string): string => `  nsenter --net=/run/netns/${host.namespace} ${command}\n`;
    return (
      `\nThe cluster stays. In it, for example:\n` +
      enter(this.#site.client, `curl http://${this.#scene.vip}/`) +
      enter(this.#site.director, `${process.execPath} ${program('ipvsadm')} -Lnc`) +
      `Remove it: ${process.execPath} ${program('ipvsd')} demo --remove ${this.#cluster.name}\n`
    );
  }

  remove(): void {
    this.#cluster.remove();
  }
}

/** One of our commands on a host: what it printed. */
async function run(host: Host, command: 'ipvsd' | 'ipvsadm', args: readonly string[]): Promise<string> {
  const { status, stdout, stderr } = await host.execute(process.execPath, [program(command), ...args]);
  if (status === 0) return stdout;
  const said = stderr.trim() || stdout.trim();
  throw new Error(`Cannot run ${command} ${args.join(' ')} on ${host.name}: it ended with ${status}: ${said}`);
}
