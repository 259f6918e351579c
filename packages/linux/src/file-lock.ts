/**
 * A lock between processes: `flock()` on a file. The kernel releases it when the holder ends, however it ends.
 *
 * Synchronous, because what it guards is a handful of system calls in a command that does nothing else meanwhile.
 */

import { closeSync, mkdirSync, openSync } from 'node:fs';
import { dirname } from 'node:path';
import { errnoNumber } from './errno.ts';
import { SystemCallError, tryCall } from './syscall.ts';

export interface FileLock {
  release(): void;
}

const LOCK_SH = 1;
const LOCK_EX = 2;
const LOCK_NB = 4;

/** How often a waiting process looks again. A lock is held for milliseconds, so this is what a loser waits at most. */
const RETRY_MS = 5;

export type LockMode = 'exclusive' | 'shared';

/** The lock, or null while someone else has it. The file and its folder are made if need be and stay. */
export function tryLockFile(path: string, mode: LockMode = 'exclusive'): FileLock | null {
  mkdirSync(dirname(path), { recursive: true });
  const fd = openSync(path, 'a', 0o600);
  const result = retryInterrupted(() => tryCall('flock', fd, (mode === 'shared' ? LOCK_SH : LOCK_EX) | LOCK_NB));
  if (result >= 0) return { release: once(() => closeSync(fd)) };
  closeSync(fd);
  if (-result === errnoNumber('EAGAIN')) return null;
  throw new SystemCallError({ action: `lock ${path}`, call: 'flock', errno: -result });
}

/** Waits for the lock, blocking the thread; throws after `timeoutMs`. */
export function lockFile(path: string, timeoutMs = 5000, mode: LockMode = 'exclusive'): FileLock {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const lock = tryLockFile(path, mode);
    if (lock !== null) return lock;
    if (performance.now() >= deadline) {
      throw new Error(`Cannot lock ${path}: another process has held it for ${timeoutMs} ms`);
    }
    sleep(RETRY_MS);
  }
}

/** Runs `action` while holding the lock. */
export function withFileLock<T>(path: string, action: () => T, timeoutMs = 5000): T {
  const lock = lockFile(path, timeoutMs);
  try {
    return action();
  } finally {
    lock.release();
  }
}

function sleep(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

function retryInterrupted(action: () => number): number {
  for (;;) {
    const result = action();
    if (-result !== errnoNumber('EINTR')) return result;
  }
}

function once(action: () => void): () => void {
  let done = false;
  return () => {
    if (done) return;
    done = true;
    action();
  };
}
