/**
 * A network namespace's cookie: unlike its inode number it is never given to another one, so it can name what outlives the
 * namespace's processes.
 */
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
