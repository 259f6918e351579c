/** `ipvsd proc`: what the kernel's ip_vs would show under /proc/net, printed, or kept as files for tools that read those. */
import { closeSync, mkdirSync, openSync, renameSync, writeSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { type Director, helpedPorts } from '@ipvsd/director';
import {
  formatProcApplications,
  formatProcConnections,
  formatProcCpuStats,
  formatProcServices,
  formatProcStats,
  formatProcSyncedConnections,
} from '@ipvsd/ipvsadm';
import { openDirector } from '../open-director.ts';

/** By the name under /proc/net; in pieces where a file may be long. */
const FILES: Readonly<Record<string, (director: Director) => Iterable<string>>> = {
  ip_vs: (director) => [formatProcServices(director)],
  ip_vs_conn: (director) => formatProcConnections(director.connections()),
  ip_vs_conn_sync: (director) => formatProcSyncedConnections(director.connections()),
  ip_vs_stats: (director) => [formatProcStats(director)],
  ip_vs_stats_percpu: (director) => [formatProcCpuStats(director)],
  ip_vs_app: (director) => [formatProcApplications(helpedPorts(director.sysctls()), director.connections())],
};

export interface ProcOptions {
  /** Keep all files in this folder, written anew at every interval, until interrupted. */
  readonly keep?: string;
  readonly interval: number;
}

export async function proc(name: string, options: ProcOptions): Promise<void> {
  const director = openDirector();
  if (options.keep !== undefined) return keep(director, options.keep, options.interval);
  const format = FILES[name];
  if (format === undefined) {
    throw new Error(`Cannot print "${name}": there are ${Object.keys(FILES).join(', ')}`);
  }
  for (const part of format(director)) process.stdout.write(part);
}

async function keep(director: Director, folder: string, intervalSeconds: number): Promise<void> {
  mkdirSync(folder, { recursive: true });
  for (;;) {
    for (const [name, format] of Object.entries(FILES)) replaceFile(`${folder}/${name}`, format(director));
    await setTimeout(intervalSeconds * 1000);
  }
}

/** A reader sees the old file or the new one, never half of it. */
function replaceFile(path: string, parts: Iterable<string>): void {
  const fd = openSync(`${path}.new`, 'w', 0o644);
  try {
    for (const part of parts) writeSync(fd, part);
  } finally {
    closeSync(fd);
  }
  renameSync(`${path}.new`, path);
}
