/** Headers as they lie on the wire (RFC 791, 8200, 9293, 768). All are views on the packet; nothing is copied. */
import { array, be16, be32, struct, u8, type ViewOf } from '@ipvsd/bpf';
import { Address4, Address6 } from './address.ts';

/** Bytes of the Ethernet header; a VLAN tag is held apart by the kernel. */
export const ETHERNET = 14;

/** Transport headers begin before this: a mask for where the compiler cannot see it. */
export const MAX_OFFSET = 0xfff;

export const IPPROTO_ICMP = 1;
export const IPPROTO_IPIP = 4;
export const IPPROTO_TCP = 6;
export const IPPROTO_UDP = 17;
export const IPPROTO_IPV6 = 41;
export const IPPROTO_GRE = 47;
/** The extension header of IPv6 fragments. */
export const IPPROTO_FRAGMENT = 44;
export const IPPROTO_ESP = 50;
export const IPPROTO_AH = 51;
export const IPPROTO_ICMPV6 = 58;
export const IPPROTO_SCTP = 132;

/** The link header's last field, at `ETHER_TYPE`. */
export const EtherType = struct('ether_type', { type: be16 });
export const ETHER_TYPE = 12;

export const Ipv4 = struct('ipv4', {
  versionAndLength: u8,
  tos: u8,
  length: be16,
  id: be16,
  /** Three flag bits and the fragment offset in units of 8 bytes. */
  fragment: be16,
  timeToLive: u8,
  protocol: u8,
  checksum: be16,
  source: Address4,
  destination: Address4,
});

export const Ipv6 = struct('ipv6', {
  versionAndClass: be32,
  payloadLength: be16,
  protocol: u8,
  timeToLive: u8,
  source: Address6,
  destination: Address6,
});

/** RFC 8200 4.5: the offset in units of 8 bytes in the upper 13 bits, the lowest says that more follow. */
export const Fragment6 = struct('fragment6', { next: u8, reserved: u8, offset: be16, id: be32 });
export const FRAGMENT6 = 8;

export const Tcp = struct('tcp', {
  sourcePort: be16,
  destinationPort: be16,
  sequence: be32,
  acknowledgement: be32,
  dataOffset: u8,
  flags: u8,
  window: be16,
  checksum: be16,
  urgent: be16,
});
export type Tcp = ViewOf<typeof Tcp>;

export const Udp = struct('udp', { sourcePort: be16, destinationPort: be16, length: be16, checksum: be16 });

/** The common header's beginning (RFC 9260); chunks follow it. */
export const Sctp = struct('sctp', { sourcePort: be16, destinationPort: be16, tag: be32, checksum: be32 });
export const SctpChunk = struct('sctp_chunk', { type: u8, flags: u8, length: be16 });

/** RFC 792, RFC 4443: what follows a message's first four bytes depends on its type; errors quote a packet after it. */
export const Icmp = struct('icmp', { type: u8, code: u8, checksum: be16, rest: be32 });
export const ICMP = 8;
/** Echo and its reply: who asks is told apart by the identifier. */
export const Echo = struct('echo', { type: u8, code: u8, checksum: be16, id: be16, sequence: be16 });

/** RFC 2784; where flags say so a checksum and two reserved bytes follow. */
export const Gre = struct('gre', { flags: be16, protocol: be16 });
export const GreChecksum = struct('gre_checksum', { checksum: be16, reserved: be16 });
/** Generic UDP encapsulation, behind a UDP header: version and length of options in words, protocol of what follows. */
export const Gue = struct('gue', { versionAndLength: u8, protocol: u8, flags: be16 });

/** Any transport with ports begins with them. */
export const Ports = struct('ports', { sourcePort: be16, destinationPort: be16 });
export type Ports = ViewOf<typeof Ports>;

export const Mac = array(u8, 6);
