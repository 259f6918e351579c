/**
 * A first packet from a real server: where its service has a persistence engine (a SIP proxy that calls a phone), it opens a
 * connection as if the client had, so that what the client answers comes back to that real server and no other (spec 15.2).
 */
import { assign, type Skb, stack, type u32 } from '@ipvsd/bpf';
import { toAltered } from './altered.ts';
import { connections } from './connection/connection.ts';
import { supersede } from './connection/entering.ts';
import { beginOnce, isOnce } from './connection/once.ts';
import { open } from './connection/open.ts';
import { LAST_CONNECTION, OF_ITS_TEMPLATE, OF_PACKET, openings, planOf } from './connection/opening.ts';
import { ifValid, invalidate, templateKey } from './connection/template.ts';
import { because, REASONS } from './counters.ts';
import { EngineServerKey, engineServers, findByKey, finishKey } from './engine/engine.ts';
import { readKey } from './engine/read-key.ts';
import { type Family, REPLY } from './family.ts';
import { unclaimed } from './orphan.ts';
import { ETHERNET, IPPROTO_UDP, Ports } from './packet/headers.ts';
import { NONE, services } from './service/service.ts';

/** The stage. */
export function outgoing(skb: Skb, family: Family): number {
  const ip = skb.header(family.Header, ETHERNET);
  if (ip === null) return because(REASONS.truncated);
  if (ip.protocol !== IPPROTO_UDP || family.isFragment(ip)) return unclaimed(skb);
  const transport = family.transport(ip);
  const ports = skb.header(Ports, transport);
  const opening = openings.at(OF_PACKET);
  const plan = planOf();
  if (ports === null) return because(REASONS.truncated);
  if (opening === null || plan === null) return because(REASONS.corrupt);
  const source = stack(EngineServerKey, {
    port: ports.sourcePort,
    protocol: IPPROTO_UDP,
    family: family.number,
  });
  family.widen(source.address, ip.source);
  const known = engineServers.lookup(source);
  if (known === null) return unclaimed(skb);
  const service = services.lookup(known.service);
  if (service === null) return unclaimed(skb);
  assign(plan.service, service);
  plan.chosen = known.server;
  plan.finished = NONE;
  opening.clientPort = ports.destinationPort;
  opening.virtualPort = service.port;
  opening.protocol = IPPROTO_UDP;
  opening.family = family.number;
  opening.mark = 0;
  family.widen(opening.client, ip.destination);
  assign(opening.virtual, known.service.address);
  if (!readKey(skb, family)) return unclaimed(skb);
  findOwnTemplate();
  supersede(opening);
  const index: u32 = open(plan, opening);
  if (index > LAST_CONNECTION) return because(REASONS.tableFull);
  const c = connections.at(index);
  if (c === null) return because(REASONS.corrupt);
  if (isOnce(c)) beginOnce(index);
  return toAltered(skb, c, REPLY);
}

/**
 * The template that leads to this very real server; one that leads elsewhere is not found again.
 * @subprog
 */
function findOwnTemplate(): u32 {
  const opening = openings.at(OF_PACKET);
  const wanted = openings.at(OF_ITS_TEMPLATE);
  const plan = planOf();
  if (opening === null || wanted === null || plan === null) return 0;
  templateKey(wanted, plan.service, opening);
  wanted.engine = plan.service.engine;
  plan.template = ifValid(findByKey(finishKey(wanted)));
  const template = connections.at(plan.template);
  if (template === null || template.server === plan.chosen) return 0;
  invalidate(template, plan.template);
  plan.template = NONE;
  return 0;
}
