/** Real transfers between hosts of a cluster, by transfer-end.mjs: what left and what came, with its checksum. */
import { fileURLToPath } from 'node:url';
import type { Host } from '../demo/cluster.ts';

const PROGRAM = fileURLToPath(new URL('./transfer-end.mjs', import.meta.url));

export interface Transfer {
  readonly bytes: number;
  /** SHA-256 of what the sender sent, and of what the receiver got. */
  readonly sent: string;
  readonly received: string;
}

/** Streams, and UDP echo at these addresses, at this port of the host, once it listens. */
export async function serveTransfers(host: Host, port: number, addresses: readonly string[]): Promise<void> {
  const args = [PROGRAM, 'serve', `${port}`, ...addresses];
  const child = host.start(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise((resolve, reject) => {
    child.stdout!.once('data', resolve);
    child.once('exit', (code) => reject(new Error(`Cannot serve transfers on ${host.name}: it ended with ${code}`)));
  });
}

export const download = (host: Host, address: string, port: number, bytes: number): Promise<Transfer> =>
  run<Transfer>(host, ['download', address, `${port}`, `${bytes}`]);

export const upload = (host: Host, address: string, port: number, bytes: number): Promise<Transfer> =>
  run<Transfer>(host, ['upload', address, `${port}`, `${bytes}`]);

/** Datagrams of this many bytes, one after the other: how many came back as they were. */
export const echo = (host: Host, address: string, port: number, bytes: number, count: number) =>
  run<{ readonly sent: number; readonly received: number }>(host, ['echo', address, `${port}`, `${bytes}`, `${count}`]);

async function run<T>(host: Host, args: readonly string[]): Promise<T> {
  const { status, stdout, stderr } = await host.execute(process.execPath, [PROGRAM, ...args]);
  if (status !== 0) throw new Error(`${args.join(' ')} on ${host.name} ended with ${status}: ${stderr}`);
  return JSON.parse(stdout) as T;
}
