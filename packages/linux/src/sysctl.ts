/** Kernel settings under /proc/sys. Those below `net` are per network namespace, and belong to the calling thread's. */

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { inNamespace, type NamespaceRef } from './namespace.ts';

/** `net.ipv4.ip_forward`, or with slashes where a part has a dot in it: `net/ipv4/conf/eth0.5/rp_filter`. */
export function readSysctl(name: string, namespace?: NamespaceRef): string {
  return within(namespace, () => readFileSync(sysctlPath(name), 'utf8').trimEnd());
}

export function writeSysctl(name: string, value: string | number, namespace?: NamespaceRef): void {
  within(namespace, () => writeFileSync(sysctlPath(name), `${value}\n`, { flag: 'r+' }));
}

export function hasSysctl(name: string, namespace?: NamespaceRef): boolean {
  return within(namespace, () => existsSync(sysctlPath(name)));
}

function sysctlPath(name: string): string {
  const path = name.includes('/') ? name : name.replaceAll('.', '/');
  if (path.split('/').includes('..')) throw new TypeError(`Cannot use "${name}" as a sysctl: it must not contain ".."`);
  return `/proc/sys/${path}`;
}

function within<T>(namespace: NamespaceRef | undefined, action: () => T): T {
  return namespace === undefined ? action() : inNamespace(namespace, action);
}
