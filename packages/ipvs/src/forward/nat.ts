/**
 * NAT (masquerading): the request's destination becomes the real server, the reply's source the virtual service again.
 *
 * Both are one rewriting of one address and one port. The IP header is patched directly; the transport checksum by the kernel,
 * as it may be left to the network card: addresses count into the pseudo header, ports do not.
 */
import { BPF_F_PSEUDO_HDR, type be16, l4CsumReplace, raw, type Skb, type u32, type ViewOf } from '@ipvsd/bpf';
import type { Family } from '../family.ts';
import type { Address4, Address6 } from '../packet/address.ts';
import { fold32 } from '../packet/checksum.ts';
import { IPPROTO_GRE, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP, type Ipv4, type Ports } from '../packet/headers.ts';
import { mendSctp } from './sctp-checksum.ts';
import { mendUdp } from './udp-checksum.ts';

/**
 * Rewrite one side of the packet: `address` and `port` as the packet has them become `to` and `toPort`. AH and ESP have no
 * ports, and what they protect is theirs. `protocol` is the transport's. The views are stale afterwards.
 */
export function rewrite(
  skb: Skb,
  family: Family,
  ip: ViewOf<typeof Ipv4>,
  ports: Ports,
  transport: u32,
  side: Side,
  to: Address6,
  toPort: be16,
  protocol: u32,
): void {
  const address: Address4 = side.address(ip);
  const oldPort = side.port(ports);
  const difference = family.difference(address, to);
  family.narrow(address, to);
  if (protocol === IPPROTO_TCP) {
    side.setPort(ports, toPort);
    family.finish(ip, difference);
    const checksum = transport + TCP_CHECKSUM;
    l4CsumReplace(skb, checksum, 0, difference, BPF_F_PSEUDO_HDR);
    if (oldPort !== toPort) l4CsumReplace(skb, checksum, raw(oldPort), raw(toPort), 2);
    return;
  }
  family.finish(ip, difference);
  if (protocol === IPPROTO_UDP) {
    side.setPort(ports, toPort);
    mendUdp(skb, family, transport, difference, raw(oldPort), raw(toPort));
  } else if (protocol === IPPROTO_SCTP && oldPort !== toPort) {
    // Addresses do not enter SCTP's checksum.
    side.setPort(ports, toPort);
    mendSctp(skb, family, transport, side.firstBytes, oldPort, toPort);
  }
}

/** The same for both sides at once. */
export function rewriteBoth(
  skb: Skb,
  family: Family,
  ip: ViewOf<typeof Ipv4>,
  ports: Ports,
  transport: u32,
  source: Address6,
  sourcePort: be16,
  destination: Address6,
  destinationPort: be16,
  protocol: u32,
): void {
  const oldSourcePort = ports.sourcePort;
  const oldDestinationPort = ports.destinationPort;
  const difference = fold32(family.difference(ip.source, source) + family.difference(ip.destination, destination));
  family.narrow(ip.source, source);
  family.narrow(ip.destination, destination);
  family.finish(ip, difference);
  // The number of a call is its receiver's already (call.ts), and nothing sums it up.
  if (protocol === IPPROTO_GRE) return;
  ports.sourcePort = sourcePort;
  ports.destinationPort = destinationPort;
  if (protocol === IPPROTO_SCTP) {
    if (oldSourcePort !== sourcePort) mendSctp(skb, family, transport, 1, oldSourcePort, sourcePort);
    if (oldDestinationPort !== destinationPort)
      mendSctp(skb, family, transport, 0, oldDestinationPort, destinationPort);
    return;
  }
  const old = wordOf(oldSourcePort, oldDestinationPort);
  const next = wordOf(sourcePort, destinationPort);
  if (protocol === IPPROTO_UDP) {
    mendUdp(skb, family, transport, difference, old, next);
    return;
  }
  const checksum = transport + TCP_CHECKSUM;
  l4CsumReplace(skb, checksum, 0, difference, BPF_F_PSEUDO_HDR);
  l4CsumReplace(skb, checksum, old, next, 4);
}

/** Two ports as they lie in the packet. */
const wordOf = (first: be16, second: be16): number => raw(first) + raw(second) * 0x1_0000;

/** Offset of the checksum in the TCP header. */
const TCP_CHECKSUM = 16;

export interface Side {
  readonly address: (ip: ViewOf<typeof Ipv4>) => Address4;
  readonly port: (ports: Ports) => be16;
  readonly setPort: (ports: Ports, port: be16) => void;
  /** 1 where its port lies in the first two bytes of the transport header, 0 where in the next two. */
  readonly firstBytes: number;
}

export const DESTINATION: Side = {
  address: (ip) => ip.destination,
  port: (ports) => ports.destinationPort,
  setPort: (ports, port) => {
    ports.destinationPort = port;
  },
  firstBytes: 0,
};

export const SOURCE: Side = {
  address: (ip) => ip.source,
  port: (ports) => ports.sourcePort,
  setPort: (ports, port) => {
    ports.sourcePort = port;
  },
  firstBytes: 1,
};
