/**
 * A packet from a client on its way to its real server: the whole story.
 *
 * in: a packet and the connection it belongs to; out: the verdict, with the packet rewritten and a next hop chosen.
 */
import { type Skb, u32, type ViewOf } from '@ipvsd/bpf';
import type { Connection } from './connection/connection.ts';
import { NO_OUTPUT } from './connection/connection.ts';
import { changeState } from './connection/lifecycle.ts';
import { ACK, afterRequest, ESTABLISHED } from './connection/tcp-state.ts';
import { because, REASONS } from './counters.ts';
import type { Family } from './family.ts';
import { DESTINATION, rewrite } from './forward/nat.ts';
import { findRoute, sendTo } from './forward/route.ts';
import type { Ipv4, Tcp } from './packet/headers.ts';
import { ETHERNET } from './packet/headers.ts';
import { countIn, SERVER_AVAILABLE, servers } from './service/service.ts';
import { settings } from './settings.ts';

/** Offset of the checksum in the TCP header. */
const TCP_CHECKSUM = 16;

export function request(
  skb: Skb,
  family: Family,
  ip: ViewOf<typeof Ipv4>,
  tcp: Tcp,
  transport: u32,
  c: Connection,
  event: u32,
  now: u32,
): number {
  const server = servers.at(c.server);
  if (server === null) return because(REASONS.corrupt);
  if ((server.flags & SERVER_AVAILABLE) === 0) return because(REASONS.serverGone);
  if (ip.timeToLive <= 1) return because(REASONS.timeToLive);
  if (!findRoute(skb, family, server.route, server.address, now)) return because(REASONS.noRoute);

  countIn(c.server, u32(skb.len - ETHERNET));
  const state = c.state;
  if (event !== ACK || state !== ESTABLISHED) {
    changeState(c, server, state, afterRequest(state, event, (c.flags & NO_OUTPUT) !== 0));
  }
  rearm(c, now);
  rewrite(skb, family, ip, tcp, DESTINATION, c.real, c.realPort, transport + TCP_CHECKSUM);
  return sendTo(family, server.route);
}

/** The timer starts anew with its state's timeout. Nothing is written that already says so: the line may be shared. */
export function rearm(c: Connection, now: u32): void {
  const timeout = settings.only.tcpTimeouts.get(c.state & 15);
  if (c.timeout !== timeout) c.timeout = timeout;
  if (c.lastSeen !== now) c.lastSeen = now;
}
