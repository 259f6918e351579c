/**
 * NAT (masquerading): the request's destination becomes the real server, the reply's source the virtual service again.
 *
 * Both are one rewriting of one address and one port. The IP header is patched directly; the transport checksum by the kernel,
 * as it may be left to the network card: addresses count into the pseudo header, ports do not.
 */
import { BPF_F_PSEUDO_HDR, type be16, l4CsumReplace, raw, type Skb, type u32, type ViewOf } from '@ipvsd/bpf';
import type { Family } from '../family.ts';
import type { Address4, Address6 } from '../packet/address.ts';
import type { Ipv4, Ports } from '../packet/headers.ts';

/**
 * Rewrite one side of the packet: `address` and `port` as the packet has them become `to` and `toPort`.
 * `checksum` is where the transport checksum lies in the packet. The views are stale afterwards.
 */
export function rewrite(
  skb: Skb,
  family: Family,
  ip: ViewOf<typeof Ipv4>,
  ports: Ports,
  side: Side,
  to: Address6,
  toPort: be16,
  checksum: u32,
): void {
  const address: Address4 = side.address(ip);
  const oldPort = side.port(ports);
  const difference = family.difference(address, to);
  family.narrow(address, to);
  side.setPort(ports, toPort);
  family.finish(ip, difference);
  l4CsumReplace(skb, checksum, 0, difference, BPF_F_PSEUDO_HDR);
  if (oldPort !== toPort) l4CsumReplace(skb, checksum, raw(oldPort), raw(toPort), 2);
}

export interface Side {
  readonly address: (ip: ViewOf<typeof Ipv4>) => Address4;
  readonly port: (ports: Ports) => be16;
  readonly setPort: (ports: Ports, port: be16) => void;
}

export const DESTINATION: Side = {
  address: (ip) => ip.destination,
  port: (ports) => ports.destinationPort,
  setPort: (ports, port) => {
    ports.destinationPort = port;
  },
};

export const SOURCE: Side = {
  address: (ip) => ip.source,
  port: (ports) => ports.sourcePort,
  setPort: (ports, port) => {
    ports.sourcePort = port;
  },
};
