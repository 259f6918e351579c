/** How a request leaves for its real server: by the method that the connection had from its beginning. */
import { type Skb, tailCall, type u32, type ViewOf } from '@ipvsd/bpf';
import { type Connection, METHOD_MASK } from '../connection/connection.ts';
import { endOnce } from '../connection/once.ts';
import { because, REASONS } from '../counters.ts';
import { type Family, REQUEST } from '../family.ts';
import { OUTWARDS } from '../followed.ts';
import type { Ipv4, Ports } from '../packet/headers.ts';
import { METHOD_FULLNAT, METHOD_LOCAL, METHOD_MASQ, METHOD_ROUTE, type RealServer } from '../service/service.ts';
import { errandOf, stages, TUNNEL } from '../stages.ts';
import { answerWith, TIME_EXCEEDED, TOO_BIG } from './answer.ts';
import { enterFullnat } from './fullnat.ts';
import { DESTINATION, rewrite } from './nat.ts';
import { splitWhole } from './piece.ts';
import { findRoute, isTooLong, sendTo } from './route.ts';

export function forward(
  skb: Skb,
  family: Family,
  ip: ViewOf<typeof Ipv4>,
  ports: Ports,
  transport: u32,
  c: Connection,
  server: RealServer,
  protocol: u32,
): number {
  const method = c.flags & METHOD_MASK;
  // Most packets by far are of NAT or DR: one question for all others.
  const another = method !== METHOD_MASQ && method !== METHOD_ROUTE;
  if (another && method === METHOD_LOCAL) return because(REASONS.local);
  if (ip.timeToLive <= 1) {
    because(REASONS.timeToLive);
    return answerWith(skb, family, TIME_EXCEEDED, 0);
  }
  if (another) {
    return method === METHOD_FULLNAT ? enterFullnat(skb, c, REQUEST, transport) : enterTunnel(skb, c.server);
  }
  if (!findRoute(skb, family, server.route, server.address, c.lastSeen)) return because(REASONS.noRoute);
  const tooLong = isTooLong(skb, server.route.mtu, transport, protocol);
  if (tooLong && family.isWhole(ip)) {
    because(REASONS.tooLong);
    family.finish(ip, 0);
    return answerWith(skb, family, TOO_BIG, server.route.mtu);
  }
  if (method === METHOD_MASQ) rewrite(skb, family, ip, ports, transport, DESTINATION, c.real, c.realPort, protocol);
  // DR: the real server has the virtual address itself; only the next hop is new, and the packet a hop older.
  else family.finish(ip, 0);
  // The host sends what is not to its own address.
  if (tooLong)
    return method === METHOD_MASQ
      ? because(REASONS.fragmented)
      : splitWhole(skb, family, transport, protocol, OUTWARDS, c.server);
  return sendTo(skb, family, server.route);
}

/** The packet goes on in the stage that puts it into a tunnel. */
export function enterTunnel(skb: Skb, server: u32): number {
  const errand = errandOf();
  if (errand === null) return because(REASONS.corrupt);
  errand.server = server;
  endOnce();
  return tailCall(skb, stages, TUNNEL);
}
