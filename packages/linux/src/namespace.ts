/**
 * Network namespaces, kept where `ip netns` keeps them: a bind mount of the namespace on /run/netns/NAME.
 *
 * A thread is in exactly one namespace, and a socket belongs to the namespace it was made in for good. So work in another
 * namespace is: go there, run a *synchronous* function, come back. Nothing asynchronous may happen in between: its
 * later half would run back home.
 */

import {
  closeSync,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { mount, mountPointType, unmount } from './mount.ts';
import { systemCall, tryCall } from './syscall.ts';

/** A namespace by name (`/run/netns/NAME`), by path (with a slash), or as that of a process (number). */
export type NamespaceRef = string | number;

export interface NamedNamespace {
  readonly name: string;
  readonly id: number;
}

const FOLDER = '/run/netns';
const CLONE_NEWNET = 0x40000000;
/** Of the calling thread, which is not the process's when this runs in a worker. */
const CURRENT = '/proc/thread-self/ns/net';

export function createNamespace(name: string): void {
  const path = namedPath(name);
  shareFolder();
  try {
    writeFileSync(path, '', { flag: 'wx' });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    throw new Error(`Cannot create network namespace "${name}": it exists already`);
  }
  try {
    visiting(
      () => systemCall(`create network namespace "${name}"`, 'unshare', CLONE_NEWNET),
      () => mount({ source: CURRENT, target: path, bind: true }),
    );
  } catch (error) {
    unlinkSync(path);
    throw error;
  }
}

/** The namespace itself lives on while a process, socket or interface elsewhere still holds it. */
export function deleteNamespace(name: string): void {
  const path = namedPath(name);
  if (!existsSync(path)) throw new Error(`Cannot delete network namespace "${name}": there is none of that name`);
  if (mountPointType(path) !== undefined) unmount(path);
  unlinkSync(path);
}

/** A file descriptor of the namespace; the caller closes it. */
export function openNamespace(namespace: NamespaceRef): number {
  const path = namespacePath(namespace);
  try {
    return openSync(path, 'r');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    const what = typeof namespace === 'number' ? `of process ${namespace}` : `"${namespace}"`;
    throw new Error(`Cannot open network namespace ${what}: ${path} does not exist`);
  }
}

/** Runs `action` in the namespace and returns what it returns. `action` must be synchronous. */
export function inNamespace<T>(namespace: NamespaceRef, action: () => T): T {
  const fd = openNamespace(namespace);
  try {
    return visiting(() => systemCall(`enter network namespace ${namespace}`, 'setns', fd, CLONE_NEWNET), action);
  } finally {
    closeSync(fd);
  }
}

/** The inode number that the kernel knows the namespace by: the same in /proc, `ip netns` and `lsns`. */
export function currentNamespaceId(): number {
  return statSync(CURRENT).ino;
}

export function namespaceId(namespace: NamespaceRef): number {
  const fd = openNamespace(namespace);
  try {
    return fstatSync(fd).ino;
  } finally {
    closeSync(fd);
  }
}

/** Namespaces that have a name. A name left over without its mount (after a reboot, say) is not listed. */
export function listNamespaces(): NamedNamespace[] {
  if (!existsSync(FOLDER)) return [];
  return readdirSync(FOLDER)
    .sort()
    .filter((name) => mountPointType(`${FOLDER}/${name}`) === 'nsfs')
    .map((name) => ({ name, id: namespaceId(name) }));
}

export function namespacePath(namespace: NamespaceRef): string {
  if (typeof namespace === 'number') return `/proc/${namespace}/ns/net`;
  return namespace.includes('/') ? namespace : namedPath(namespace);
}

function namedPath(name: string): string {
  if (name === '' || name === '.' || name === '..' || name.includes('/') || name.includes('\0')) {
    throw new TypeError(`Cannot use "${name}" as the name of a network namespace: it must be a plain file name`);
  }
  return `${FOLDER}/${name}`;
}

/** As iproute2 does: a shared mount, so that names made here are seen in other mount namespaces too, and the reverse. */
function shareFolder(): void {
  mkdirSync(FOLDER, { recursive: true, mode: 0o755 });
  if (mountPointType(FOLDER) === undefined) mount({ source: FOLDER, target: FOLDER, bind: true, recursive: true });
  mount({ source: '', target: FOLDER, shared: true });
}

/** Leaves the current namespace by `leave`, runs `action`, and returns. A thread that cannot return must not go on. */
function visiting<T>(leave: () => void, action: () => T): T {
  const home = openSync(CURRENT, 'r');
  try {
    leave();
    try {
      const result = action();
      if (result instanceof Promise) {
        throw new TypeError('Cannot run an asynchronous function in another network namespace: it must be synchronous');
      }
      return result;
    } finally {
      const failed = tryCall('setns', home, CLONE_NEWNET);
      if (failed < 0) {
        process.stderr.write(`ipvsd: cannot return to the home network namespace (errno ${-failed}), giving up\n`);
        process.abort();
      }
    }
  } finally {
    closeSync(home);
  }
}
