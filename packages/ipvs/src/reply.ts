/** A packet from a real server on its way back to the client, who must see the virtual service as its source. */
import { type Skb, u32, type ViewOf } from '@ipvsd/bpf';
import { type Connection, HAS_IDLE_RULE, METHOD_MASK, NO_OUTPUT } from './connection/connection.ts';
import { noteReply } from './connection/idle.ts';
import { assureTemplate, changeState, rearm } from './connection/lifecycle.ts';
import { because, REASONS } from './counters.ts';
import { type Family, REPLY } from './family.ts';
import { answerWith, TIME_EXCEEDED } from './forward/answer.ts';
import { enterFullnat } from './forward/fullnat.ts';
import { rewrite, SOURCE } from './forward/nat.ts';
import { findRoute, isTooLong, sendTo } from './forward/route.ts';
import { ETHERNET, IPPROTO_UDP, type Ipv4, type Ports } from './packet/headers.ts';
import { nextState } from './protocol/index.ts';
import { OUTPUT } from './protocol/protocol.ts';
import { METHOD_FULLNAT, METHOD_MASQ, SERVER_AVAILABLE, servers } from './service/service.ts';
import { countOut } from './service/statistics.ts';

export function reply(
  skb: Skb,
  family: Family,
  ip: ViewOf<typeof Ipv4>,
  ports: Ports,
  transport: u32,
  c: Connection,
  event: u32,
  protocol: u32,
  now: u32,
): number {
  // Before us the host would have judged it (its forwarding comes before the kernel's IPVS).
  if (ip.timeToLive <= 1) {
    if ((c.flags & METHOD_MASK) !== METHOD_FULLNAT) return because(REASONS.replyOutlived);
    // Addressed to the host itself, which would answer with a reset.
    because(REASONS.timeToLive);
    return answerWith(skb, family, TIME_EXCEEDED, 0);
  }
  const server = servers.at(c.server);
  // A removed real server's replies still pass; only what is in service is counted (as IPVS does).
  if (server !== null && (server.flags & SERVER_AVAILABLE) !== 0) countOut(c.server, u32(skb.len - ETHERNET));
  const state = c.state;
  const next = nextState(c.protocol, state, event, OUTPUT);
  if (next !== state) changeState(c, server, state, next);
  // Replies are seen after all: from now on both directions tell the state.
  if ((c.flags & NO_OUTPUT) !== 0 && c.protocol !== IPPROTO_UDP) c.flags = u32(c.flags & ~NO_OUTPUT);
  if (c.controller !== 0 && c.protocol === IPPROTO_UDP) assureTemplate(c);
  rearm(c, now);
  if ((c.flags & HAS_IDLE_RULE) !== 0) noteReply(skb, c, transport);

  const method = c.flags & METHOD_MASK;
  if (method !== METHOD_MASQ) {
    return method === METHOD_FULLNAT ? enterFullnat(skb, c, REPLY, transport) : because(REASONS.reply);
  }
  if (!findRoute(skb, family, c.route, c.client, now)) return because(REASONS.noRoute);
  if (isTooLong(skb, c.route.mtu, transport, protocol) && family.isWhole(ip)) return because(REASONS.replyTooLong);
  rewrite(skb, family, ip, ports, transport, SOURCE, c.virtual, c.virtualPort, protocol);
  return sendTo(skb, family, c.route);
}
