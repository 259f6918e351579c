/** Our commands as they are published, on hosts of a cluster: run to their end, expected to succeed, started as servers. */
import type { ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import type { Ended, Host } from '../demo/cluster.ts';

type Name = 'ipvsd' | 'ipvsadm' | 'ipvsadm-save' | 'ipvsadm-restore';

/** The file that Node runs. A test without it would test nothing, so that is an error and no reason to skip. */
export function bundle(name: Name): string {
  const path = fileURLToPath(new URL(`../../bundle/${name}.js`, import.meta.url));
  if (!existsSync(path)) throw new Error(`Cannot test ${name}: it is not built, run npm run build`);
  return path;
}

/** One of our commands, to its end, however it ends. */
export const runOurs = (host: Host, name: Name, ...args: readonly string[]): Ended =>
  host.run(process.execPath, [bundle(name), ...args]);

/** The same where it has to succeed and complain of nothing; what it printed. */
export function ours(host: Host, name: Name, ...args: readonly string[]): string {
  const { status, stdout, stderr } = runOurs(host, name, ...args);
  expect([status, stderr]).toEqual([0, '']);
  return stdout;
}

/** A program of Node's that serves from now until its host goes; it says something once it listens. */
export async function startServer(host: Host, args: readonly string[]): Promise<ChildProcess> {
  const child = host.start(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise((resolve, reject) => {
    child.stdout!.once('data', resolve);
    child.once('exit', (code) => reject(new Error(`the server on ${host.name} ended with ${code}`)));
  });
  return child;
}

/** A real server for HTTP that answers with its name. */
export const serveName = (host: Host, port: number, name = host.name): Promise<ChildProcess> =>
  startServer(host, [bundle('ipvsd'), 'demo-server', '--port', `${port}`, '--name', name]);

/** Wait for something to be so, for as long as a busy machine may take. */
export async function until(what: string, isSo: () => boolean, seconds = 20): Promise<void> {
  for (let i = 0; i < seconds * 20; i++) {
    if (isSo()) return;
    await pause(50);
  }
  throw new Error(`${what} never came to be`);
}
