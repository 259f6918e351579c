/** A first packet with its real server chosen: the connection is made and the packet goes its way, or is answered. */
import { htons, type Skb, stack, tailCall, type u32 } from '@ipvsd/bpf';
import { toAltered } from './altered.ts';
import { connections } from './connection/connection.ts';
import { makeBypass } from './connection/make.ts';
import { beginOnce, endOnce, isOnce } from './connection/once.ts';
import { open } from './connection/open.ts';
import {
  LAST_CONNECTION,
  NO_LOCAL_ADDRESS,
  NO_LOCAL_PORT,
  NO_SERVER,
  OF_PACKET,
  type Opening,
  openings,
  planOf,
} from './connection/opening.ts';
import { letGo } from './connection/reuse.ts';
import { because, REASONS } from './counters.ts';
import { type Family, REQUEST } from './family.ts';
import { answerWith, PORT_UNREACHABLE } from './forward/answer.ts';
import { findRoute } from './forward/route.ts';
import { ETHERNET } from './packet/headers.ts';
import { Route, type Service } from './service/service.ts';
import { now as clock, settings } from './settings.ts';
import { FIRST_FRAGMENT, RELATED, stages } from './stages.ts';

const FTP = htons(21);

export function connect(skb: Skb, family: Family): number {
  const plan = planOf();
  const opening = openings.at(OF_PACKET);
  if (plan === null || opening === null) return because(REASONS.corrupt);
  const service = plan.service;
  let index: u32 = open(plan, opening);
  if (index > LAST_CONNECTION) letGo(plan);
  if (index === NO_SERVER && mayBypass(skb, family, service, opening)) index = makeBypass();
  if (index > LAST_CONNECTION) return withoutConnection(skb, family, service, opening, index);
  const c = connections.at(index);
  const ip = skb.header(family.Header, ETHERNET);
  if (c === null || ip === null) return because(REASONS.corrupt);
  const once = isOnce(c);
  if (once) beginOnce(index);
  // An error about it opened the connection (schedule_icmp), and goes there now.
  if (ip.protocol === family.icmp) {
    if (!once) return tailCall(skb, stages, RELATED);
    endOnce();
    return because(REASONS.ignored);
  }
  if (family.isFragmented(ip)) {
    if (!once) return tailCall(skb, stages, FIRST_FRAGMENT);
    endOnce();
    return because(REASONS.fragment);
  }
  return toAltered(skb, c, REQUEST);
}

/** Of a firewall mark, the packet may go to its own destination (cache_bypass), where the kernel has a way there for others. */
function mayBypass(skb: Skb, family: Family, service: Service, opening: Opening): boolean {
  if (settings.only.cacheBypass === 0 || service.mark === 0) return false;
  const ip = skb.header(family.Header, ETHERNET);
  if (ip === null || ip.protocol === family.icmp) return false;
  return findRoute(skb, family, stack(Route), opening.virtual, clock());
}

/** A service, but no connection: `answer` says why. */
function withoutConnection(skb: Skb, family: Family, service: Service, opening: Opening, answer: u32): number {
  if (answer === NO_LOCAL_ADDRESS) return because(REASONS.noLocalAddress);
  if (answer === NO_LOCAL_PORT) return because(REASONS.noLocalPort);
  if (answer !== NO_SERVER) return because(REASONS.tableFull);
  if (service.port === FTP && opening.virtualPort !== FTP) return because(REASONS.ignored);
  const verdict = because(REASONS.noServer);
  const ip = skb.header(family.Header, ETHERNET);
  // No error is answered with another.
  if (ip === null || ip.protocol === family.icmp) return verdict;
  return answerWith(skb, family, PORT_UNREACHABLE, 0);
}
