/**
 * Frames as they are on an interface (AF_PACKET), and IP packets with a header of our own making (raw IP).
 *
 * Blocking with a timeout, which is what tests and one-shot senders want; `fd` and `watch` serve the event loop.
 */

import { AF_INET, AF_INET6 } from './address.ts';
import { inNamespace, type NamespaceRef } from './namespace.ts';
import { pack } from './netlink.ts';
import { RouteSocket } from './route.ts';
import { SystemCallError, systemCall, tryCall, watchReadable } from './syscall.ts';

const AF_PACKET = 17;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_MARK = 36;
const SO_RCVBUFFORCE = 33;
const SOL_PACKET = 263;
const PACKET_IGNORE_OUTGOING = 23;
const ETH_P_ALL = 3;
const IPPROTO_RAW = 255;
const IPV6_HDRINCL = 36;
const SOL_IPV6 = 41;
const MSG_DONTWAIT = 0x40;
const POLLIN = 1;
const EAGAIN = 11;
const EINTR = 4;
const ENETDOWN = 100;
/** The largest frame with GRO, and room to spare. */
const BUFFER_BYTES = 262_144;

export interface PacketSocketOptions {
  readonly namespace?: NamespaceRef;
  /** Also see what this host sends, which is left out unless asked for. */
  readonly outgoing?: boolean;
}

/** Sends and receives whole Ethernet frames on one interface. */
export class PacketSocket {
  readonly fd: number;
  readonly ifindex: number;
  readonly #buffer = new Uint8Array(BUFFER_BYTES);
  #open = true;

  constructor(interfaceName: string, options: PacketSocketOptions = {}) {
    const routes = new RouteSocket(options.namespace);
    try {
      this.ifindex = routes.link(interfaceName).ifindex;
    } finally {
      routes.close();
    }
    const action = `open a packet socket on ${interfaceName}`;
    // Protocol 0 receives nothing, so that no frame of another interface arrives before bind() has chosen ours.
    const create = (): number => systemCall(action, 'socket', AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    this.fd = options.namespace === undefined ? create() : inNamespace(options.namespace, create);
    if (!options.outgoing) tryCall('setsockopt', this.fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, Uint32Array.of(1), 4);
    tryCall('setsockopt', this.fd, SOL_SOCKET, SO_RCVBUFFORCE, Uint32Array.of(8 << 20), 4);
    const address = pack([2, AF_PACKET], [2, ETH_P_ALL << 8], [4, this.ifindex], new Uint8Array(12));
    systemCall(action, 'bind', this.fd, address, address.length);
  }

  send(frame: Uint8Array): void {
    systemCall(`send a frame of ${frame.length} bytes`, 'sendto', this.fd, frame, frame.length, 0, null, 0);
  }

  /** The next frame, or null when none came within `timeoutMs`. */
  receive(timeoutMs = 1000): Uint8Array | null {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const length = tryCall('recvfrom', this.fd, this.#buffer, BUFFER_BYTES, MSG_DONTWAIT, null, null);
      if (length >= 0) return this.#buffer.slice(0, length);
      // The error of an interface that went down is reported once, and the socket stays usable.
      if (length !== -EAGAIN && length !== -EINTR && length !== -ENETDOWN) {
        throw new SystemCallError({ action: 'receive a frame', call: 'recvfrom', errno: -length });
      }
      const left = deadline - performance.now();
      if (left <= 0) return null;
      waitReadable(this.fd, left);
    }
  }

  /** The first frame that `matches`, dropping others; null when none came within `timeoutMs`. */
  receiveMatching(matches: (frame: Uint8Array) => boolean, timeoutMs = 1000): Uint8Array | null {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const frame = this.receive(Math.max(0, deadline - performance.now()));
      if (frame === null || matches(frame)) return frame;
    }
  }

  /** Calls back with each frame, from the event loop. Keeps the process alive until closed. */
  watch(callback: (frame: Uint8Array) => void): { close(): void; unref(): void } {
    return watchReadable(this.fd, () => {
      for (let frame = this.receive(0); frame !== null; frame = this.receive(0)) callback(frame);
    });
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    tryCall('close', this.fd);
  }
}

export interface RawIpSocketOptions {
  readonly namespace?: NamespaceRef;
  /** Mark of all packets sent, as nftables and policy routing see it. */
  readonly mark?: number;
}

/** Sends IP packets that bring their own header; the kernel routes them and fills in what is zero of id and checksum. */
export class RawIpSocket {
  readonly fd: number;
  readonly #family: number;
  #open = true;

  constructor(family: 4 | 6, options: RawIpSocketOptions = {}) {
    this.#family = family === 4 ? AF_INET : AF_INET6;
    const action = `open a raw IPv${family} socket`;
    const create = (): number => systemCall(action, 'socket', this.#family, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
    this.fd = options.namespace === undefined ? create() : inNamespace(options.namespace, create);
    if (family === 6) systemCall(action, 'setsockopt', this.fd, SOL_IPV6, IPV6_HDRINCL, Uint32Array.of(1), 4);
    if (options.mark !== undefined) {
      systemCall(action, 'setsockopt', this.fd, SOL_SOCKET, SO_MARK, Uint32Array.of(options.mark), 4);
    }
  }

  /** On the way to its own destination, as its header says, or to `hop`: a host that has that address too. */
  send(packet: Uint8Array, hop = this.#family === AF_INET ? packet.subarray(16, 20) : packet.subarray(24, 40)): void {
    const address =
      this.#family === AF_INET
        ? pack([2, AF_INET], [2, 0], hop, new Uint8Array(8))
        : pack([2, AF_INET6], [2, 0], [4, 0], hop, [4, 0]);
    systemCall(
      `send an IP packet of ${packet.length} bytes`,
      'sendto',
      this.fd,
      packet,
      packet.length,
      0,
      address,
      address.length,
    );
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    tryCall('close', this.fd);
  }
}

/** Blocks until the file descriptor can be read; false when `timeoutMs` passed first. */
export function waitReadable(fd: number, timeoutMs: number): boolean {
  const nanoseconds = BigInt(Math.max(0, Math.ceil(timeoutMs * 1e6)));
  const timeout = BigInt64Array.of(nanoseconds / 1_000_000_000n, nanoseconds % 1_000_000_000n);
  return tryCall('ppoll', pack([4, fd], [2, POLLIN], [2, 0]), 1, timeout, null, 0) > 0;
}
