/** A packet from a real server on its way back to the client, who must see the virtual service as its source. */
import { type Skb, u32, type ViewOf } from '@ipvsd/bpf';
import type { Connection } from './connection/connection.ts';
import { changeState } from './connection/lifecycle.ts';
import { ACK, afterReply, ESTABLISHED } from './connection/tcp-state.ts';
import { because, REASONS } from './counters.ts';
import type { Family } from './family.ts';
import { rewrite, SOURCE } from './forward/nat.ts';
import { findRoute, sendTo } from './forward/route.ts';
import type { Ipv4, Tcp } from './packet/headers.ts';
import { ETHERNET } from './packet/headers.ts';
import { rearm } from './request.ts';
import { countOut, SERVER_AVAILABLE, servers } from './service/service.ts';

const TCP_CHECKSUM = 16;

export function reply(
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
  if (ip.timeToLive <= 1) return because(REASONS.timeToLive);
  if (!findRoute(skb, family, c.route, c.client, now)) return because(REASONS.noRoute);

  // A removed real server's replies still pass; only what is in service is counted (as IPVS does).
  if ((server.flags & SERVER_AVAILABLE) !== 0) countOut(c.server, u32(skb.len - ETHERNET));
  const state = c.state;
  if (event !== ACK || state !== ESTABLISHED) changeState(c, server, state, afterReply(state, event));
  rearm(c, now);
  rewrite(skb, family, ip, tcp, SOURCE, c.virtual, c.virtualPort, transport + TCP_CHECKSUM);
  return sendTo(family, c.route);
}
