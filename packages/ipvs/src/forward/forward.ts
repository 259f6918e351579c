/** How a request leaves for its real server: by the method that the connection had from its beginning. */
import type { Skb, u32, ViewOf } from '@ipvsd/bpf';
import { type Connection, METHOD_MASK } from '../connection/connection.ts';
import { because, REASONS } from '../counters.ts';
import type { Family } from '../family.ts';
import type { Ipv4, Ports } from '../packet/headers.ts';
import { METHOD_LOCAL, METHOD_MASQ, METHOD_TUNNEL, type RealServer } from '../service/service.ts';
import { now as clock } from '../settings.ts';
import { DESTINATION, rewrite } from './nat.ts';
import { findRoute, sendTo } from './route.ts';

export function forward(
  skb: Skb,
  family: Family,
  ip: ViewOf<typeof Ipv4>,
  ports: Ports,
  transport: u32,
  c: Connection,
  server: RealServer,
): number {
  const method = c.flags & METHOD_MASK;
  if (method === METHOD_LOCAL) return because(REASONS.local);
  if (ip.timeToLive <= 1) return because(REASONS.timeToLive);
  if (!findRoute(skb, family, server.route, server.address, clock())) return because(REASONS.noRoute);
  if (method === METHOD_MASQ) rewrite(skb, family, ip, ports, transport, DESTINATION, c.real, c.realPort);
  else if (method === METHOD_TUNNEL) return because(REASONS.tunnel);
  // DR: the real server has the virtual address itself; only the next hop is new, and the packet a hop older.
  else family.finish(ip, 0);
  return sendTo(family, server.route);
}
