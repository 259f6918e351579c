/**
 * A network namespace's cookie: unlike its inode number it is never given to another one, so it can name what outlives the
 * namespace's processes.
 */
import { readdirSync, statSync } from 'node:fs';
import { inNamespace, listNamespaces, type NamespaceRef } from './namespace.ts';
import { systemCall } from './syscall.ts';

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOL_SOCKET = 1;
const SO_NETNS_COOKIE = 71;

/** Of the current thread's namespace. Linux 5.14. */
export function currentNamespaceCookie(): bigint {
  const action = 'read the cookie of the network namespace';
  const socket = systemCall(action, 'socket', AF_UNIX, SOCK_DGRAM, 0);
  try {
    const cookie = new BigUint64Array(1);
    systemCall(action, 'getsockopt', socket, SOL_SOCKET, SO_NETNS_COOKIE, cookie, Uint32Array.of(8));
    return cookie[0]!;
  } finally {
    systemCall('close a socket', 'close', socket);
  }
}

/** Of all namespaces that have a process or a name. One that only a file descriptor holds is not seen. */
export function livingNamespaceCookies(): Set<bigint> {
  const living = new Set<bigint>();
  for (const namespace of livingNamespaces().values()) {
    const cookie = tryTo(() => inNamespace(namespace, currentNamespaceCookie));
    if (cookie !== undefined) living.add(cookie);
  }
  return living;
}

/** One way into each, by its inode number. */
function livingNamespaces(): Map<number, NamespaceRef> {
  const found = new Map<number, NamespaceRef>();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const inode = tryTo(() => statSync(`/proc/${name}/ns/net`).ino);
    if (inode !== undefined && !found.has(inode)) found.set(inode, Number(name));
  }
  for (const { name, id } of listNamespaces()) if (!found.has(id)) found.set(id, name);
  return found;
}

/** Processes and names may go while they are looked at. */
function tryTo<T>(action: () => T): T | undefined {
  try {
    return action();
  } catch {
    return undefined;
  }
}
