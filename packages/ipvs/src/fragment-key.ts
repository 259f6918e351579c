/** What the fragments of one packet have in common, and where each lies in it (RFC 791, RFC 8200). */
import { ntohs, raw, type Skb, struct, u8, u16, u32, type ViewOf } from '@ipvsd/bpf';
import type { Family } from './family.ts';
import { Address6, AF_INET } from './packet/address.ts';
import {
  ETHERNET,
  FRAGMENT6,
  Fragment6,
  IPPROTO_GRE,
  IPPROTO_IPIP,
  IPPROTO_IPV6,
  IPPROTO_SCTP,
  Ipv4,
} from './packet/headers.ts';
import { isBalanced } from './protocol/index.ts';
import { ticksOf } from './settings.ts';

export const FragmentKey = struct('fragment_key', {
  source: Address6,
  destination: Address6,
  id: u32,
  protocol: u8,
  family: u8,
  /** In units of eight bytes; 0 where the packet as a whole is meant. */
  offset: u16,
});
export type FragmentKey = ViewOf<typeof FragmentKey>;

/** How long fragments may be under way: the kernel's ipfrag_time. */
export const FRAGMENT_AGE = ticksOf(30);

/** What `describe` says. */
export const NOT_OURS = 0;
export const FIRST = 1;
export const LATER = 2;
/** Later ones of what travels in tunnels: it may be a piece of our own. */
export const TUNNELLED = 3;

const OFFSET_4 = 0x1fff;

/**
 * Fills the key, its offset with the fragment's own, and says whether it is the first one.
 * @subprog
 */
export function describe(skb: Skb, family: Family, key: FragmentKey): u32 {
  const ip = skb.header(family.Header, ETHERNET);
  if (ip === null) return NOT_OURS;
  let offset: u32 = 0;
  let protocol: u8 = 0;
  if (family.number === AF_INET) {
    const ip4 = skb.header(Ipv4, ETHERNET);
    if (ip4 === null) return NOT_OURS;
    offset = ntohs(ip4.fragment) & OFFSET_4;
    key.id = raw(ip4.id);
    protocol = ip4.protocol;
  } else {
    const extension = skb.header(Fragment6, ETHERNET + 40);
    if (extension === null) return NOT_OURS;
    offset = ntohs(extension.offset) >>> 3;
    key.id = raw(extension.id);
    protocol = extension.next;
  }
  key.protocol = protocol;
  key.family = family.number;
  key.offset = offset;
  family.widen(key.source, ip.source);
  family.widen(key.destination, ip.destination);
  const tunnels = protocol === IPPROTO_IPIP || protocol === IPPROTO_IPV6 || protocol === IPPROTO_GRE;
  if (tunnels) return offset === 0 ? NOT_OURS : TUNNELLED;
  // SCTP's CRC over the whole packet cannot be mended in its first part.
  if (!isBalanced(protocol) || protocol === IPPROTO_SCTP) return NOT_OURS;
  return offset === 0 ? FIRST : LATER;
}

/** Where the fragment after the one at `offset` begins, in units of eight bytes. */
export function endOf(skb: Skb, family: Family, offset: u32): u32 {
  const ip = skb.header(family.Header, ETHERNET);
  if (ip === null) return 0;
  const header = family.transport(ip) - ETHERNET + (family.number === AF_INET ? 0 : FRAGMENT6);
  const length = family.length(ip);
  return length > header ? (offset + ((length - header) >>> 3)) & 0xffff : 0;
}
