/**
 * FULLNAT: both ends of a packet are rewritten. The real server sees a local address of the director as its client, so it need
 * not route its replies through the director: they are addressed to it.
 *
 * A stage of its own: the fast path of the other methods carries nothing of it. No packet of such a connection may reach the
 * host, which would answer the real server with a reset.
 */
import { type Skb, tailCall, type u32, type ViewOf } from '@ipvsd/bpf';
import { type Connection, connections, OTHER_FAMILY } from '../connection/connection.ts';
import { ANSWERED, type LocalEnd, localEnds, TELLS_NOT } from '../connection/local-end.ts';
import { because, REASONS } from '../counters.ts';
import { type Family, REPLY } from '../family.ts';
import { OUTWARDS, TOWARDS_CLIENT, TOWARDS_OUTSIDE } from '../followed.ts';
import {
  ETHERNET,
  IPPROTO_AH,
  IPPROTO_ESP,
  IPPROTO_TCP,
  IPPROTO_UDP,
  type Ipv4,
  MAX_OFFSET,
  Ports,
  Tcp,
} from '../packet/headers.ts';
import { servers } from '../service/service.ts';
import { errandOf, FULLNAT, NAT64, stages, TELL, TELL_DATAGRAM } from '../stages.ts';
import { answerWith, TIME_EXCEEDED } from './answer.ts';
import { rewriteBoth } from './nat.ts';
import { splitWhole } from './piece.ts';
import { sendTo } from './route.ts';
import { isAnswer, isPlain } from './tell.ts';
import { isAcknowledgement, isToTell } from './tell-datagram.ts';
import { checkWay, FREE, IN_PIECES } from './way.ts';

/** The packet goes on in the stage that rewrites it, which may be that of NAT64; `direction` is REQUEST or REPLY. */
export function enterFullnat(skb: Skb, c: Connection, direction: number, transport: u32): number {
  const errand = errandOf();
  if (errand === null) return because(REASONS.corrupt);
  errand.connection = c.number;
  errand.direction = direction;
  errand.transport = transport;
  // Each its own call: where the place in the table is a constant, the kernel makes a plain jump of it.
  if ((c.flags & OTHER_FAMILY) !== 0) return tailCall(skb, stages, NAT64);
  return tailCall(skb, stages, FULLNAT);
}

/** The stage. */
export function fullnat(skb: Skb, family: Family): number {
  const errand = errandOf();
  if (errand === null) return because(REASONS.corrupt);
  const c = connections.at(errand.connection);
  const end = localEnds.at(errand.connection);
  if (c === null || end === null) return because(REASONS.corrupt);
  const transport = errand.transport & MAX_OFFSET;
  const ip = skb.header(family.Header, ETHERNET);
  const ports = skb.header(Ports, transport);
  if (ip === null || ports === null) return because(REASONS.truncated);
  // They come with the connection of their key exchange.
  if (ip.protocol === IPPROTO_ESP || ip.protocol === IPPROTO_AH) return because(REASONS.portless);
  if (errand.direction === REPLY) return toClient(skb, family, ip, ports, transport, c, end);
  return toServer(skb, family, ip, ports, transport, c, end);
}

function toServer(
  skb: Skb,
  family: Family,
  ip: ViewOf<typeof Ipv4>,
  ports: Ports,
  transport: u32,
  c: Connection,
  end: LocalEnd,
): number {
  const server = servers.at(c.server);
  if (server === null) return toOutside(skb, family, ip, ports, transport, c, end);
  const protocol = c.protocol;
  if (protocol === IPPROTO_UDP && isToTell(end)) return tailCall(skb, stages, TELL_DATAGRAM);
  let plain = true;
  if (protocol === IPPROTO_TCP) {
    const tcp = skb.header(Tcp, transport);
    if (tcp === null) return because(REASONS.truncated);
    plain = isPlain(tcp, end);
  }
  const way = checkWay(skb, family, ip, transport, protocol, server.route, family, server.address, 0, 0, plain);
  if (way !== FREE && way !== IN_PIECES) return way;
  rewriteBoth(skb, family, ip, ports, transport, end.address, end.port, c.real, c.realPort, protocol);
  if (way === IN_PIECES) return splitWhole(skb, family, transport, protocol, OUTWARDS, c.server);
  return plain ? sendTo(skb, family, server.route) : tailCall(skb, stages, TELL);
}

/** Of a masqueraded host: it hears of the director's own doings from the director, not from whom it talks to. */
function toOutside(
  skb: Skb,
  family: Family,
  ip: ViewOf<typeof Ipv4>,
  ports: Ports,
  transport: u32,
  c: Connection,
  end: LocalEnd,
): number {
  if (ip.timeToLive <= 1) {
    because(REASONS.timeToLive);
    return answerWith(skb, family, TIME_EXCEEDED, 0, 1);
  }
  const way = checkWay(skb, family, ip, transport, c.protocol, end.route, family, c.real, 0, 1, true);
  if (way !== FREE && way !== IN_PIECES) return way;
  rewriteBoth(skb, family, ip, ports, transport, end.address, end.port, c.real, c.realPort, c.protocol);
  if (way === IN_PIECES) return splitWhole(skb, family, transport, c.protocol, TOWARDS_OUTSIDE, c.number);
  return sendTo(skb, family, end.route);
}

function toClient(
  skb: Skb,
  family: Family,
  ip: ViewOf<typeof Ipv4>,
  ports: Ports,
  transport: u32,
  c: Connection,
  end: LocalEnd,
): number {
  const way = checkWay(skb, family, ip, transport, c.protocol, c.route, family, c.client, 0, 0, true);
  if (way !== FREE && way !== IN_PIECES) return way;
  let answers = false;
  if (end.tells !== TELLS_NOT && c.protocol === IPPROTO_UDP) {
    if (isAcknowledgement(skb, end, transport)) return because(REASONS.acknowledged);
    if (end.answered !== ANSWERED) end.answered = ANSWERED;
  } else if (end.tells !== TELLS_NOT) {
    const tcp = skb.header(Tcp, transport);
    if (tcp === null) return because(REASONS.truncated);
    answers = isAnswer(tcp);
  }
  rewriteBoth(skb, family, ip, ports, transport, c.virtual, c.virtualPort, c.client, c.clientPort, c.protocol);
  if (way === IN_PIECES) return splitWhole(skb, family, transport, c.protocol, TOWARDS_CLIENT, c.number);
  return answers ? tailCall(skb, stages, TELL) : sendTo(skb, family, c.route);
}
