/**
 * A packet that no connection knows: which virtual service it asks for, and whether a template or the scheduler says who is to
 * have it. Comes by tail call, so the packet is looked at anew; goes on to the service's scheduler, or at once to connect.ts.
 */
import { assign, htons, NO_PROGRAM, type Skb, tailCall, type u32, type ViewOf } from '@ipvsd/bpf';
import { toAltered } from './altered.ts';
import { connections, population } from './connection/connection.ts';
import { takeExpected } from './connection/expected.ts';
import {
  OF_ITS_TEMPLATE,
  OF_PACKET,
  type Opening,
  openings,
  type Plan,
  planOf,
  readOpening,
} from './connection/opening.ts';
import { letGo } from './connection/reuse.ts';
import { findTemplate, ifValid, templateKey } from './connection/template.ts';
import { because, REASONS, type Reason } from './counters.ts';
import { dropsFirstPacket } from './defence.ts';
import { findByKey, finishKey } from './engine/engine.ts';
import { readKey } from './engine/read-key.ts';
import type { Family } from './family.ts';
import { orphaned } from './orphan.ts';
import { ETHERNET, type Ipv4 } from './packet/headers.ts';
import { eventOf, mayOpen } from './protocol/index.ts';
import { findService } from './service/find.ts';
import { markOf } from './service/mark.ts';
import { NONE, SERVICE_PERSISTENT } from './service/service.ts';
import { settings } from './settings.ts';
import { CONNECT, ENGINE, FIRST_FRAGMENT, schedulers, stages } from './stages.ts';

const FTP_DATA = htons(20);

export function firstPacket(skb: Skb, family: Family): number {
  const opening = openings.at(OF_PACKET);
  const plan = planOf();
  if (opening === null || plan === null) return because(REASONS.corrupt);
  const transport = readOpening(skb, family, opening);
  if (transport === 0) return because(REASONS.truncated);
  const protocol = opening.protocol;
  // It may be expected by the same ports.
  if (population.only.expected !== 0) letGo(plan);
  const expected = takeExpected(family, opening);
  if (expected !== NONE) {
    const ip = skb.header(family.Header, ETHERNET);
    return ip === null ? because(REASONS.truncated) : welcome(skb, family, ip, expected);
  }
  return admit(skb, opening, plan, mayOpen(protocol, eventOf(skb, protocol, transport)));
}

/** The first packet of a connection that was waited for goes on as all of its packets. */
function welcome(skb: Skb, family: Family, ip: ViewOf<typeof Ipv4>, expected: u32): number {
  if (family.isFragmented(ip)) return tailCall(skb, stages, FIRST_FRAGMENT);
  const c = connections.at(expected >>> 1);
  if (c === null) return because(REASONS.corrupt);
  return toAltered(skb, c, expected & 1);
}

/** The packet asks for what `opening` says; `opens`: it may open a connection. */
export function admit(skb: Skb, opening: Opening, plan: Plan, opens: boolean): number {
  opening.mark = markOf(skb, opening);
  const service = findService(opening);
  if (service === null) {
    letGo(plan);
    return orphaned(skb, opens);
  }
  if (settings.only.backupOnly !== 0) return refused(plan, REASONS.backupOnly);
  if (!opens) return refused(plan, REASONS.notFirst);
  if (dropsFirstPacket()) return refused(plan, REASONS.defence);
  // Active FTP: the real server calls the client, nothing is balanced.
  if (opening.clientPort === FTP_DATA) return refused(plan, REASONS.ignored);

  assign(plan.service, service);
  plan.template = NONE;
  plan.chosen = NONE;
  const persistent = (service.flags & SERVICE_PERSISTENT) !== 0;
  if (persistent && service.engine !== 0) return tailCall(skb, stages, ENGINE);
  if (persistent) findTemplateFor(plan, opening);
  // A port that is not the service's own: only persistence makes sense of it.
  const foreign = !persistent && service.mark === 0 && opening.virtualPort !== service.port;
  return goOn(skb, plan, plan.chosen === NONE && !foreign);
}

/** It opens no connection. */
function refused(plan: Plan, reason: Reason): number {
  letGo(plan);
  return because(reason);
}

/** To the service's scheduler, where it is to choose, or at once to connect.ts. */
function goOn(skb: Skb, plan: Plan, choose: boolean): number {
  if (choose) {
    const verdict = tailCall(skb, schedulers, plan.service.scheduler);
    if (verdict !== NO_PROGRAM) return verdict;
  }
  return tailCall(skb, stages, CONNECT);
}

/** The stage of services with a persistence engine: a packet that does not say what the engine asks is dropped. */
export function askEngine(skb: Skb, family: Family): number {
  const opening = openings.at(OF_PACKET);
  const wanted = openings.at(OF_ITS_TEMPLATE);
  const plan = planOf();
  if (plan === null || opening === null || wanted === null) return because(REASONS.corrupt);
  if (!readKey(skb, family)) return refused(plan, REASONS.noCallId);
  templateKey(wanted, plan.service, opening);
  wanted.engine = plan.service.engine;
  plan.template = ifValid(findByKey(finishKey(wanted)));
  const template = connections.at(plan.template);
  if (template !== null) plan.chosen = template.server;
  return goOn(skb, plan, plan.chosen === NONE);
}

function findTemplateFor(plan: Plan, opening: Opening): void {
  const wanted = openings.at(OF_ITS_TEMPLATE);
  if (wanted === null) return;
  templateKey(wanted, plan.service, opening);
  plan.template = findTemplate(wanted);
  if (plan.template === NONE) return;
  const template = connections.at(plan.template);
  if (template !== null) plan.chosen = template.server;
}
