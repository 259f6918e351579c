/**
 * `ipvsd demo`: the classic NAT cluster, set up by ipvsadm and put under load, on the real kernel or in Node.
 *
 *     client 172.16.45.2 ── eth0 172.16.45.10 (VIP) director 192.168.45.1 eth1 ──┬── real server 1  192.168.45.2:8000
 *                                                                                └── real server 2  192.168.45.3:80
 */
import { mayUseBpf } from '@ipvsd/linux';
import type { LoadResult } from './load.ts';

export interface DemoOptions {
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
  load(requests: number, concurrency: number): Promise<LoadResult>;
  /** Waits until the counters that operators see, published every two seconds, tell of all that has happened. */
  settle(): Promise<void>;
  realServers(): readonly ServedBy[];
  /** Leave it as it is, and say how to enter it. */
  keep(): string;
  remove(): void;
}

const COMMANDS: readonly (readonly string[])[] = [
  ['-A', '-t', '172.16.45.10:80', '-s', 'rr'],
  ['-a', '-t', '172.16.45.10:80', '-r', '192.168.45.2:8000', '-m'],
  ['-a', '-t', '172.16.45.10:80', '-r', '192.168.45.3', '-m'],
  ['-ln'],
];
const REQUESTS = 10_000;
const CONCURRENCY = 1000;

const say = (text: string): void => {
  process.stdout.write(text);
};

export async function demo(options: DemoOptions): Promise<void> {
  if (options.remove !== undefined) {
    const { removeCluster } = await import('./cluster.ts');
    if (removeCluster(options.remove) === 0) throw new Error(`Cannot remove "${options.remove}": no such cluster`);
    return;
  }
  const stage = await openStage(options);
  const interrupted = (): void => {
    stage.remove();
    process.exit(130);
  };
  process.once('SIGINT', interrupted);
  process.once('SIGTERM', interrupted);
  let kept = false;
  try {
    const result = await play(stage);
    if (options.keep === true) {
      kept = true;
      say(stage.keep());
    }
    if (options.json === true) say(`${JSON.stringify(result)}\n`);
    if (result.failures > 0) process.exitCode = 1;
  } finally {
    process.off('SIGINT', interrupted);
    process.off('SIGTERM', interrupted);
    if (!kept) stage.remove();
  }
}

async function openStage(options: DemoOptions): Promise<Stage> {
  const reason = options.node === true ? 'as asked by --node' : whyNotKernel();
  if (reason === undefined) {
    const { KernelStage } = await import('./kernel-stage.ts');
    return KernelStage.open();
  }
  say(`The data plane runs in Node on a simulated network: ${reason}\n`);
  const { NodeStage } = await import('./node-stage.ts');
  return new NodeStage();
}

/** Why the data plane cannot run in the kernel here; undefined where it can. */
export function whyNotKernel(): string | undefined {
  if (process.platform !== 'linux') return `this is ${process.platform}, and eBPF is in Linux`;
  if (!mayUseBpf()) return 'CAP_NET_ADMIN and CAP_BPF are missing (run as root for the real thing)';
  return undefined;
}

async function play(stage: Stage) {
  for (const args of COMMANDS) {
    say(`# ipvsadm ${args.join(' ')}\n`);
    say(await stage.ipvsadm(args));
  }
  say(`\nLoad: ${REQUESTS} requests to http://172.16.45.10/, ${CONCURRENCY} at a time\n`);
  const { requests, failures, milliseconds } = await stage.load(REQUESTS, CONCURRENCY);
  say(`${requests} requests in ${(milliseconds / 1000).toFixed(1)} s, ${failures} failures\n\n`);
  await stage.settle();
  say('# ipvsadm -ln --stats\n');
  say(await stage.ipvsadm(['-ln', '--stats']));
  return { requests, failures, plane: stage.plane, realServers: stage.realServers() };
}
