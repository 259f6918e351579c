/**
 * A packet from a client on its way to its real server: the whole story.
 *
 * in: a packet and the connection it belongs to; out: the verdict, with the packet rewritten and a next hop chosen.
 */
import { type Skb, u32, type ViewOf } from '@ipvsd/bpf';
import { type Connection, HAS_IDLE_RULE, METHOD_MASK, NO_OUTPUT } from './connection/connection.ts';
import { noteRequest } from './connection/idle.ts';
import { changeState, rearm } from './connection/lifecycle.ts';
import { because, REASONS } from './counters.ts';
import { type Family, REQUEST } from './family.ts';
import { forward } from './forward/forward.ts';
import { enterFullnat } from './forward/fullnat.ts';
import { ETHERNET, type Ipv4, type Ports } from './packet/headers.ts';
import { nextState } from './protocol/index.ts';
import { INPUT, INPUT_ONLY } from './protocol/protocol.ts';
import { METHOD_FULLNAT, SERVER_AVAILABLE, servers } from './service/service.ts';
import { countIn } from './service/statistics.ts';

export function request(
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
  const server = servers.at(c.server);
  if (server !== null) {
    if ((server.flags & SERVER_AVAILABLE) === 0) return because(REASONS.serverGone);
    countIn(c.server, u32(skb.len - ETHERNET));
  }
  const state = c.state;
  const next = nextState(c.protocol, state, event, (c.flags & NO_OUTPUT) !== 0 ? INPUT_ONLY : INPUT);
  if (next !== state) changeState(c, server, state, next);
  c.inPackets = u32(c.inPackets + 1);
  rearm(c, now);
  if ((c.flags & HAS_IDLE_RULE) !== 0) noteRequest(skb, family, c, transport);
  if (server === null) {
    return (c.flags & METHOD_MASK) === METHOD_FULLNAT
      ? enterFullnat(skb, c, REQUEST, transport)
      : because(REASONS.bypassed);
  }
  return forward(skb, family, ip, ports, transport, c, server, protocol);
}
