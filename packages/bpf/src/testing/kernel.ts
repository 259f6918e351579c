/**
 * Tests that need the kernel. They are skipped, with the reason in their name, where this process may not use eBPF, and
 * run wherever it may: there is no setting to turn them off.
 */

import { hasCapability, mayUseBpf } from '@ipvsd/linux';
import { describe, test } from 'vitest';

function reasonToSkip(): string | undefined {
  if (process.platform !== 'linux') return 'this is not Linux';
  if (!mayUseBpf()) return 'needs root, or CAP_BPF and CAP_NET_ADMIN';
  if (!hasCapability('CAP_SYS_ADMIN')) return 'needs CAP_SYS_ADMIN, to make network namespaces';
  return undefined;
}

const reason = reasonToSkip();

/** A test file makes names of its own: files run at the same time. */
export function uniqueName(prefix: string): string {
  return `${prefix}${process.pid}${Math.random().toString(36).slice(2, 6)}`;
}

export function describeKernel(name: string, body: () => void): void {
  if (reason === undefined) describe(name, body);
  else describe.skip(`${name} (skipped: ${reason})`, body);
}

export function itKernel(name: string, body: () => void | Promise<void>): void {
  if (reason === undefined) test(name, body);
  else test.skip(`${name} (skipped: ${reason})`, body);
}
