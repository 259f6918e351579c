/**
 * System calls by number. The one file that uses koffi, beside the other thread of crew.ts.
 *
 * All system calls here are synchronous and run on the calling thread, which is what `setns()` needs: it moves one thread.
 * Arguments are numbers or memory; memory is handed over as an address, so it must not be garbage before the call
 * returns, which holds for anything the caller still names. The error number is read at once, before any other code of
 * the thread can change it.
 */

import koffi from 'koffi';
import { errnoCode, errnoMeaning } from './errno.ts';

const NUMBERS = {
  x64: {
    close: 3,
    mmap: 9,
    munmap: 11,
    ioctl: 16,
    socket: 41,
    sendto: 44,
    recvfrom: 45,
    bind: 49,
    listen: 50,
    getsockname: 51,
    setsockopt: 54,
    getsockopt: 55,
    flock: 73,
    chdir: 80,
    capget: 125,
    mount: 165,
    umount2: 166,
    clock_gettime: 228,
    ppoll: 271,
    unshare: 272,
    setns: 308,
    bpf: 321,
    io_uring_setup: 425,
    io_uring_enter: 426,
    io_uring_register: 427,
  },
  arm64: {
    close: 57,
    mmap: 222,
    munmap: 215,
    ioctl: 29,
    socket: 198,
    sendto: 206,
    recvfrom: 207,
    bind: 200,
    listen: 201,
    getsockname: 204,
    setsockopt: 208,
    getsockopt: 209,
    flock: 32,
    chdir: 49,
    capget: 90,
    mount: 40,
    umount2: 39,
    clock_gettime: 113,
    ppoll: 73,
    unshare: 97,
    setns: 268,
    bpf: 280,
    io_uring_setup: 425,
    io_uring_enter: 426,
    io_uring_register: 427,
  },
} as const;

export type SystemCallName = keyof (typeof NUMBERS)['x64'];

/** Memory is passed by address; null is the null pointer. */
export type SystemCallArgument = number | bigint | ArrayBuffer | ArrayBufferView | null;

export interface SystemCallFailure {
  /** What was wanted, to follow "Cannot": `create map "conns"`. */
  readonly action: string;
  /** The call in the kernel's words: `bpf MAP_CREATE`. */
  readonly call: string;
  readonly errno: number;
  /** What would be right, where more is known than errno says. */
  readonly hint?: string;
}

/** A system call said no. The message is one sentence: what was wanted, which call refused, why, and what would help. */
export class SystemCallError extends Error {
  override readonly name = 'SystemCallError';
  readonly call: string;
  readonly errno: number;
  /** `EPERM` and so on. */
  readonly code: string;

  constructor(failure: SystemCallFailure) {
    const { action, call, errno } = failure;
    const hint = failure.hint ?? (errno === EPERM || errno === EACCES ? permissionHint(call) : undefined);
    const why = `${errnoCode(errno)}, ${errnoMeaning(errno)}`;
    super(`Cannot ${action} (${call}): ${why}${hint === undefined ? '' : `; ${hint}`}`);
    this.call = call;
    this.errno = errno;
    this.code = errnoCode(errno);
  }
}

const EPERM = 1;
const EACCES = 13;

/** Calls the kernel with plain numbers only; for callers who keep their memory and know its address. */
export function rawCall(name: SystemCallName, a: number, b: number, c: number): number {
  const { call, numbers } = kernel();
  const result = call(numbers[name], a, b, c, 0, 0, 0);
  return result === -1 ? -koffi.errno() : Number(result);
}

/** For who calls from another thread. */
export const systemCallNumber = (name: SystemCallName): number => kernel().numbers[name];

/** Calls the kernel; a result below zero is minus the error number, as the kernel itself has it. */
export function tryCall(name: SystemCallName, ...args: readonly SystemCallArgument[]): number {
  const { call, numbers } = kernel();
  const [a, b, c, d, e, f] = args;
  const result = call(numbers[name], word(a), word(b), word(c), word(d), word(e), word(f));
  return Number(result) === -1 ? -koffi.errno() : Number(result);
}

/** Calls the kernel and throws a `SystemCallError` when it refuses; `action` completes "Cannot ...". */
export function systemCall(action: string, name: SystemCallName, ...args: readonly SystemCallArgument[]): number {
  const result = tryCall(name, ...args);
  if (result < 0) throw new SystemCallError({ action, call: name, errno: -result });
  return result;
}

/**
 * Address of the memory behind a buffer or view. Valid only while the buffer itself is reachable. A number is wide enough:
 * neither x64 nor arm64 hands out addresses above 2^52 unasked.
 */
export function addressOf(memory: ArrayBuffer | ArrayBufferView): number {
  if (memory.byteLength === 0) return 0;
  // Small typed arrays live inside the garbage-collected heap, where they move, until someone asks for their buffer.
  if (memory instanceof ArrayBuffer) return Number(koffi.address(memory));
  return Number(koffi.address(memory.buffer)) + memory.byteOffset;
}

/** An ArrayBuffer over memory that is not JavaScript's, such as a mapping. Touching it after munmap crashes the process. */
export function viewMemory(address: number | bigint, bytes: number): ArrayBuffer {
  return koffi.view(BigInt(address), bytes);
}

/** Watches a file descriptor on the event loop without a thread of its own. Keeps the process alive until closed. */
export function watchReadable(fd: number, callback: () => void): { close(): void; unref(): void } {
  const handle = koffi.node.poll(fd, { readable: true }, callback);
  return { close: () => handle.close(), unref: () => handle.unref() };
}

function permissionHint(call: string): string {
  if (call.startsWith('bpf')) return 'run as root or with CAP_BPF and CAP_NET_ADMIN';
  if (call === 'netlink' || call.startsWith('ioctl')) return 'run as root or with CAP_NET_ADMIN';
  return `run as root or with ${call === 'socket' ? 'CAP_NET_RAW' : 'CAP_SYS_ADMIN'}`;
}

type Word = number | bigint;
type RawCall = (number: number, a: Word, b: Word, c: Word, d: Word, e: Word, f: Word) => number | bigint;

interface Kernel {
  readonly call: RawCall;
  readonly numbers: Readonly<Record<SystemCallName, number>>;
}

let loaded: Kernel | undefined;

/** Loaded at the first call and not at import, so that everything that needs no kernel runs anywhere. */
function kernel(): Kernel {
  if (loaded !== undefined) return loaded;
  const numbers = process.platform === 'linux' ? NUMBERS[process.arch as keyof typeof NUMBERS] : undefined;
  if (numbers === undefined) {
    throw new Error(
      `Cannot call the kernel: this is ${process.platform} on ${process.arch}, must be Linux on x64 or arm64`,
    );
  }
  const call: RawCall = koffi
    .load(null)
    .func('syscall', 'int64', ['int64', 'int64', 'int64', 'int64', 'int64', 'int64', 'int64']);
  loaded = { call, numbers };
  return loaded;
}

function word(argument: SystemCallArgument | undefined): Word {
  if (typeof argument === 'number' || typeof argument === 'bigint') return argument;
  return argument == null ? 0 : addressOf(argument);
}
