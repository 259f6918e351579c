/**
 * Offloads of an interface. A veth passes packets with checksums left to be filled in and segments left to be cut; who looks at
 * the bytes on the wire, as tests and captures do, switches that off first.
 */

import { inNamespace, type NamespaceRef } from './namespace.ts';
import { pack } from './netlink.ts';
import { addressOf, SystemCallError, systemCall, tryCall } from './syscall.ts';

const AF_INET = 2;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const SIOCETHTOOL = 0x8946;
const EOPNOTSUPP = 95;
/** `ETHTOOL_S...` commands. */
const COMMANDS = { rxChecksum: 0x15, txChecksum: 0x17, tso: 0x1f, gso: 0x24, gro: 0x2c } as const;
export type Offload = keyof typeof COMMANDS;

/** Offloads that the interface does not have are left alone. */
export function setOffloads(
  interfaceName: string,
  offloads: Readonly<Partial<Record<Offload, boolean>>>,
  namespace?: NamespaceRef,
): void {
  const create = (): number => systemCall('open a socket', 'socket', AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  const fd = namespace === undefined ? create() : inNamespace(namespace, create);
  try {
    for (const [offload, on] of Object.entries(offloads) as [Offload, boolean][]) {
      const value = Uint32Array.of(COMMANDS[offload], on ? 1 : 0);
      const address = addressOf(value);
      const name = new Uint8Array(16);
      name.set(new TextEncoder().encode(interfaceName).subarray(0, 15));
      const request = pack(name, [4, address >>> 0], [4, Math.floor(address / 2 ** 32)], new Uint8Array(16));
      const result = tryCall('ioctl', fd, SIOCETHTOOL, request);
      if (result < 0 && result !== -EOPNOTSUPP) {
        const action = `switch ${offload} of ${interfaceName} ${on ? 'on' : 'off'}`;
        throw new SystemCallError({ action, call: 'ioctl ETHTOOL', errno: -result });
      }
      // Only its address went into the request; this use keeps it from the garbage collector until here.
      value.fill(0);
    }
  } finally {
    tryCall('close', fd);
  }
}
