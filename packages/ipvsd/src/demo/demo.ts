/**
 * `ipvsd demo`: a cluster for each forwarding method, set up by ipvsadm and put under load, on the real kernel or in Node. scene.ts
 * says what is shown, site.ts on which network.
 */
import { mayUseBpf } from '@ipvsd/linux';
import type { FtpResult } from './ftp-load.ts';
import type { LoadResult } from './load.ts';
import { METHODS, SCENES, type Scene } from './scene.ts';

export interface DemoOptions {
  readonly method?: string;
  readonly keep?: true;
  readonly remove?: string;
  readonly node?: true;
  readonly json?: true;
}

export interface ServedBy {
  readonly address: string;
  readonly connections: number;
}

/** Where the demo plays. */
export interface Stage {
  readonly plane: 'kernel' | 'node';
  /** Run the project's ipvsadm on the director; what it printed. Throws where it failed. */
  ipvsadm(args: readonly string[]): Promise<string>;
  /** Run `ipvsd real-server setup` on each real server; what they printed. */
  setUpRealServers(args: readonly string[]): Promise<string>;
  load(requests: number, concurrency: number): Promise<LoadResult>;
  /** Files fetched by FTP, from all clients in turn. */
  ftp(sessions: number): Promise<FtpResult>;
  /** Who made the HTTP requests, as the real servers have seen it. */
  sources(): readonly string[];
  /** Waits until the counters that operators see, published every two seconds, tell of all that has happened. */
  settle(): Promise<void>;
  realServers(): readonly ServedBy[];
  /** Leave it as it is, and say how to enter it. */
  keep(): string;
  remove(): void;
}

const REQUESTS = 10_000;
const CONCURRENCY = 1000;
const FTP_SESSIONS = 40;

const say = (text: string): void => {
  process.stdout.write(text);
};

export async function demo(options: DemoOptions): Promise<void> {
  if (options.remove !== undefined) {
    const { removeCluster } = await import('./cluster.ts');
    if (removeCluster(options.remove) === 0) throw new Error(`Cannot remove "${options.remove}": no such cluster`);
    return;
  }
  const scene = sceneOf(options.method);
  const stage = await openStage(scene, options);
  // However this ends: a signal, a reader that has gone (`| head`), an error.
  let stays = false;
  const clean = (): void => {
    if (!stays) stage.remove();
    stays = true;
  };
  process.once('exit', clean);
  const interrupted = (): void => process.exit(130);
  process.once('SIGINT', interrupted);
  process.once('SIGTERM', interrupted);
  try {
    const { sources, ftp, ...result } = await play(scene, stage);
    if (options.keep === true) {
      stays = true;
      say(stage.keep());
    }
    const more = options.method === undefined ? {} : { method: scene.method, sources, ftp };
    if (options.json === true) say(`${JSON.stringify({ ...result, ...more })}\n`);
    if (result.failures > 0 || !isAsExpected(scene, sources, ftp)) process.exitCode = 1;
  } finally {
    process.off('SIGINT', interrupted);
    process.off('SIGTERM', interrupted);
    process.off('exit', clean);
    clean();
  }
}

function sceneOf(method = 'nat'): Scene {
  const known = METHODS.find((one) => one === method);
  if (known === undefined) {
    throw new Error(`Cannot show "${method}": the forwarding methods are ${METHODS.join(', ')}`);
  }
  return SCENES[known];
}

async function openStage(scene: Scene, options: DemoOptions): Promise<Stage> {
  const reason = options.node === true ? 'as asked by --node' : whyNotKernel();
  if (reason === undefined) {
    const { KernelStage } = await import('./kernel-stage.ts');
    return KernelStage.open(scene);
  }
  say(`The data plane runs in Node on a simulated network: ${reason}\n`);
  const { NodeStage } = await import('./node-stage.ts');
  return new NodeStage(scene);
}

/** Why the data plane cannot run in the kernel here; undefined where it can. */
export function whyNotKernel(): string | undefined {
  if (process.platform !== 'linux') return `this is ${process.platform}, and eBPF is in Linux`;
  if (!mayUseBpf()) return 'CAP_NET_ADMIN and CAP_BPF are missing (run as root for the real thing)';
  return undefined;
}

async function play(scene: Scene, stage: Stage) {
  if (scene.method !== 'nat') say(`${scene.title}\n\n`);
  if (scene.setup !== undefined) {
    say(`# ipvsd real-server setup ${scene.setup.join(' ')}   (on each real server)\n`);
    say(`${await stage.setUpRealServers(scene.setup)}\n`);
  }
  for (const args of scene.commands) {
    say(`# ipvsadm ${args.join(' ')}\n`);
    say(await stage.ipvsadm(args));
  }
  say(`\nLoad: ${REQUESTS} requests to http://${scene.vip}/, ${CONCURRENCY} at a time\n`);
  const { requests, failures: failed, milliseconds } = await stage.load(REQUESTS, CONCURRENCY);
  say(`${requests} requests in ${(milliseconds / 1000).toFixed(1)} s, ${failed} failures\n`);
  const sources = stage.sources();
  say(`The real servers saw requests from ${sources.join(', ')}${wrongness(scene, sources)}\n\n`);
  const ftp = scene.ftp ? await showFtp(scene, stage) : undefined;
  const failures = failed + (ftp?.failures ?? 0);
  await stage.settle();
  say('# ipvsadm -ln --stats\n');
  say(await stage.ipvsadm(['-ln', '--stats']));
  return { requests, failures, plane: stage.plane, realServers: stage.realServers(), sources, ftp };
}

async function showFtp(scene: Scene, stage: Stage): Promise<FtpResult> {
  say(`Files: ${FTP_SESSIONS} from ftp://${scene.vip}/ in passive mode, by ${scene.clients.length} clients\n`);
  const ftp = await stage.ftp(FTP_SESSIONS);
  say(`${ftp.sessions} sessions, ${ftp.failures} failures\n`);
  for (const [client, names] of Object.entries(ftp.servers)) say(`  ${client} was served by ${names.join(' and ')}\n`);
  say('\n');
  return ftp;
}

const wrongness = ({ source }: Scene, sources: readonly string[]): string =>
  sources.length === 1 && sources[0] === source ? '' : `: wrong, it must be ${source}`;

/** Real servers saw the right source, and persistence kept each client at one of them. */
function isAsExpected(scene: Scene, sources: readonly string[], ftp: FtpResult | undefined): boolean {
  return wrongness(scene, sources) === '' && Object.values(ftp?.servers ?? {}).every((names) => names.length === 1);
}
