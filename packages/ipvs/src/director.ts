/**
 * The journey of a packet: parsed, known as part of a connection or let to open one, then told by request.ts or reply.ts.
 *
 * A packet that is none of ours leaves here untouched (TC_ACT_OK) and goes on to the host.
 */
import { assign, htons, type Skb, stack, TC_ACT_OK } from '@ipvsd/bpf';
import { connections } from './connection/connection.ts';
import { connectionAt, expire } from './connection/lifecycle.ts';
import { chooseServer, Opening, openConnection } from './connection/open.ts';
import { CLOSE, SYN, TIME_WAIT, tcpEvent } from './connection/tcp-state.ts';
import { because, REASONS } from './counters.ts';
import { type Family, IPV4, IPV6, REQUEST } from './family.ts';
import { ETHERNET, IPPROTO_TCP, Tcp } from './packet/headers.ts';
import { reply } from './reply.ts';
import { request } from './request.ts';
import { findService } from './service/find.ts';
import { NONE } from './service/service.ts';
import { now as clock, settings } from './settings.ts';

const ETH_P_IP = htons(0x0800);
const ETH_P_IPV6 = htons(0x86dd);
/** Addressed to this host by its link address. */
const PACKET_HOST = 0;

export function director(skb: Skb): number {
  if (skb.pktType !== PACKET_HOST) return TC_ACT_OK;
  const protocol = skb.protocol;
  if (protocol === ETH_P_IP) return journey(skb, IPV4);
  if (protocol === ETH_P_IPV6) return journey(skb, IPV6);
  return TC_ACT_OK;
}

function journey(skb: Skb, family: Family): number {
  const ip = skb.header(family.Header, ETHERNET);
  if (ip === null) return because(REASONS.truncated);
  if (ip.protocol !== IPPROTO_TCP) return TC_ACT_OK;
  if (!family.isValid(ip)) return because(REASONS.malformed);
  if (family.isFragment(ip)) return because(REASONS.fragment);
  const transport = family.transport(ip);
  const tcp = skb.header(Tcp, transport);
  if (tcp === null) return because(REASONS.truncated);

  const now = clock();
  const event = tcpEvent(tcp.flags);
  const tuple = stack(family.Tuple, {
    sourcePort: tcp.sourcePort,
    destinationPort: tcp.destinationPort,
    protocol: IPPROTO_TCP,
  });
  assign(tuple.source, ip.source);
  assign(tuple.destination, ip.destination);
  const flow = family.flows.lookup(tuple);
  if (flow !== null) {
    const c = connectionAt(flow.connection, now);
    if (c !== null) {
      if (flow.direction !== REQUEST) return reply(skb, family, ip, tcp, transport, c, event, now);
      const finished = c.state === TIME_WAIT || c.state === CLOSE;
      if (!(event === SYN && finished && c.controller === 0 && settings.only.connectionReuse !== 0)) {
        return request(skb, family, ip, tcp, transport, c, event, now);
      }
      // The client uses its port anew: the old entry goes and the packet is a first one.
      expire(c, flow.connection);
    }
  }

  const opening = stack(Opening, {
    clientPort: tcp.sourcePort,
    virtualPort: tcp.destinationPort,
    protocol: IPPROTO_TCP,
  });
  family.widen(opening.client, ip.source);
  family.widen(opening.virtual, ip.destination);
  const service = findService(family.number, IPPROTO_TCP, skb.mark, opening.virtual, tcp.destinationPort);
  if (service === null) return TC_ACT_OK;
  if (event !== SYN) return because(REASONS.notFirst);
  const chosen = chooseServer(service, opening);
  if (chosen === NONE) return because(REASONS.noServer);
  const index = openConnection(family, opening, chosen, skb.mark, now);
  if (index === NONE) return because(REASONS.tableFull);
  const c = connections.at(index);
  if (c === null) return because(REASONS.corrupt);
  return request(skb, family, ip, tcp, transport, c, event, now);
}
