/** Memory shared with the kernel: `mmap()` of a file descriptor, seen as an ArrayBuffer. */

import { readFileSync } from 'node:fs';
import { systemCall, tryCall, viewMemory } from './syscall.ts';

export interface MappedMemory {
  /** Touching it after `unmap()` crashes the process. */
  readonly buffer: ArrayBuffer;
  unmap(): void;
}

const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;
const AT_PAGESZ = 6n;

export function mapMemory(fd: number, offset: number, bytes: number, access: 'read' | 'read-write'): MappedMemory {
  const protection = access === 'read' ? PROT_READ : PROT_READ | PROT_WRITE;
  const address = systemCall(`map ${bytes} bytes of memory`, 'mmap', 0, bytes, protection, MAP_SHARED, fd, offset);
  let mapped = true;
  return {
    buffer: viewMemory(address, bytes),
    unmap: () => {
      if (mapped) tryCall('munmap', address, bytes);
      mapped = false;
    },
  };
}

let knownPageSize: number | undefined;

/** 4,096 on x64; 4,096, 16,384 or 65,536 on arm64. */
export function pageSize(): number {
  if (knownPageSize !== undefined) return knownPageSize;
  const bytes = readFileSync('/proc/self/auxv');
  for (let at = 0; at + 16 <= bytes.length; at += 16) {
    if (bytes.readBigUInt64LE(at) === AT_PAGESZ) knownPageSize = Number(bytes.readBigUInt64LE(at + 8));
  }
  knownPageSize ??= 4096;
  return knownPageSize;
}
