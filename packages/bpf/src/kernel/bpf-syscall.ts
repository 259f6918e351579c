/**
 * The bpf() system call: command numbers, and the attribute block that each command reads.
 *
 * `union bpf_attr` grows at its end from release to release. The kernel takes a longer one than it knows as long as the
 * rest is zero, so every call passes the same 160 bytes, and field offsets stand where the command is used.
 */

import { readFileSync } from 'node:fs';
import { addressOf, rawCall, SystemCallError, tryCall } from '@ipvsd/linux';

/** Commands by the kernel's names, which is how errors name them. */
export const COMMAND = {
  MAP_CREATE: 0,
  MAP_LOOKUP_ELEM: 1,
  MAP_UPDATE_ELEM: 2,
  MAP_DELETE_ELEM: 3,
  MAP_GET_NEXT_KEY: 4,
  PROG_LOAD: 5,
  OBJ_PIN: 6,
  OBJ_GET: 7,
  PROG_TEST_RUN: 10,
  PROG_GET_FD_BY_ID: 13,
  MAP_GET_FD_BY_ID: 14,
  OBJ_GET_INFO_BY_FD: 15,
  PROG_QUERY: 16,
  BTF_LOAD: 18,
  MAP_LOOKUP_AND_DELETE_ELEM: 21,
  MAP_LOOKUP_BATCH: 24,
  MAP_LOOKUP_AND_DELETE_BATCH: 25,
  MAP_UPDATE_BATCH: 26,
  MAP_DELETE_BATCH: 27,
  LINK_CREATE: 28,
  LINK_UPDATE: 29,
  LINK_GET_FD_BY_ID: 30,
  LINK_DETACH: 34,
} as const;
export type Command = keyof typeof COMMAND;

export const ATTR_BYTES = 160;

const EAGAIN = 11;
/** A pending signal makes the verifier give up with EAGAIN. */
const MAX_ATTEMPTS = 5;

/** The attribute block of one call. Memory that it points to is kept alive with it. */
export class Attr {
  readonly bytes = new ArrayBuffer(ATTR_BYTES);
  readonly #view = new DataView(this.bytes);
  readonly #kept: (ArrayBuffer | ArrayBufferView)[] = [];

  u32(offset: number, value: number): this {
    this.#view.setUint32(offset, value, true);
    return this;
  }

  u64(offset: number, value: number | bigint): this {
    this.#view.setBigUint64(offset, BigInt(value), true);
    return this;
  }

  pointer(offset: number, memory: ArrayBuffer | ArrayBufferView): this {
    this.#kept.push(memory);
    return this.u64(offset, addressOf(memory));
  }

  text(offset: number, value: string): this {
    return this.pointer(offset, cString(value));
  }

  /** A name in place: 15 characters and a zero. */
  name(offset: number, value: string): this {
    new Uint8Array(this.bytes, offset, 15).set(new TextEncoder().encode(value).subarray(0, 15));
    return this;
  }

  getU32(offset: number): number {
    return this.#view.getUint32(offset, true);
  }
}

/** Calls the kernel; a result below zero is minus the error number. */
export function tryBpf(command: Command, attr: Attr): number {
  for (let attempt = 1; ; attempt++) {
    const result = rawCall('bpf', COMMAND[command], addressOf(attr.bytes), ATTR_BYTES);
    if (result !== -EAGAIN || attempt === MAX_ATTEMPTS) return result;
  }
}

/** Calls the kernel and throws a `SystemCallError` when it refuses; `action` completes "Cannot ...". */
export function bpf(action: string, command: Command, attr: Attr): number {
  const result = tryBpf(command, attr);
  if (result < 0) throw bpfError(action, command, -result);
  return result;
}

export function bpfError(action: string, command: Command, errno: number, hint?: string): SystemCallError {
  return new SystemCallError({ action, call: `bpf ${command}`, errno, ...(hint === undefined ? {} : { hint }) });
}

/** What the kernel says about a map, program, link or BTF; `bytes` long at least, zeros where the kernel is older. */
export function objectInfo(fd: number, bytes: number, fill?: (info: DataView) => void): DataView {
  const info = new DataView(new ArrayBuffer(bytes));
  fill?.(info);
  bpf(
    'read what the kernel knows about a BPF object',
    'OBJ_GET_INFO_BY_FD',
    new Attr().u32(0, fd).u32(4, bytes).pointer(8, info),
  );
  return info;
}

export function pinObject(fd: number, path: string): void {
  const result = tryBpf('OBJ_PIN', new Attr().text(0, path).u32(8, fd));
  if (result < 0) throw bpfError(`pin to ${path}`, 'OBJ_PIN', -result, pinHint(path, -result));
}

/** A file descriptor of what is pinned there. */
export function openPin(path: string): number {
  return bpf(`open the pin ${path}`, 'OBJ_GET', new Attr().text(0, path));
}

export function closeFd(fd: number): void {
  tryCall('close', fd);
}

export function infoName(info: DataView, offset: number): string {
  const bytes = new Uint8Array(info.buffer, info.byteOffset + offset, 16);
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(bytes.subarray(0, end < 0 ? 16 : end));
}

export function cString(text: string): Uint8Array {
  return new TextEncoder().encode(`${text}\0`);
}

let knownCpus: number | undefined;

/** How many values a per-CPU map has: CPUs that could ever be plugged in. */
export function possibleCpus(): number {
  if (knownCpus === undefined) {
    const last = readFileSync('/sys/devices/system/cpu/possible', 'utf8').trim().split(/[,-]/).at(-1);
    knownCpus = Number(last) + 1;
  }
  return knownCpus;
}

function pinHint(path: string, errno: number): string | undefined {
  const name = path.slice(path.lastIndexOf('/') + 1);
  if (errno === 1 && name.includes('.')) return `"${name}" has a dot, which a BPF file system does not allow`;
  if (errno === 22) return 'it must be on a BPF file system';
  return undefined;
}
