/**
 * A packet that is too long for its way and may be fragmented is: in a tunnel, of DR, and under FULLNAT, where the host cannot do it.
 * The first piece leaves, the rest comes in once more and is split again where need be.
 *
 * A router may not fragment IPv6, but who puts a packet of IPv4 into a tunnel of IPv6 is the outer packet's sender and may (RFC 2473
 * section 7.2), as the kernel's IPVS does: each piece then has an extension header. With options in its header it is dropped.
 */
import {
  ANY,
  adjustRoom,
  assign,
  BPF_ADJ_ROOM_NET,
  BPF_F_INGRESS,
  changeTail,
  cloneRedirect,
  csumDiff,
  htons,
  ntohs,
  raw,
  rawBe16,
  rawBe32,
  type Skb,
  stack,
  struct,
  u8,
  u32,
  type ViewOf,
} from '@ipvsd/bpf';
import { connections } from '../connection/connection.ts';
import { localEnds } from '../connection/local-end.ts';
import { because, REASONS } from '../counters.ts';
import type { Family } from '../family.ts';
import { FollowedFlow, followed, OUTWARDS, TOWARDS_CLIENT } from '../followed.ts';
import { FragmentKey } from '../fragment-key.ts';
import { LONGEST, putAside, takeBack } from '../frame-store.ts';
import { Address6, AF_INET } from '../packet/address.ts';
import { ETHERNET, FRAGMENT6, Fragment6, IPPROTO_FRAGMENT, Ipv4, Ipv6 } from '../packet/headers.ts';
import { finishSum } from '../packet/sum.ts';
import { Route, servers } from '../service/service.ts';
import { now as clock, draw } from '../settings.ts';
import { errandOf } from '../stages.ts';
import { findRoute, sendTo } from './route.ts';
import { roomOf } from './tunnel.ts';

/** Bytes before a piece's own: the IP header, in IPv6 with its extension. */
const HEADER_4 = 20;
const HEADER_6 = 40 + FRAGMENT6;
const NO_OPTIONS = 0x45;
const OFFSET = 0x1fff;
const MORE = 0x2000;
const MORE_6 = 1;
/** Which of a packet's random numbers is the name of its pieces (settings.ts). */
const OF_PIECES = 9;

/** Where a piece lies in its packet, in units of eight bytes; whether more follow; what IPv6 says in the extension. */
const Place = struct('piece_place', { begin: u32, more: u32, id: u32, next: u8 });
type Place = ViewOf<typeof Place>;

/** The stage. */
export function split(skb: Skb, family: Family): number {
  const errand = errandOf();
  if (errand === null) return because(REASONS.corrupt);
  const { server: number, direction: towards } = errand;
  const route = stack(Route);
  const destination = stack(Address6);
  if (!findWay(towards, number, route, destination)) return because(REASONS.corrupt);
  if (!findRoute(skb, family, route, destination, clock())) return because(REASONS.noRoute);
  const server = servers.at(number);
  const { mtu } = route;
  const room: u32 = towards === OUTWARDS && server !== null ? roomOf(server, mtu) : mtu;
  const whole = skb.header(family.Header, ETHERNET);
  if (whole === null) return because(REASONS.corrupt);
  if (family.length(whole) <= room) return sendTo(skb, family, route);
  const place = stack(Place);
  if (!readPlace(skb, family, place)) return because(REASONS.tooLong);
  const ip = skb.header(family.Header, ETHERNET);
  if (ip === null) return because(REASONS.corrupt);
  const header: u32 = family.number === AF_INET ? HEADER_4 : HEADER_6;
  const length = family.length(ip);
  if (room <= header) return because(REASONS.tooLong);
  const piece = (room - header) & 0xff8;
  const own: u32 = length + ETHERNET;
  if (own > LONGEST || piece === 0 || length <= header + piece) return because(REASONS.tooLong);
  remember(family, ip, place, towards, number);
  if (!cut(skb, family, own, piece, place)) return because(REASONS.tooLong);
  return sendFirst(skb, family, route, piece, place);
}

/** The way that its pieces take, as it is known. */
function findWay(towards: u32, number: u32, route: Route, destination: Address6): boolean {
  if (towards === OUTWARDS) {
    const server = servers.at(number);
    if (server === null) return false;
    assign(route, server.route);
    assign(destination, server.address);
    return true;
  }
  const c = connections.at(number);
  const end = localEnds.at(number);
  if (c === null || end === null) return false;
  if (towards === TOWARDS_CLIENT) {
    assign(route, c.route);
    assign(destination, c.client);
  } else {
    assign(route, end.route);
    assign(destination, c.real);
  }
  return true;
}

/** What it says of its place. One of IPv6 that is no piece yet becomes one, the only one. False where it cannot be split. */
function readPlace(skb: Skb, family: Family, place: Place): boolean {
  if (family.number === AF_INET) {
    const ip = skb.header(Ipv4, ETHERNET);
    if (ip === null || ip.versionAndLength !== NO_OPTIONS) return false;
    const said = ntohs(ip.fragment);
    place.begin = said & OFFSET;
    place.more = said & MORE;
    place.id = raw(ip.id);
    place.next = ip.protocol;
    return true;
  }
  const ip = skb.header(Ipv6, ETHERNET);
  if (ip === null) return false;
  if (ip.protocol !== IPPROTO_FRAGMENT) {
    place.begin = 0;
    place.more = 0;
    place.id = draw(OF_PIECES);
    place.next = ip.protocol;
    const longer = u32(ntohs(ip.payloadLength) + FRAGMENT6) & 0xffff;
    ip.protocol = IPPROTO_FRAGMENT;
    ip.payloadLength = htons(longer);
    return adjustRoom(skb, FRAGMENT6, BPF_ADJ_ROOM_NET, 0) === 0 && writeExtension(skb, place, 0, 0);
  }
  const extension = skb.header(Fragment6, ETHERNET + Ipv6.size);
  if (extension === null) return false;
  const said = ntohs(extension.offset);
  place.begin = said >>> 3;
  place.more = said & MORE_6;
  place.id = raw(extension.id);
  place.next = extension.next;
  return true;
}

/** Fragments of this packet that come in from now on are pieces that take the same way. */
function remember(family: Family, ip: ViewOf<typeof Ipv4>, place: Place, towards: u32, number: u32): void {
  const key = stack(FragmentKey, { id: place.id, protocol: place.next, family: family.number });
  family.widen(key.source, ip.source);
  family.widen(key.destination, ip.destination);
  const entry = stack(FollowedFlow, { connection: number, direction: towards, at: clock(), next: 0 });
  followed.update(key, entry, ANY);
}

/** What lies behind the first piece comes in as a packet of its own; the packet at hand is put aside. */
function cut(skb: Skb, family: Family, own: u32, piece: u32, place: Place): boolean {
  if (skb.len !== own && changeTail(skb, own, 0) !== 0) return false;
  if (!putAside(skb, own) || adjustRoom(skb, -piece, BPF_ADJ_ROOM_NET, 0) !== 0) return false;
  if (!write(skb, family, place, u32(own - ETHERNET - piece) & 0xffff, place.more, u32(place.begin + (piece >>> 3)))) {
    return false;
  }
  return cloneRedirect(skb, skb.ifindex, BPF_F_INGRESS) === 0;
}

function sendFirst(skb: Skb, family: Family, route: Route, piece: u32, place: Place): number {
  const v4 = family.number === AF_INET;
  const header = v4 ? HEADER_4 : HEADER_6;
  const length: u32 = ETHERNET + header + piece;
  if (adjustRoom(skb, piece, BPF_ADJ_ROOM_NET, 0) !== 0) return because(REASONS.tooLong);
  if (changeTail(skb, length, 0) !== 0 || !takeBack(skb, length)) return because(REASONS.tooLong);
  const more = v4 ? MORE : MORE_6;
  if (!write(skb, family, place, u32(header + piece), more, place.begin)) return because(REASONS.truncated);
  return sendTo(skb, family, route);
}

/** The headers of a packet of `length` bytes say where in the whole it lies. */
function write(skb: Skb, family: Family, place: Place, length: u32, more: u32, begin: u32): boolean {
  if (family.number !== AF_INET) {
    const ip = skb.header(Ipv6, ETHERNET);
    if (ip === null) return false;
    ip.payloadLength = htons(u32(length - Ipv6.size) & 0xffff);
    return writeExtension(skb, place, more, begin);
  }
  const ip = skb.header(Ipv4, ETHERNET);
  if (ip === null) return false;
  ip.length = htons(length & 0xffff);
  ip.fragment = htons((more | (begin & OFFSET)) & 0xffff);
  ip.checksum = htons(0);
  ip.checksum = rawBe16(finishSum(u32(csumDiff(null, ip, 0))) & 0xffff);
  return true;
}

function writeExtension(skb: Skb, place: Place, more: u32, begin: u32): boolean {
  const extension = skb.header(Fragment6, ETHERNET + Ipv6.size);
  if (extension === null) return false;
  extension.next = place.next;
  extension.reserved = 0;
  extension.offset = htons(((begin << 3) | more) & 0xffff);
  extension.id = rawBe32(place.id);
  return true;
}
