/**
 * News of a network namespace: interfaces and addresses that come, change and go.
 *
 * The kernel drops news that nobody reads in time and says so; `missed` then asks the listener to look for itself.
 */

import { inNamespace, type NamespaceRef } from './namespace.ts';
import { pack, parseMessages } from './netlink.ts';
import { type InterfaceAddress, type Link, parseAddress, parseLink, RTM } from './route.ts';
import { SystemCallError, systemCall, tryCall, watchReadable } from './syscall.ts';

export type RouteEvent =
  | { readonly kind: 'link' | 'link-gone'; readonly link: Link }
  | { readonly kind: 'address' | 'address-gone'; readonly address: InterfaceAddress }
  | { readonly kind: 'missed' };

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const NETLINK_ROUTE = 0;
const GROUPS = { link: 0x1, address4: 0x10, address6: 0x100 } as const;
const MSG_DONTWAIT = 0x40;
const EAGAIN = 11;
const EINTR = 4;
const ENOBUFS = 105;
const BUFFER_BYTES = 65_536;

/** Calls back from the event loop until closed. Keeps the process alive unless unreferenced. */
export function watchRoutes(
  callback: (event: RouteEvent) => void,
  namespace?: NamespaceRef,
): { close(): void; unref(): void } {
  const create = (): number =>
    systemCall('open a netlink socket', 'socket', AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  const fd = namespace === undefined ? create() : inNamespace(namespace, create);
  const groups = GROUPS.link | GROUPS.address4 | GROUPS.address6;
  systemCall('listen to netlink news', 'bind', fd, pack([2, AF_NETLINK], [2, 0], [4, 0], [4, groups]), 12);
  const buffer = new Uint8Array(BUFFER_BYTES);
  let open = true;
  const watcher = watchReadable(fd, () => {
    while (open) {
      const length = tryCall('recvfrom', fd, buffer, BUFFER_BYTES, MSG_DONTWAIT, null, null);
      if (length === -EAGAIN) return;
      if (length === -EINTR) continue;
      if (length === -ENOBUFS) callback({ kind: 'missed' });
      else if (length < 0) throw new SystemCallError({ action: 'read netlink news', call: 'recvfrom', errno: -length });
      else for (const event of events(buffer.slice(0, length))) if (open) callback(event);
    }
  });
  return {
    unref: () => watcher.unref(),
    close: () => {
      if (!open) return;
      open = false;
      watcher.close();
      tryCall('close', fd);
    },
  };
}

function events(bytes: Uint8Array): RouteEvent[] {
  return parseMessages(bytes).flatMap(({ type, payload }): RouteEvent[] => {
    if (type === RTM.newLink) return [{ kind: 'link', link: parseLink(payload) }];
    if (type === RTM.deleteLink) return [{ kind: 'link-gone', link: parseLink(payload) }];
    if (type === RTM.newAddress) return [{ kind: 'address', address: parseAddress(payload) }];
    if (type === RTM.deleteAddress) return [{ kind: 'address-gone', address: parseAddress(payload) }];
    return [];
  });
}
