/**
 * ICMP errors about our own packets in tunnels: a router on the way to a real server could not pass one on. Its quote holds what
 * the client sent, so the client gets the same error about its own packet (IPv4 in IPv4 only, as in the kernel).
 *
 * "Fragmentation needed" is remembered with the real server; the client first hears what our own route allows, and the next
 * packet that is too long what the router said.
 */
import {
  adjustRoom,
  assign,
  BPF_ADJ_ROOM_MAC,
  be16,
  htonl,
  htons,
  ntohl,
  raw,
  type Skb,
  stack,
  struct,
  tailCall,
  u8,
  u32,
} from '@ipvsd/bpf';
import { METHOD_MASK } from './connection/connection.ts';
import { directionOf, findFlow, NO_FLOW, numberOf } from './connection/flows.ts';
import { connectionAt } from './connection/lifecycle.ts';
import { because, REASONS } from './counters.ts';
import { IPV4, REQUEST } from './family.ts';
import { overheadOf, roomOf } from './forward/tunnel.ts';
import {
  ETHERNET,
  Gre,
  Gue,
  ICMP,
  Icmp,
  IPPROTO_GRE,
  IPPROTO_IPIP,
  IPPROTO_UDP,
  Ipv4,
  Ports,
  Udp,
} from './packet/headers.ts';
import { METHOD_TUNNEL, servers, TUNNEL_GRE, TUNNEL_GUE, TUNNEL_IPIP } from './service/service.ts';
import { now as clock } from './settings.ts';
import { ANSWER, errandOf, stages, UNRELATED } from './stages.ts';

const FOUND_IN = struct('found_in', { type: u8, reserved: u8, port: be16 });
const ETH_P_IP = htons(0x0800);
const GRE_CHECKSUM = raw(htons(0x8000));
const UNREACHABLE = 3;
const FRAGMENTATION_NEEDED = 4;
/** The least MTU of IPv4. */
const LEAST = 68;

/** The stage; for IPv4. */
export function ownTunnel(skb: Skb): number {
  const ip = skb.header(Ipv4, ETHERNET);
  if (ip === null) return because(REASONS.truncated);
  const at = IPV4.transport(ip);
  const icmp = skb.header(Icmp, at);
  const outer = skb.header(Ipv4, at + ICMP);
  if (icmp === null || outer === null) return because(REASONS.truncated);
  const behind = at + ICMP - ETHERNET + IPV4.transport(outer);
  const tunnel = stack(FOUND_IN);
  let start: u32 = 0;
  if (outer.protocol === IPPROTO_IPIP) {
    tunnel.type = TUNNEL_IPIP;
    start = behind;
  } else if (outer.protocol === IPPROTO_GRE) {
    const gre = skb.header(Gre, behind);
    if (gre !== null && gre.protocol === ETH_P_IP && (raw(gre.flags) & ~GRE_CHECKSUM) === 0) {
      tunnel.type = TUNNEL_GRE;
      start = behind + (raw(gre.flags) !== 0 ? 8 : 4);
    }
  } else if (outer.protocol === IPPROTO_UDP) {
    const udp = skb.header(Udp, behind);
    const gue = skb.header(Gue, behind + 8);
    if (udp !== null && gue !== null && gue.protocol === IPPROTO_IPIP && gue.versionAndLength < 32) {
      tunnel.type = TUNNEL_GUE;
      tunnel.port = udp.destinationPort;
      start = behind + 12 + gue.versionAndLength * 4;
    }
  }
  if (start === 0) return tailCall(skb, stages, UNRELATED);
  const sent = skb.header(Ipv4, start);
  if (sent === null || !IPV4.isValid(sent) || IPV4.isLaterFragment(sent)) return tailCall(skb, stages, UNRELATED);
  const ports = skb.header(Ports, start - ETHERNET + IPV4.transport(sent));
  if (ports === null) return tailCall(skb, stages, UNRELATED);
  const tuple = stack(IPV4.Tuple, {
    sourcePort: ports.sourcePort,
    destinationPort: ports.destinationPort,
    protocol: sent.protocol,
  });
  assign(tuple.source, sent.source);
  assign(tuple.destination, sent.destination);
  const flow = findFlow(IPV4, tuple);
  if (flow === NO_FLOW || directionOf(flow) !== REQUEST) return tailCall(skb, stages, UNRELATED);
  const c = connectionAt(numberOf(flow), clock());
  if (c === null || (c.flags & METHOD_MASK) !== METHOD_TUNNEL) return tailCall(skb, stages, UNRELATED);
  const server = servers.at(c.server);
  const errand = errandOf();
  if (server === null || errand === null) return because(REASONS.corrupt);
  const itsOwn =
    server.family === IPV4.number &&
    server.address.a === outer.destination.a &&
    server.tunnelType === tunnel.type &&
    (tunnel.type !== TUNNEL_GUE || server.tunnelPort === tunnel.port);
  if (!itsOwn) return tailCall(skb, stages, UNRELATED);

  const verdict = because(REASONS.tunnelError);
  errand.type = icmp.type;
  errand.code = icmp.code;
  errand.own = 0;
  errand.rest = icmp.rest;
  if (icmp.type === UNREACHABLE && icmp.code === FRAGMENTATION_NEEDED) {
    const whole = IPV4.isWhole(sent);
    const overhead = overheadOf(server, 20);
    const room = roomOf(server);
    const told = room > LEAST + overhead ? room - overhead : room;
    errand.rest = htonl(u32(told));
    const now = clock();
    server.pathMtu = ntohl(icmp.rest) & 0xffff;
    server.pathMtuAt = now;
    if (!whole) return verdict;
  }
  if (adjustRoom(skb, ETHERNET - start, BPF_ADJ_ROOM_MAC, 0) !== 0) return because(REASONS.truncated);
  return tailCall(skb, stages, ANSWER);
}
