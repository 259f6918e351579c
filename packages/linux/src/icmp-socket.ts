/**
 * Echo requests and their replies. The kernel's own ping socket where this process may have one (its group must be in
 * net.ipv4.ping_group_range), otherwise a raw one: then every ICMP message of the host comes by, and only echo replies
 * with our identifier are kept.
 */

import { AF_INET, AF_INET6, parseIp } from './address.ts';
import { pack } from './netlink.ts';
import { SystemCallError, systemCall, tryCall, watchReadable } from './syscall.ts';

const SOCK_DGRAM = 2;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const IPPROTO_ICMP = 1;
const IPPROTO_ICMPV6 = 58;
const MSG_DONTWAIT = 0x40;
const EINTR = 4;
const ECHO = { ipv4: { request: 8, reply: 0 }, ipv6: { request: 128, reply: 129 } } as const;
const HEADER_BYTES = 8;
const PAYLOAD = new TextEncoder().encode('ipvsd health check');
const BUFFER_BYTES = 2048;

export class IcmpSocket {
  readonly #fd: number;
  readonly #family: 'ipv4' | 'ipv6';
  readonly #raw: boolean;
  readonly #identifier = process.pid & 0xffff;
  readonly #watcher: { close(): void };
  readonly #buffer = new Uint8Array(BUFFER_BYTES);

  /** `onReply` gets the sequence number of each echo reply that is ours. */
  constructor(family: 'ipv4' | 'ipv6', onReply: (sequence: number) => void) {
    this.#family = family;
    const domain = family === 'ipv4' ? AF_INET : AF_INET6;
    const protocol = family === 'ipv4' ? IPPROTO_ICMP : IPPROTO_ICMPV6;
    const ping = tryCall('socket', domain, SOCK_DGRAM | SOCK_CLOEXEC, protocol);
    this.#raw = ping < 0;
    this.#fd = this.#raw
      ? systemCall('open an ICMP socket', 'socket', domain, SOCK_RAW | SOCK_CLOEXEC, protocol)
      : ping;
    this.#watcher = watchReadable(this.#fd, () => this.#read(onReply));
  }

  send(address: string, sequence: number): void {
    const packet = new Uint8Array(HEADER_BYTES + PAYLOAD.length);
    packet.set(pack([1, ECHO[this.#family].request], [1, 0], [2, 0]));
    new DataView(packet.buffer).setUint16(4, this.#identifier);
    new DataView(packet.buffer).setUint16(6, sequence);
    packet.set(PAYLOAD, HEADER_BYTES);
    // Over IPv6 the kernel fills the checksum in, which includes addresses it alone knows.
    if (this.#family === 'ipv4') new DataView(packet.buffer).setUint16(2, internetChecksum(packet));
    const bytes = parseIp(address);
    const to =
      this.#family === 'ipv4'
        ? pack([2, AF_INET], [2, 0], bytes, new Uint8Array(8))
        : pack([2, AF_INET6], [2, 0], [4, 0], bytes, [4, 0]);
    const sent = tryCall('sendto', this.#fd, packet, packet.length, MSG_DONTWAIT, to, to.length);
    if (sent < 0) throw new SystemCallError({ action: `ping ${address}`, call: 'sendto', errno: -sent });
  }

  close(): void {
    this.#watcher.close();
    tryCall('close', this.#fd);
  }

  #read(onReply: (sequence: number) => void): void {
    for (;;) {
      const length = tryCall('recvfrom', this.#fd, this.#buffer, BUFFER_BYTES, MSG_DONTWAIT, null, null);
      if (length === -EINTR) continue;
      if (length < 0) return;
      const message = this.#withoutIpHeader(this.#buffer.subarray(0, length));
      if (message.length < HEADER_BYTES || message[0] !== ECHO[this.#family].reply) continue;
      const view = new DataView(message.buffer, message.byteOffset, message.byteLength);
      // A ping socket has an identifier of the kernel's choosing, and is given only its own replies.
      if (!this.#raw || view.getUint16(4) === this.#identifier) onReply(view.getUint16(6));
    }
  }

  /** A raw IPv4 socket hands the IP header along. */
  #withoutIpHeader(packet: Uint8Array): Uint8Array {
    return this.#raw && this.#family === 'ipv4' ? packet.subarray((packet[0]! & 15) * 4) : packet;
  }
}

function internetChecksum(bytes: Uint8Array): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += (bytes[at]! << 8) | (bytes[at + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
