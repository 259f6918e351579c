/**
 * IPv4 and IPv6 as two values of one type. The packet path takes a family as a build-time argument, so it is written once
 * and compiled twice, each copy with its own header, key size and map.
 */
import {
  array,
  assign,
  be16,
  type be32,
  htonl,
  htons,
  ntohl,
  ntohs,
  raw,
  rawBe16,
  rawBe32,
  struct,
  u8,
  u32,
  u64,
  type ViewOf,
} from '@ipvsd/bpf';
import { Address4, Address6, AF_INET, AF_INET6 } from './packet/address.ts';
import { fold32, patch, wordDifference } from './packet/checksum.ts';
import { ETHERNET, IPPROTO_FRAGMENT, IPPROTO_GRE, IPPROTO_ICMP, IPPROTO_ICMPV6, Ipv4, Ipv6 } from './packet/headers.ts';
import { settings } from './settings.ts';

/** Which way a packet goes. */
export const REQUEST = 0;
export const REPLY = 1;

/** Kinds of tuples. */
export const OF_PACKETS = 0;
export const OF_TEMPLATE = 1;

const tuple = { sourcePort: be16, destinationPort: be16, protocol: u8, kind: u8, reserved: array(u8, 2) };
/**
 * A packet's own addresses and ports: both directions of a connection are found by what the packet itself says. Templates
 * (kind 1) are found the same way, where no packet's tuple can meet them.
 */
export const Tuple4 = struct('tuple4', { source: Address4, destination: Address4, ...tuple });
export const Tuple6 = struct('tuple6', { source: Address6, destination: Address6, ...tuple });

/** A packet of a call bears the number that it has at its receiver only. */
export const sourceOf = (protocol: u8, port: be16): be16 => (protocol === IPPROTO_GRE ? rawBe16(0) : port);

type Tuple4 = ViewOf<typeof Tuple4>;
type Tuple6 = ViewOf<typeof Tuple6>;

/** Odd, and no bit follows from others. */
const FACTOR = 0x9e37_79b9_7f4a_7c15n;

/** 64 more bits into a hash: a bijection of them for a seed that nobody knows, and of the seed. */
function stir(seed: u64, one: be32, other: be32): u64 {
  const product = u64((seed ^ u64(u64(raw(one)) + u64(u64(raw(other)) << 32n))) * FACTOR);
  return u64(product ^ (product >> 32n));
}

type Header4 = ViewOf<typeof Ipv4>;
type Header6 = ViewOf<typeof Ipv6>;

const FRAGMENT_MASK = raw(htons(0x3fff));
const FRAGMENT_OFFSET = raw(htons(0x1fff));
const DO_NOT_FRAGMENT = raw(htons(0x4000));
const CONGESTED = 3;
const CONGESTED6 = raw(htonl(CONGESTED * 0x10_0000));

export const IPV4 = {
  number: AF_INET as number,
  Header: Ipv4,
  Tuple: Tuple4,
  Address: Address4,
  hasServices: (): u32 => settings.only.services4,
  /** Where the transport header lies, link header included; options are skipped. */
  transport: (ip: Header4): u32 => ETHERNET + (ip.versionAndLength & 0xf) * 4,
  /** By the header itself; IPv6 says so in an extension. First fragments too: they carry MF. */
  isFragment: (ip: Header4): boolean => (raw(ip.fragment) & FRAGMENT_MASK) !== 0,
  isFragmented: (ip: Header4): boolean => (raw(ip.fragment) & FRAGMENT_MASK) !== 0,
  isLaterFragment: (ip: Header4): boolean => (raw(ip.fragment) & FRAGMENT_OFFSET) !== 0,
  /** Routers may not fragment it. */
  isWhole: (ip: Header4): boolean => (raw(ip.fragment) & DO_NOT_FRAGMENT) !== 0,
  isValid: (ip: Header4): boolean => ip.versionAndLength >= 0x45 && ip.versionAndLength <= 0x4f,
  /** From 16 bytes to the family's own, and back. */
  narrow: (to: Address4, from: Address6): void => {
    to.a = from.a;
  },
  widen: (to: Address6, from: Address4): void => {
    to.a = from.a;
    to.b = rawBe32(0);
    to.c = rawBe32(0);
    to.d = rawBe32(0);
  },
  /** 0 where they are the same address; no branch, as each is one more way for the verifier. */
  apart: (one: Address4, other: Address6): number => raw(one.a) ^ raw(other.a),
  /** Both addresses, stirred into `seed` until each bit depends on all. */
  stir: (seed: u64, { source, destination }: Tuple4): u64 => stir(seed, source.a, destination.a),
  /** How the ones' complement sum changes when `old` becomes `next`. */
  difference: (old: Address4, next: Address6): number => fold32(wordDifference(raw(old.a), raw(next.a))),
  /** One hop less, and the header checksum mended for that and for an address that changed by `difference`. */
  finish: (ip: Header4, difference: u32): void => {
    ip.timeToLive = u8(ip.timeToLive - 1);
    // A time to live less one is, in the machine's order, its 16-bit word less one: plus 0xfffe in ones' complement.
    ip.checksum = patch(ip.checksum, fold32(difference + 0xfffe));
  },
  /** Header and all that follows. */
  length: (ip: Header4): u32 => ntohs(ip.length),
  /** The addresses' part of a pseudo header's sum, not folded. */
  sum: (ip: Header4): number => raw(ip.source.a) + raw(ip.destination.a),
  icmp: IPPROTO_ICMP,
  /** Unreachable, source quench, time exceeded: errors that are about a connection. */
  isError: (type: u8): boolean => type === 3 || type === 4 || type === 11,
  echoRequest: 8 as number,
  echoReply: 0 as number,
  /** What goes before an ICMP message of that length where its checksum is made: nothing. */
  icmpSum: (_ip: Header4, _length: u32): number => 0,
  tos: (ip: Header4): u8 => ip.tos,
  /** Explicit congestion notification (RFC 3168): a router on the way was congested. */
  isCongested: (ip: Header4): boolean => (ip.tos & CONGESTED) === CONGESTED,
  /** Say so in this header; false where its sender does not take part. */
  setCongested: (ip: Header4): boolean => {
    const tos = ip.tos;
    if ((tos & CONGESTED) === 0) return false;
    // The second byte of its 16-bit word.
    ip.checksum = patch(ip.checksum, fold32(wordDifference(raw(htons(tos)), raw(htons(tos | CONGESTED)))));
    ip.tos = tos | CONGESTED;
    return true;
  },
};

export type Family = typeof IPV4;

/** Typed as its sibling: the fields that both headers have go by the same names. */
export const IPV6: Family = {
  number: AF_INET6,
  Header: Ipv6,
  Tuple: Tuple6,
  Address: Address6,
  hasServices: (): u32 => settings.only.services6,
  transport: (_ip: Header6): u32 => ETHERNET + 40,
  isFragment: (_ip: Header6): boolean => false,
  isFragmented: (ip: Header6): boolean => ip.protocol === IPPROTO_FRAGMENT,
  isLaterFragment: (_ip: Header6): boolean => false,
  isWhole: (_ip: Header6): boolean => true,
  isValid: (ip: Header6): boolean => (raw(ip.versionAndClass) & 0xf0) === 0x60,
  narrow: (to: Address6, from: Address6): void => assign(to, from),
  widen: (to: Address6, from: Address6): void => assign(to, from),
  apart: (one: Address6, other: Address6): number =>
    (raw(one.a) ^ raw(other.a)) |
    (raw(one.b) ^ raw(other.b)) |
    (raw(one.c) ^ raw(other.c)) |
    (raw(one.d) ^ raw(other.d)),
  stir: (seed: u64, { source, destination }: Tuple6): u64 =>
    stir(
      stir(stir(stir(seed, source.a, source.b), source.c, source.d), destination.a, destination.b),
      destination.c,
      destination.d,
    ),
  difference: (old: Address6, next: Address6): number =>
    fold32(
      wordDifference(raw(old.a), raw(next.a)) +
        wordDifference(raw(old.b), raw(next.b)) +
        wordDifference(raw(old.c), raw(next.c)) +
        wordDifference(raw(old.d), raw(next.d)),
    ),
  finish: (ip: Header6, _difference: u32): void => {
    ip.timeToLive = u8(ip.timeToLive - 1);
  },
  length: (ip: Header6): u32 => ntohs(ip.payloadLength) + 40,
  sum: (ip: Header6): number =>
    raw(ip.source.a) +
    raw(ip.source.b) +
    raw(ip.source.c) +
    raw(ip.source.d) +
    raw(ip.destination.a) +
    raw(ip.destination.b) +
    raw(ip.destination.c) +
    raw(ip.destination.d),
  icmp: IPPROTO_ICMPV6,
  isError: (type: u8): boolean => type < 128,
  echoRequest: 128,
  echoReply: 129,
  icmpSum: (ip: Header6, length: u32): number =>
    raw(ip.source.a) +
    raw(ip.source.b) +
    raw(ip.source.c) +
    raw(ip.source.d) +
    raw(ip.destination.a) +
    raw(ip.destination.b) +
    raw(ip.destination.c) +
    raw(ip.destination.d) +
    raw(htons(length & 0xffff)) +
    raw(htons(IPPROTO_ICMPV6)),
  /** The traffic class: four bits in each of the first two bytes. */
  tos: (ip: Header6): u8 => u8((ntohl(ip.versionAndClass) >>> 20) & 0xff),
  isCongested: (ip: Header6): boolean => (raw(ip.versionAndClass) & CONGESTED6) === CONGESTED6,
  setCongested: (ip: Header6): boolean => {
    if ((raw(ip.versionAndClass) & CONGESTED6) === 0) return false;
    ip.versionAndClass = rawBe32(u32(raw(ip.versionAndClass) | CONGESTED6));
    return true;
  },
} as unknown as Family;

export const FAMILIES = [IPV4, IPV6];
