/**
 * A packet in a tunnel, or of DR, that is too long for its way and may be fragmented is: the first piece leaves, the rest comes in
 * once more and is split again where need be. (IPv4 only: a router may not fragment IPv6. With options in its header it is dropped.)
 */
import {
  ANY,
  adjustRoom,
  BPF_ADJ_ROOM_NET,
  BPF_F_INGRESS,
  changeTail,
  cloneRedirect,
  csumDiff,
  htons,
  ntohs,
  raw,
  rawBe16,
  type Skb,
  stack,
  tailCall,
  u32,
  type ViewOf,
} from '@ipvsd/bpf';
import { because, REASONS } from '../counters.ts';
import { IPV4 } from '../family.ts';
import { FollowedFlow, followed, OUTWARDS } from '../followed.ts';
import { FragmentKey } from '../fragment-key.ts';
import { LONGEST, putAside, takeBack } from '../frame-store.ts';
import { ETHERNET, Ipv4 } from '../packet/headers.ts';
import { finishSum } from '../packet/sum.ts';
import { type RealServer, servers } from '../service/service.ts';
import { now as clock } from '../settings.ts';
import { errandOf, SPLIT, stages } from '../stages.ts';
import { findRoute, sendTo } from './route.ts';
import { roomOf } from './tunnel.ts';

const HEADER = 20;
const OFFSET = 0x1fff;
const MORE = 0x2000;

/** A piece that came in once more. */
export function sendPiece(skb: Skb, server: u32): number {
  const errand = errandOf();
  if (errand === null) return because(REASONS.corrupt);
  errand.server = server;
  return tailCall(skb, stages, SPLIT);
}

/** The stage. */
export function split(skb: Skb): number {
  const errand = errandOf();
  if (errand === null) return because(REASONS.corrupt);
  const number = errand.server;
  const server = servers.at(number);
  const ip = skb.header(Ipv4, ETHERNET);
  if (server === null || ip === null) return because(REASONS.corrupt);
  if (!findRoute(skb, IPV4, server.route, server.address, clock())) return because(REASONS.noRoute);
  const length = ntohs(ip.length);
  const room = roomOf(server, server.route.mtu);
  if (length <= room) return sendTo(skb, IPV4, server.route);
  const piece = (room - HEADER) & 0xff8;
  const own: u32 = length + ETHERNET;
  const plain = ip.versionAndLength === 0x45;
  if (!plain || own > LONGEST || length <= HEADER + piece || room <= HEADER) return because(REASONS.tooLong);
  const place = ntohs(ip.fragment);
  const begin = place & OFFSET;
  const more = place & MORE;
  if (begin === 0) remember(ip, number);
  if (!cut(skb, own, piece, begin, more)) return because(REASONS.tooLong);
  return sendFirst(skb, server, piece, begin);
}

/** Fragments of this packet that come in from now on are pieces for the real server. */
function remember(ip: ViewOf<typeof Ipv4>, server: u32): void {
  const key = stack(FragmentKey, { id: raw(ip.id), protocol: ip.protocol, family: IPV4.number });
  IPV4.widen(key.source, ip.source);
  IPV4.widen(key.destination, ip.destination);
  const entry = stack(FollowedFlow, { connection: server, direction: OUTWARDS, at: clock(), next: 0 });
  followed.update(key, entry, ANY);
}

/** What lies behind the first piece comes in as a packet of its own; the packet at hand is put aside. */
function cut(skb: Skb, own: u32, piece: u32, begin: u32, more: u32): boolean {
  if (skb.len !== own && changeTail(skb, own, 0) !== 0) return false;
  if (!putAside(skb, own) || adjustRoom(skb, -piece, BPF_ADJ_ROOM_NET, 0) !== 0) return false;
  if (!place(skb, u32(own - ETHERNET - piece) & 0xffff, more, begin + (piece >>> 3))) return false;
  return cloneRedirect(skb, skb.ifindex, BPF_F_INGRESS) === 0;
}

function sendFirst(skb: Skb, server: RealServer, piece: u32, begin: u32): number {
  const length: u32 = ETHERNET + HEADER + piece;
  if (adjustRoom(skb, piece, BPF_ADJ_ROOM_NET, 0) !== 0) return because(REASONS.tooLong);
  if (changeTail(skb, length, 0) !== 0 || !takeBack(skb, length)) return because(REASONS.tooLong);
  if (!place(skb, HEADER + piece, MORE, begin)) return because(REASONS.truncated);
  return sendTo(skb, IPV4, server.route);
}

/** The header says where in the packet this piece lies. */
function place(skb: Skb, length: u32, more: u32, offset: u32): boolean {
  const ip = skb.header(Ipv4, ETHERNET);
  if (ip === null) return false;
  ip.length = htons(length & 0xffff);
  ip.fragment = htons((more | (offset & OFFSET)) & 0xffff);
  ip.checksum = htons(0);
  ip.checksum = rawBe16(finishSum(u32(csumDiff(null, ip, 0))) & 0xffff);
  return true;
}
