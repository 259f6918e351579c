/** The feedback demo in the kernel: network namespaces, real servers with a real `ipvsd agent` each, a real `ipvsd run`. */
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { KernelDirector, type ServiceId } from '@ipvsd/director';
import { inNamespace } from '@ipvsd/linux';
import { Cluster, type Host } from '../cluster.ts';
import type { FeedbackStage } from './feedback.ts';
import { AGENT_PORT, BATCH, CLIENTS, configuration, type DemoServer, PORT, SERVERS, VIP } from './scenario.ts';

const SERVICE: ServiceId = { kind: 'address', family: 'ipv4', protocol: 'tcp', address: VIP, port: PORT };
const INNER = '192.168.45.1';
const BATCH_ADDRESS = '192.168.45.9';
const PATIENCE_MS = 20_000;

/** Our command, as this process was started: the built tree or an installed package. */
const PROGRAM = fileURLToPath(new URL('./ipvsd.js', import.meta.url));

export class KernelFeedbackStage implements FeedbackStage {
  readonly #cluster: Cluster;
  readonly #director: Host;
  readonly #folder: string;
  #daemon: ChildProcess | undefined;
  /** When each answer came, by the host's clock, and how many milliseconds it took. */
  #answers: { readonly at: number; readonly took: number }[] = [];
  #failures = 0;

  private constructor(cluster: Cluster, director: Host, folder: string) {
    this.#cluster = cluster;
    this.#director = director;
    this.#folder = folder;
  }

  static async open(): Promise<KernelFeedbackStage> {
    const folder = mkdtempSync(join(tmpdir(), 'ipvsd-demo-'));
    const cluster = new Cluster(`ipvsd-demo-${process.pid}`);
    try {
      const [client, director, batch] = [cluster.host('client'), cluster.host('director'), cluster.host('batch')];
      const hosts = SERVERS.map((server, i) => ({ server, host: cluster.host(`real${i + 1}`) }));
      cluster.connect(client, { name: 'eth0', addresses: ['172.16.45.2/24'] }, director, {
        name: 'eth0',
        addresses: [`${VIP}/24`],
      });
      cluster.switch('switch', [
        [director, { name: 'eth1', addresses: [`${INNER}/24`] }],
        [batch, { name: 'eth0', addresses: [`${BATCH_ADDRESS}/24`] }],
        ...hosts.map(({ server, host }) => [host, { name: 'eth0', addresses: [`${server.address}/24`] }] as const),
      ]);
      for (const { host } of hosts) host.route('default', INNER);
      director.sysctl('net.ipv4.ip_forward', 1);
      await Promise.all(hosts.map(({ server, host }) => startServer(host, server, folder)));
      const stage = new KernelFeedbackStage(cluster, director, folder);
      await stage.#startDaemon();
      startClients(batch, SERVERS[0]!.address, { ...BATCH, paceMs: 0, requestsPerConnection: 1000 });
      stage.#listen(startClients(client, VIP, CLIENTS));
      return stage;
    } catch (error) {
      cluster.remove();
      rmSync(folder, { recursive: true });
      throw error;
    }
  }

  async configure(feedback: boolean): Promise<void> {
    writeFileSync(join(this.#folder, 'demo.yaml'), configuration(feedback, true));
    const reloaded = said(this.#daemon!, 'Reloaded');
    this.#daemon!.kill('SIGHUP');
    await reloaded;
  }

  async pass(seconds: number): Promise<readonly number[]> {
    const from = Date.now();
    await setTimeout(seconds * 1000);
    const took = this.#answers.filter(({ at }) => at >= from).map((answer) => answer.took);
    this.#answers = [];
    return took;
  }

  weights(): readonly number[] {
    const service = inNamespace(this.#director.namespace, () => new KernelDirector().service(SERVICE));
    return SERVERS.map(({ address }) => service?.realServers.find((server) => server.address === address)?.weight ?? 0);
  }

  failures(): number {
    return this.#failures;
  }

  async remove(): Promise<void> {
    this.#cluster.remove();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async #startDaemon(): Promise<void> {
    const file = join(this.#folder, 'demo.yaml');
    writeFileSync(file, configuration(false, true));
    this.#daemon = start(this.#director, ['run', '--file', file, '--log', 'text']);
    await said(this.#daemon, 'Running with');
  }

  #listen(clients: ChildProcess): void {
    createInterface({ input: clients.stdout! }).on('line', (line) => {
      const [at = '', took = ''] = line.split(' ');
      if (took === 'failed') this.#failures++;
      else this.#answers.push({ at: Number(at), took: Number(took) });
    });
  }
}

async function startServer(host: Host, { address, slots }: DemoServer, folder: string): Promise<void> {
  const loadFile = join(folder, `load-${address}`);
  const server = start(host, [
    'demo-work-server',
    ...['--port', `${PORT}`],
    ...['--slots', `${slots}`],
    ...['--load-file', loadFile],
  ]);
  await said(server, 'listening');
  await said(start(host, ['agent', '--http-port', `${AGENT_PORT}`, '--command', `cat '${loadFile}'`]), 'Answering');
}

function startClients(
  host: Host,
  address: string,
  { count, paceMs, requestsPerConnection, workMs }: typeof CLIENTS,
): ChildProcess {
  return start(host, [
    'demo-clients',
    `http://${address}:${PORT}/?ms=${workMs}`,
    ...['--count', `${count}`],
    ...['--pace', `${paceMs}`],
    ...['--requests-per-connection', `${requestsPerConnection}`],
  ]);
}

function start(host: Host, args: readonly string[]): ChildProcess {
  return host.start(process.execPath, [PROGRAM, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
}

/** Once the process has printed this. */
function said(child: ChildProcess, text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    let output = '';
    const done = (outcome: () => void): void => {
      clearTimeout(timer);
      child.stdout!.off('data', look);
      child.stderr!.off('data', look);
      child.off('exit', ended);
      // What nobody reads any more must not hold the process up.
      child.stdout!.resume();
      child.stderr!.resume();
      outcome();
    };
    const fail = (what: string): void =>
      done(() =>
        reject(new Error(`Cannot play the demo: ${child.spawnargs.slice(2, 4).join(' ')} ${what}: ${output}`)),
      );
    const look = (bytes: Buffer): void => {
      output += bytes.toString();
      if (output.includes(text)) done(resolve);
    };
    const ended = (code: number | null): void => fail(`ended with ${code}`);
    const timer = globalThis.setTimeout(() => fail(`did not say "${text}"`), PATIENCE_MS);
    child.stdout!.on('data', look);
    child.stderr!.on('data', look);
    child.once('exit', ended);
  });
}
