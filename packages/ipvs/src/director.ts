/**
 * The journey of a packet: parsed, known as part of a connection or let to open one, then told by request.ts or reply.ts.
 *
 * A packet that is none of ours leaves here untouched (TC_ACT_OK) and goes on to the host.
 */
import { assign, htons, type Skb, stack, TC_ACT_OK, type u32, type ViewOf } from '@ipvsd/bpf';
import { type Connection, connections, NO_OUTPUT, ONE_PACKET } from './connection/connection.ts';
import { connectionAt, expire, expireSoon } from './connection/lifecycle.ts';
import { makeBypass } from './connection/make.ts';
import { open } from './connection/open.ts';
import { IGNORED, LAST_CONNECTION, NO_SERVER, OF_PACKET, type Opening, openings } from './connection/opening.ts';
import { because, REASONS } from './counters.ts';
import { dropsFirstPacket } from './defence.ts';
import { type Family, IPV4, IPV6, REQUEST } from './family.ts';
import { reject } from './forward/reject.ts';
import { ETHERNET, IPPROTO_AH, IPPROTO_ESP, IPPROTO_TCP, IPPROTO_UDP, type Ipv4, Ports } from './packet/headers.ts';
import { eventOf, isBalanced, isFirst, mayOpen } from './protocol/index.ts';
import { TRUNCATED } from './protocol/protocol.ts';
import { SCTP_CLOSED } from './protocol/sctp.ts';
import { CLOSE, FIN_WAIT, TIME_WAIT } from './protocol/tcp.ts';
import { reply } from './reply.ts';
import { request } from './request.ts';
import { findService } from './service/find.ts';
import { markOf } from './service/mark.ts';
import { SERVER_AVAILABLE, type Service, servers } from './service/service.ts';
import { now as clock, settings } from './settings.ts';

const ETH_P_IP = htons(0x0800);
const ETH_P_IPV6 = htons(0x86dd);
/** Addressed to this host by its link address. */
const PACKET_HOST = 0;
/** Key exchange of IPsec (RFC 7296), UDP on both sides: AH and ESP follow its connection. */
const ISAKMP = htons(500);
const FTP = htons(21);

export function director(skb: Skb): number {
  if (skb.pktType !== PACKET_HOST) return TC_ACT_OK;
  const protocol = skb.protocol;
  if (protocol === ETH_P_IP && settings.only.services4 !== 0) return journey(skb, IPV4);
  if (protocol === ETH_P_IPV6 && settings.only.services6 !== 0) return journey(skb, IPV6);
  return TC_ACT_OK;
}

function journey(skb: Skb, family: Family): number {
  const ip = skb.header(family.Header, ETHERNET);
  if (ip === null) return because(REASONS.truncated);
  const protocol = ip.protocol;
  const encrypted = protocol === IPPROTO_ESP || protocol === IPPROTO_AH;
  if (!isBalanced(protocol) && !encrypted) return TC_ACT_OK;
  if (!family.isValid(ip)) return because(REASONS.malformed);
  if (family.isFragment(ip)) return because(REASONS.fragment);
  const transport = family.transport(ip);
  const ports = skb.header(Ports, transport);
  const event = eventOf(skb, protocol, transport);
  if (ports === null || event === TRUNCATED) return because(REASONS.truncated);

  const tuple = stack(family.Tuple, {
    sourcePort: ports.sourcePort,
    destinationPort: ports.destinationPort,
    protocol,
  });
  if (encrypted) {
    tuple.sourcePort = ISAKMP;
    tuple.destinationPort = ISAKMP;
    tuple.protocol = IPPROTO_UDP;
  }
  assign(tuple.source, ip.source);
  assign(tuple.destination, ip.destination);
  const flow = family.flows.lookup(tuple);
  if (flow !== null) {
    const index = flow.connection;
    const c = connectionAt(index, clock());
    if (c !== null) {
      if (flow.direction !== REQUEST) return reply(skb, family, ip, ports, transport, c, event);
      const fate = fateOf(c, event);
      if (fate === GOES_ON) return request(skb, family, ip, ports, transport, c, event);
      if (fate === FINISHED) expireSoon(c, index);
      else expire(c, index);
    }
  }
  return firstPacket(skb, family, ip, ports, transport, event);
}

const GOES_ON = 0;
/** The client uses its port anew: the old entry goes, and the packet is a first one. */
const FINISHED = 1;
/** The same, as the connection's real server is gone. */
const FORSAKEN = 2;

/** What a client's packet means for the connection that knows it. */
function fateOf(c: Connection, event: u32): u32 {
  if (c.controls !== 0) return GOES_ON;
  const first = isFirst(c.protocol, event);
  if (first && isFinished(c)) return FINISHED;
  if (settings.only.expireNoDestination === 0) return GOES_ON;
  const server = servers.at(c.server);
  if (server === null) return GOES_ON;
  if ((server.flags & SERVER_AVAILABLE) === 0) return FORSAKEN;
  return first && server.weight === 0 ? FINISHED : GOES_ON;
}

/** The bit of conn_reuse_mode for connections whose replies go another way. */
const REUSE_UNSEEN = 2;

/** The client may use its port anew. Never where a template controls: its connections stay together. */
function isFinished(c: Connection): boolean {
  const mode = settings.only.connectionReuse;
  if (mode === 0 || c.controller !== 0) return false;
  const state = c.state;
  if (c.protocol !== IPPROTO_TCP) return state === SCTP_CLOSED;
  if (state === TIME_WAIT || state === CLOSE) return true;
  return (mode & REUSE_UNSEEN) !== 0 && state === FIN_WAIT && (c.flags & NO_OUTPUT) !== 0;
}

/** No connection knows it: it opens one, or is none of ours. */
function firstPacket(
  skb: Skb,
  family: Family,
  ip: ViewOf<typeof Ipv4>,
  ports: Ports,
  transport: u32,
  event: u32,
): number {
  const opening = openings.at(OF_PACKET);
  if (opening === null) return because(REASONS.corrupt);
  opening.clientPort = ports.sourcePort;
  opening.virtualPort = ports.destinationPort;
  opening.protocol = ip.protocol;
  opening.family = family.number;
  family.widen(opening.client, ip.source);
  family.widen(opening.virtual, ip.destination);
  opening.mark = markOf(skb, opening);
  const service = findService(opening);
  if (service === null) return TC_ACT_OK;
  if (settings.only.backupOnly !== 0) return because(REASONS.backupOnly);
  if (!mayOpen(opening.protocol, event)) return because(REASONS.notFirst);
  if (dropsFirstPacket()) return because(REASONS.defence);
  let index: u32 = open(service, opening);
  if (index === NO_SERVER && settings.only.cacheBypass !== 0 && service.mark !== 0) index = makeBypass(opening);
  if (index > LAST_CONNECTION) return withoutConnection(skb, family, service, opening, index);
  const c = connections.at(index);
  if (c === null) return because(REASONS.corrupt);
  const verdict = request(skb, family, ip, ports, transport, c, event);
  if ((c.flags & ONE_PACKET) !== 0) expire(c, index);
  return verdict;
}

/** A service, but no connection: `answer` says why. */
function withoutConnection(skb: Skb, family: Family, service: Service, opening: Opening, answer: u32): number {
  if (answer === IGNORED) return because(REASONS.ignored);
  if (answer !== NO_SERVER) return because(REASONS.tableFull);
  if (service.port === FTP && opening.virtualPort !== FTP) return because(REASONS.ignored);
  because(REASONS.noServer);
  return reject(skb, family);
}
