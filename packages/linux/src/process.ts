/**
 * Child processes in another network namespace, without iproute2.
 *
 * A child inherits the namespace of the thread that forks it, and Node forks on the calling thread before `spawn()`
 * returns. So it is enough to visit the namespace while spawning. Unlike under `ip netns exec`, /sys stays the
 * parent's, and so do our pins.
 */

import {
  type ChildProcess,
  type SpawnOptions,
  type SpawnSyncOptionsWithStringEncoding,
  type SpawnSyncReturns,
  spawn,
  spawnSync,
} from 'node:child_process';
import { inNamespace, type NamespaceRef } from './namespace.ts';

export function spawnInNamespace(
  namespace: NamespaceRef,
  command: string,
  args: readonly string[] = [],
  options: SpawnOptions = {},
): ChildProcess {
  return inNamespace(namespace, () => spawn(command, args, options));
}

/** Runs a command to its end, for set-up and tests; its output is text. */
export function runInNamespace(
  namespace: NamespaceRef,
  command: string,
  args: readonly string[] = [],
  options: Omit<SpawnSyncOptionsWithStringEncoding, 'encoding'> = {},
): SpawnSyncReturns<string> {
  return inNamespace(namespace, () => spawnSync(command, args, { ...options, encoding: 'utf8' }));
}
