/**
 * Netlink: requests to the kernel as length-prefixed messages over a socket, answered synchronously.
 *
 *     | length u32 | type u16 | flags u16 | sequence u32 | port u32 | payload | attribute | attribute ...
 *     attribute: | length u16 | type u16 | value, padded to 4 |
 *
 * A socket belongs to the network namespace that it was opened in, so one opened there can be used from here.
 */

import { inNamespace, type NamespaceRef } from './namespace.ts';
import { SystemCallError, systemCall, tryCall } from './syscall.ts';

/** Attributes of an answer by type. A type given twice keeps its last value. */
export type Attributes = ReadonlyMap<number, Uint8Array>;

export interface NetlinkMessage {
  readonly type: number;
  /** After the netlink header: the fixed part of the type, then attributes. */
  readonly payload: Uint8Array;
}

/** The kernel understood the request and refused; the message carries its own words where it gave any. */
export class NetlinkError extends SystemCallError {
  /** The kernel's explanation ("extended ack"), where it gave one. */
  readonly explanation: string | undefined;

  constructor(action: string, errno: number, explanation: string | undefined) {
    super({
      action,
      call: 'netlink',
      errno,
      ...(explanation === undefined ? {} : { hint: `the kernel says: ${explanation}` }),
    });
    this.explanation = explanation;
  }
}

export const NLM_F_REQUEST = 1;
export const NLM_F_ACK = 4;
export const NLM_F_DUMP = 0x300;
export const NLM_F_REPLACE = 0x100;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;
export const NLM_F_APPEND = 0x800;

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const NETLINK_ROUTE = 0;
const SOL_SOCKET = 1;
const SO_RCVTIMEO = 20;
const SOL_NETLINK = 270;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const NLM_F_MULTI = 2;
const NLM_F_ACK_TLVS = 0x200;
const NLMSGERR_ATTR_MSG = 1;
const HEADER_BYTES = 16;
const MSG_TRUNC = 0x20;
const EINTR = 4;
/** The kernel builds dump answers of at most 32 KiB when it sees a buffer that large. */
const BUFFER_BYTES = 65_536;
/** The kernel answers within the system call that asks; this only keeps a bug from hanging the process. */
const ANSWER_TIMEOUT_S = 5n;

export class NetlinkSocket {
  readonly #fd: number;
  readonly #buffer = new Uint8Array(BUFFER_BYTES);
  #sequence = 1;
  #open = true;

  constructor(namespace?: NamespaceRef, protocol: number = NETLINK_ROUTE) {
    const create = (): number =>
      systemCall('open a netlink socket', 'socket', AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
    this.#fd = namespace === undefined ? create() : inNamespace(namespace, create);
    const on = Uint32Array.of(1);
    tryCall('setsockopt', this.#fd, SOL_NETLINK, NETLINK_EXT_ACK, on, 4);
    tryCall('setsockopt', this.#fd, SOL_NETLINK, NETLINK_CAP_ACK, on, 4);
    tryCall('setsockopt', this.#fd, SOL_SOCKET, SO_RCVTIMEO, BigInt64Array.of(ANSWER_TIMEOUT_S, 0n), 16);
  }

  /** Sends one request and returns the answers before the acknowledgement; `action` completes "Cannot ...". */
  request(action: string, type: number, flags: number, payload: Uint8Array): NetlinkMessage[] {
    const sequence = this.#sequence++;
    const dump = (flags & NLM_F_DUMP) === NLM_F_DUMP;
    const message = new Uint8Array(HEADER_BYTES + payload.length);
    const view = new DataView(message.buffer);
    view.setUint32(0, message.length, true);
    view.setUint16(4, type, true);
    view.setUint16(6, flags | NLM_F_REQUEST | (dump ? 0 : NLM_F_ACK), true);
    view.setUint32(8, sequence, true);
    message.set(payload, HEADER_BYTES);
    systemCall(action, 'sendto', this.#fd, message, message.length, 0, null, 0);
    return this.#receive(action, sequence);
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    tryCall('close', this.#fd);
  }

  #receive(action: string, sequence: number): NetlinkMessage[] {
    const answers: NetlinkMessage[] = [];
    for (;;) {
      const length = tryCall('recvfrom', this.#fd, this.#buffer, BUFFER_BYTES, MSG_TRUNC, null, null);
      if (length === -EINTR) continue;
      if (length < 0) throw new SystemCallError({ action, call: 'recvfrom', errno: -length });
      if (length > BUFFER_BYTES)
        throw new Error(`Cannot ${action}: the answer has ${length} bytes, must be <= ${BUFFER_BYTES}`);
      if (this.#collect(action, sequence, length, answers)) return answers;
    }
  }

  /** True when the answer is complete. */
  #collect(action: string, sequence: number, length: number, answers: NetlinkMessage[]): boolean {
    const view = new DataView(this.#buffer.buffer, 0, length);
    for (let at = 0; at + HEADER_BYTES <= length; ) {
      const size = view.getUint32(at, true);
      const type = view.getUint16(at + 4, true);
      const flags = view.getUint16(at + 6, true);
      const body = this.#buffer.slice(at + HEADER_BYTES, at + size);
      const ours = view.getUint32(at + 8, true) === sequence;
      at += align(size);
      if (!ours) continue;
      if (type === NLMSG_ERROR || type === NLMSG_DONE) {
        const errno = body.length >= 4 ? -new DataView(body.buffer).getInt32(0, true) : 0;
        if (errno > 0) throw new NetlinkError(action, errno, explanation(type, flags, body));
        return true;
      }
      answers.push({ type, payload: body });
      if ((flags & NLM_F_MULTI) === 0 && type === NLMSG_DONE) return true;
    }
    return false;
  }
}

/** A message body or attribute value, field by field in host order. */
export function pack(...fields: readonly (readonly [bytes: 1 | 2 | 4, value: number] | Uint8Array)[]): Uint8Array {
  const size = fields.reduce((sum, field) => sum + (field instanceof Uint8Array ? field.length : field[0]), 0);
  const out = new Uint8Array(size);
  const view = new DataView(out.buffer);
  let at = 0;
  for (const field of fields) {
    if (field instanceof Uint8Array) {
      out.set(field, at);
      at += field.length;
      continue;
    }
    const [bytes, value] = field;
    if (bytes === 1) view.setUint8(at, value);
    else if (bytes === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += bytes;
  }
  return out;
}

/** An attribute; several values make a nested one. Text gets its closing zero, a number is a u32. */
export function attribute(type: number, ...values: readonly (Uint8Array | string | number)[]): Uint8Array {
  const value = pack(...values.map(attributeValue));
  const out = new Uint8Array(align(4 + value.length));
  out.set(pack([2, 4 + value.length], [2, type], value));
  return out;
}

/** The messages of one datagram. */
export function parseMessages(bytes: Uint8Array): NetlinkMessage[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const messages: NetlinkMessage[] = [];
  for (let at = 0; at + HEADER_BYTES <= bytes.length; ) {
    const length = view.getUint32(at, true);
    if (length < HEADER_BYTES) break;
    messages.push({ type: view.getUint16(at + 4, true), payload: bytes.subarray(at + HEADER_BYTES, at + length) });
    at += align(length);
  }
  return messages;
}

/** Attributes from `offset` on. */
export function parseAttributes(bytes: Uint8Array, offset = 0): Attributes {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const attributes = new Map<number, Uint8Array>();
  for (let at = offset; at + 4 <= bytes.length; ) {
    const length = view.getUint16(at, true);
    if (length < 4) break;
    // The top two bits say "nested" and "network order".
    attributes.set(view.getUint16(at + 2, true) & 0x3fff, bytes.subarray(at + 4, at + length));
    at += align(length);
  }
  return attributes;
}

export function u32Of(bytes: Uint8Array | undefined): number | undefined {
  return bytes === undefined ? undefined : new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
}

export function textOf(bytes: Uint8Array | undefined): string | undefined {
  return bytes === undefined ? undefined : new TextDecoder().decode(bytes).split('\0', 1)[0];
}

function attributeValue(value: Uint8Array | string | number): Uint8Array {
  if (typeof value === 'number') return pack([4, value]);
  return typeof value === 'string' ? new TextEncoder().encode(`${value}\0`) : value;
}

function explanation(type: number, flags: number, body: Uint8Array): string | undefined {
  if ((flags & NLM_F_ACK_TLVS) === 0) return undefined;
  // An error repeats the header of the request before its attributes, a "done" does not.
  const attributes = parseAttributes(body, type === NLMSG_ERROR ? 4 + HEADER_BYTES : 4);
  return textOf(attributes.get(NLMSGERR_ATTR_MSG));
}

function align(length: number): number {
  return (length + 3) & ~3;
}
