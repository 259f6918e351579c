/** Where the daemon of a network namespace keeps its lock and its socket. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { currentNamespaceCookie } from '@ipvsd/linux';

export interface DaemonPaths {
  readonly lock: string;
  readonly control: string;
}

export function daemonPaths(folder = '/run/ipvsd', cookie: () => unknown = currentNamespaceCookie): DaemonPaths {
  const name = `daemon-${cookie()}`;
  mkdirSync(folder, { recursive: true, mode: 0o755 });
  return { lock: join(folder, `${name}.lock`), control: join(folder, `${name}.sock`) };
}
