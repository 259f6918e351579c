/**
 * Whatever happens, nothing stays: what was made is written down with how it is undone, and undone in reverse when the process
 * ends, by itself, by an error or by a signal. What a killed bench left behind is removed by the next.
 */
import { existsSync, readdirSync, readFileSync, rmdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { KernelPlane } from '@ipvsd/director';
import { deleteNamespace, inNamespace, listNamespaces } from '@ipvsd/linux';

export const PREFIX = 'ipvsd-bench-';
/** Bears the process's number, so that another's is known to be alive. */
export const MINE = `${PREFIX}${process.pid}`;
/** Version 2 alone, or beside version 1. */
export const CGROUPS = existsSync('/sys/fs/cgroup/cgroup.controllers') ? '/sys/fs/cgroup' : '/sys/fs/cgroup/unified';

const undos: (() => void)[] = [];
let listening = false;

export function undoAtEnd(undo: () => void): void {
  if (!listening) {
    listening = true;
    process.once('exit', undoAll);
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(130));
  }
  undos.push(undo);
}

export function undoAll(): void {
  for (const undo of undos.splice(0).reverse()) {
    try {
      undo();
    } catch (error) {
      process.stderr.write(`bench: ${(error as Error).message}\n`);
    }
  }
}

/** Remove what benches that no longer run have left. */
export function removeLeftovers(): void {
  const gone = (name: string): boolean => {
    const pid = Number(new RegExp(`^${PREFIX}(\\d+)`).exec(name)?.[1] ?? Number.NaN);
    return Number.isInteger(pid) && pid !== process.pid && !existsSync(`/proc/${pid}`);
  };
  for (const { name } of listNamespaces()) if (gone(name)) removeNamespace(name);
  if (existsSync(CGROUPS)) for (const name of readdirSync(CGROUPS)) if (gone(name)) removeCgroup(`${CGROUPS}/${name}`);
  for (const name of readdirSync(tmpdir())) if (gone(name)) rmSync(join(tmpdir(), name), { recursive: true });
}

/** Does nothing where it is gone already. */
export function removeNamespace(name: string): void {
  if (!existsSync(`/run/netns/${name}`)) return;
  inNamespace(name, () => KernelPlane.open()?.detach());
  deleteNamespace(name);
}

/** With the groups below it and the processes in them. */
export function removeCgroup(path: string): void {
  for (const name of readdirSync(path, { withFileTypes: true })) {
    if (name.isDirectory()) removeCgroup(`${path}/${name.name}`);
  }
  for (let tries = 0; tries < 200; tries++) {
    const pids = readFileSync(`${path}/cgroup.procs`, 'utf8').trim().split('\n').filter(Boolean);
    for (const pid of pids) killQuietly(Number(pid));
    try {
      rmdirSync(path);
      return;
    } catch {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
    }
  }
  throw new Error(`Cannot remove cgroup ${path}: a process in it does not end`);
}

export function killQuietly(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It ended by itself.
  }
}
