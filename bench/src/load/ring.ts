/**
 * io_uring: requests go into one ring of memory, answers come out of another, and one system call takes any number of both.
 *
 * A load generator in JavaScript pays for each call through koffi what the kernel pays for a small system call. Here a whole
 * connection (socket, connect, send, receive, close) is one chain of linked requests, and a thousand chains are one call. So
 * the generator costs less than what is measured, which ab, wrk and epoll do not.
 *
 * Sockets live in the ring's own table of files, by a number that we choose: a chain names its socket before it exists.
 */
import { addressOf, type MappedMemory, mapMemory, systemCall } from '@ipvsd/linux';

export interface RingOptions {
  /** Requests that fit between two calls; a power of two. */
  readonly entries: number;
  /** Sockets at a time. */
  readonly files: number;
}

const SETUP_CQSIZE = 1 << 3;
const SETUP_SUBMIT_ALL = 1 << 7;
const SETUP_SINGLE_ISSUER = 1 << 12;
const SETUP_DEFER_TASKRUN = 1 << 13;
const SETUP_NO_SQARRAY = 1 << 16;
const OFFSET_RINGS = 0;
const OFFSET_REQUESTS = 0x1000_0000;
const ENTER_GETEVENTS = 1;
const ENTER_EXT_ARG = 1 << 3;
const REGISTER_FILES2 = 13;
const REGISTER_SPARSE = 1;
const ETIME = 62;
const EINTR = 4;

const OP = { accept: 13, cancel: 14, connect: 16, close: 19, send: 26, receive: 27, socket: 45 } as const;
/** How a request goes with the next one. `link`: the next starts when this one succeeded, and only a failure is told. */
export const ALONE = 0;
export const LINK = 0x44;
const FIXED_FILE = 1;
const ACCEPT_MULTISHOT = 1;
const ALLOCATE_FILE = 0xffff_ffff;
const CANCEL_ALL = 1;
const CANCEL_ANY = 1 << 2;
const MSG_WAITALL = 0x100;
const MSG_NOSIGNAL = 0x4000;
const AF_INET = 2;
const SOCK_STREAM = 1;

/** An answer was the last of its request: a multishot accept has ended. */
export const MORE = 1 << 1;

export class Ring {
  readonly #fd: number;
  readonly #entries: number;
  readonly #memory: readonly MappedMemory[];
  readonly #rings: Int32Array;
  readonly #requests: Int32Array;
  readonly #requestBytes: Uint8Array;
  readonly #at: { sqTail: number; sqMask: number; cqHead: number; cqTail: number; cqMask: number; cqes: number };
  readonly #timeout = new BigInt64Array(2);
  readonly #wait = new BigUint64Array(3);
  #tail = 0;
  #pending = 0;

  constructor({ entries, files }: RingOptions) {
    const params = new Uint32Array(30);
    params[1] = Math.max(4 * entries, 4 * files);
    params[2] = SETUP_CQSIZE | SETUP_SUBMIT_ALL | SETUP_SINGLE_ISSUER | SETUP_DEFER_TASKRUN | SETUP_NO_SQARRAY;
    this.#fd = systemCall('make an io_uring', 'io_uring_setup', entries, params);
    this.#entries = params[0]!;
    const [sq, cq] = [params.subarray(10, 20), params.subarray(20, 30)];
    const rings = mapMemory(this.#fd, OFFSET_RINGS, cq[5]! + params[1]! * 16, 'read-write');
    const requests = mapMemory(this.#fd, OFFSET_REQUESTS, this.#entries * 64, 'read-write');
    this.#memory = [rings, requests];
    this.#rings = new Int32Array(rings.buffer, 0, rings.buffer.byteLength >> 2);
    this.#requests = new Int32Array(requests.buffer);
    this.#requestBytes = new Uint8Array(requests.buffer);
    this.#at = {
      sqTail: sq[1]! >> 2,
      sqMask: this.#entries - 1,
      cqHead: cq[0]! >> 2,
      cqTail: cq[1]! >> 2,
      cqMask: params[1]! - 1,
      cqes: cq[5]! >> 2,
    };
    this.#wait[2] = BigInt(addressOf(this.#timeout));
    const table = new BigUint64Array([BigInt(files) | (BigInt(REGISTER_SPARSE) << 32n), 0n, 0n, 0n]);
    systemCall('register sockets with an io_uring', 'io_uring_register', this.#fd, REGISTER_FILES2, table, 32);
  }

  close(): void {
    for (const memory of this.#memory) memory.unmap();
    systemCall('close an io_uring', 'close', this.#fd);
  }

  // Requests: `tag` comes back with the answer; it has 31 bits. -----------------------------------------------------

  socket(slot: number, flags: number, tag: number): void {
    const at = this.#request(OP.socket, flags, AF_INET, tag);
    this.#requests[at + 2] = SOCK_STREAM;
    this.#requests[at + 11] = slot + 1;
  }

  /** `address` is a `sockaddr_in` that stays where it is. */
  connect(slot: number, address: number, flags: number, tag: number): void {
    const at = this.#request(OP.connect, flags | FIXED_FILE, slot, tag);
    this.#requests[at + 2] = 16;
    this.#setAddress(at + 4, address);
  }

  send(slot: number, address: number, bytes: number, flags: number, tag: number): void {
    const at = this.#request(OP.send, flags | FIXED_FILE, slot, tag);
    this.#setAddress(at + 4, address);
    this.#requests[at + 6] = bytes;
    this.#requests[at + 7] = MSG_WAITALL | MSG_NOSIGNAL;
  }

  /** `whole`: succeeds only with as many bytes as asked for. */
  receive(slot: number, address: number, bytes: number, whole: boolean, flags: number, tag: number): void {
    const at = this.#request(OP.receive, flags | FIXED_FILE, slot, tag);
    this.#setAddress(at + 4, address);
    this.#requests[at + 6] = bytes;
    this.#requests[at + 7] = whole ? MSG_WAITALL : 0;
  }

  closeSocket(slot: number, flags: number, tag: number): void {
    const at = this.#request(OP.close, flags, 0, tag);
    this.#requests[at + 11] = slot + 1;
  }

  /** Accepts for as long as it lasts; each answer is the number of a socket. */
  accept(listener: number, tag: number): void {
    const at = this.#request(OP.accept, 0, listener, tag);
    this.#requestBytes[at * 4 + 2] = ACCEPT_MULTISHOT;
    this.#requests[at + 11] = ALLOCATE_FILE | 0;
  }

  cancelAll(tag: number): void {
    const at = this.#request(OP.cancel, 0, -1, tag);
    this.#requests[at + 7] = CANCEL_ALL | CANCEL_ANY;
  }

  /** Hand over what was asked for, and wait until an answer is there or the time is over. */
  enter(timeoutMs: number): void {
    this.#rings[this.#at.sqTail] = this.#tail;
    const pending = this.#pending;
    this.#pending = 0;
    this.#timeout[0] = BigInt(Math.floor(timeoutMs / 1000));
    this.#timeout[1] = BigInt(Math.round((timeoutMs % 1000) * 1e6));
    const flags = ENTER_GETEVENTS | ENTER_EXT_ARG;
    try {
      systemCall('enter an io_uring', 'io_uring_enter', this.#fd, pending, 1, flags, this.#wait, 24);
    } catch (error) {
      const { errno } = error as { errno?: number };
      if (errno !== ETIME && errno !== EINTR) throw error;
    }
  }

  /** Each answer that is there; returns how many there were. */
  answers(take: (tag: number, result: number, flags: number) => void): number {
    const { cqHead, cqTail, cqMask, cqes } = this.#at;
    const rings = this.#rings;
    const first = rings[cqHead]!;
    const end = rings[cqTail]!;
    for (let head = first; head !== end; head = (head + 1) | 0) {
      const at = cqes + (head & cqMask) * 4;
      const tag = rings[at]!;
      const result = rings[at + 2]!;
      const flags = rings[at + 3]!;
      // Given back before the next is taken: `take` may hand requests over, whose answers need room.
      rings[cqHead] = (head + 1) | 0;
      take(tag, result, flags);
    }
    return end - first;
  }

  /** The place of a fresh request, counted in words. */
  #request(op: number, flags: number, fd: number, tag: number): number {
    if (this.#pending === this.#entries) this.#flush();
    const at = (this.#tail & this.#at.sqMask) * 16;
    this.#tail = (this.#tail + 1) | 0;
    this.#pending++;
    this.#requests.fill(0, at, at + 16);
    this.#requests[at] = op | (flags << 8);
    this.#requests[at + 1] = fd;
    this.#requests[at + 8] = tag;
    return at;
  }

  #flush(): void {
    this.#rings[this.#at.sqTail] = this.#tail;
    const pending = this.#pending;
    this.#pending = 0;
    systemCall('hand over to an io_uring', 'io_uring_enter', this.#fd, pending, 0, 0, 0, 0);
  }

  #setAddress(at: number, address: number): void {
    this.#requests[at] = address >>> 0;
    this.#requests[at + 1] = Math.floor(address / 2 ** 32);
  }
}

/** A `sockaddr_in`. */
export function socketAddress(address: string, port: number): Uint8Array {
  return Uint8Array.of(AF_INET, 0, port >> 8, port & 255, ...address.split('.').map(Number), 0, 0, 0, 0, 0, 0, 0, 0);
}

/** A listening TCP socket on all addresses of the current namespace. */
export function listen(port: number): number {
  const SOL_SOCKET = 1;
  const SO_REUSEADDR = 2;
  const fd = systemCall('open a socket', 'socket', AF_INET, SOCK_STREAM, 0);
  systemCall('set SO_REUSEADDR', 'setsockopt', fd, SOL_SOCKET, SO_REUSEADDR, Int32Array.of(1), 4);
  systemCall(`bind to port ${port}`, 'bind', fd, socketAddress('0.0.0.0', port), 16);
  systemCall(`listen on port ${port}`, 'listen', fd, 16_384);
  return fd;
}
