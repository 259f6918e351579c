/**
 * sd_notify: a datagram to the socket that systemd names in NOTIFY_SOCKET. Without one nothing happens. Node has no Unix
 * datagrams, so the three calls are made here.
 */

import { pack } from './netlink.ts';
import { systemCall, tryCall } from './syscall.ts';

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const MSG_NOSIGNAL = 0x4000;
const LONGEST_PATH = 107;

/** Lines such as `READY=1` or `STATUS=...`; false where nobody listens. */
export function notifySystemd(
  lines: readonly string[],
  socketPath: string | undefined = process.env['NOTIFY_SOCKET'],
): boolean {
  const path = Buffer.from(socketPath ?? '');
  if (path.length === 0 || path.length > LONGEST_PATH) return false;
  // systemd writes @ for the zero byte of an abstract name.
  if (path[0] === 0x40) path[0] = 0;
  const address = pack([2, AF_UNIX], path, ...(path[0] === 0 ? [] : [new Uint8Array(1)]));
  const message = new TextEncoder().encode(`${lines.join('\n')}\n`);
  const fd = systemCall('notify systemd', 'socket', AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  const sent = tryCall('sendto', fd, message, message.length, MSG_NOSIGNAL, address, address.length);
  tryCall('close', fd);
  return sent === message.length;
}

/** systemd wants the time at which a reload began, by the clock that never jumps. */
export function reloadingLines(): string[] {
  return ['RELOADING=1', `MONOTONIC_USEC=${process.hrtime.bigint() / 1000n}`];
}
