/**
 * A connection's life in the table: entered, moved between active and inactive, expired.
 *
 * Several CPUs may handle packets of one connection at once. A state changes by compare-and-exchange, and only who wins moves
 * the real server's counters, so that they always add up.
 */
import { atomicAdd, atomicCompareExchange, stack, u32, type ViewOf } from '@ipvsd/bpf';
import { enterByKey, forgetData, leaveByKey } from '../engine/engine.ts';
import { type Family, IPV4, IPV6, OF_PACKETS, OF_TEMPLATE, REPLY, REQUEST, sourceOf } from '../family.ts';
import { endAdjustments } from '../forward/sequence.ts';
import { AF_INET } from '../packet/address.ts';
import { isActive, isEstablished, timeoutOf } from '../protocol/index.ts';
import {
  METHOD_FULLNAT,
  METHOD_MASQ,
  type RealServer,
  SERVER_OVERLOAD,
  servers,
  standingOf,
} from '../service/service.ts';
import { now as clock, exactNow, ticksOf } from '../settings.ts';
import {
  ASSURED,
  type Connection,
  connections,
  HAS_ADJUSTMENTS,
  HAS_IDLE_RULE,
  HASHED,
  isNat64,
  METHOD_MASK,
  OF_ENGINE,
  population,
  returnSlot,
  SUPERSEDED,
  TEMPLATE,
  UNKNOWN_PORT,
} from './connection.ts';
import { directionOf, enterFlow, findFlow, flowOf, leaveFlow, NO_FLOW, numberOf, redirectFlow } from './flows.ts';
import { announceEnd, endIdleRule } from './idle.ts';
import { localEnds } from './local-end.ts';
import type { Opening } from './opening.ts';

/**
 * Let packets of both directions find a filled entry. False when another CPU was first or the table of flows is full.
 * @subprog
 */
export function enter(c: Connection, index: u32): boolean {
  if ((c.flags & OF_ENGINE) !== 0) {
    if (!enterByKey(index)) return false;
    c.flags = u32(c.flags | HASHED);
    return true;
  }
  return c.family === AF_INET ? enterIn(IPV4, c, index) : enterIn(IPV6, c, index);
}

function enterIn(family: Family, c: Connection, index: u32): boolean {
  const template = (c.flags & TEMPLATE) !== 0;
  if ((c.flags & SUPERSEDED) === 0 && !enterRequests(family, c, index)) return false;
  // Under FULLNAT replies find it already: that is how it took its local port.
  if (!template && (c.flags & METHOD_MASK) !== METHOD_FULLNAT) {
    const back = stack(family.Tuple);
    tupleOfReplies(family, back, c);
    // Where two virtual services lead one client port to one real server, the newest connection gets the replies.
    if (!redirectFlow(family, back, flowOf(index, REPLY))) {
      leaveRequests(family, c, index);
      return false;
    }
  }
  c.flags = u32(c.flags | HASHED);
  return true;
}

/** The client's packets find it. False where they find another. */
export function enterRequests(family: Family, c: Connection, index: u32): boolean {
  const key = stack(family.Tuple);
  tupleOfRequests(family, key, c);
  return enterFlow(family, key, flowOf(index, REQUEST));
}

/** The client's packets do not find it; replies do. */
export function leaveRequests(family: Family, c: Connection, index: u32): void {
  if ((c.flags & SUPERSEDED) !== 0) return;
  const key = stack(family.Tuple);
  tupleOfRequests(family, key, c);
  leaveFlow(family, key, flowOf(index, REQUEST));
}

/** What a client's packet of it says, or for a template what finds it. */
export function tupleOfRequests(family: Family, key: ViewOf<Family['Tuple']>, c: Connection): void {
  key.sourcePort = sourceOf(c.protocol, c.clientPort);
  key.destinationPort = c.virtualPort;
  key.protocol = c.protocol;
  key.kind = (c.flags & TEMPLATE) !== 0 ? OF_TEMPLATE : OF_PACKETS;
  family.narrow(key.source, c.client);
  family.narrow(key.destination, c.virtual);
}

/**
 * Let replies find an entry that was taken over, as the client's packets do already; `same`: as they found it before. False where
 * the table of flows is full.
 * @subprog
 */
export function enterAgain(c: Connection, index: u32, same: u32): boolean {
  // Under FULLNAT they do.
  if ((c.flags & METHOD_MASK) === METHOD_FULLNAT) return true;
  return c.family === AF_INET ? enterAgainIn(IPV4, c, index, same) : enterAgainIn(IPV6, c, index, same);
}

function enterAgainIn(family: Family, c: Connection, index: u32, same: u32): boolean {
  const back = stack(family.Tuple);
  tupleOfReplies(family, back, c);
  const flow = flowOf(index, REPLY);
  return (same !== 0 && findFlow(family, back) === flow) || redirectFlow(family, back, flow);
}

/**
 * No packet finds it from now on.
 * @subprog
 */
export function leave(c: Connection, index: u32): void {
  if ((c.flags & HASHED) === 0) return;
  if ((c.flags & OF_ENGINE) !== 0) leaveByKey(index);
  else {
    if (c.family === AF_INET) leaveRequests(IPV4, c, index);
    else leaveRequests(IPV6, c, index);
    if ((c.flags & TEMPLATE) === 0) forgetReplies(c, index);
  }
  c.flags = u32(c.flags & ~HASHED);
}

/**
 * Replies do not find it; its local port, if it has one, is free.
 * @subprog
 */
function forgetReplies(c: Connection, index: u32): void {
  // NAT64: they are of the real server's family.
  if (c.family === AF_INET || isNat64(c)) forgetRepliesIn(IPV4, c, index);
  else forgetRepliesIn(IPV6, c, index);
}

function forgetRepliesIn(family: Family, c: Connection, index: u32): void {
  const back = stack(family.Tuple);
  tupleOfReplies(family, back, c);
  if ((c.flags & METHOD_MASK) === METHOD_FULLNAT) {
    const end = localEnds.at(index);
    if (end === null) return;
    family.narrow(back.destination, end.address);
    back.destinationPort = end.port;
  }
  leaveFlow(family, back, flowOf(index, REPLY));
}

/** A reply bears the real server's address where NAT is to change it, the virtual service's own otherwise. */
function tupleOfReplies(family: Family, back: ViewOf<Family['Tuple']>, c: Connection): void {
  const method = c.flags & METHOD_MASK;
  const translated = method === METHOD_MASQ || method === METHOD_FULLNAT;
  back.sourcePort = sourceOf(c.protocol, translated ? c.realPort : c.virtualPort);
  back.destinationPort = c.clientPort;
  back.protocol = c.protocol;
  if (translated) family.narrow(back.source, c.real);
  else family.narrow(back.source, c.virtual);
  family.narrow(back.destination, c.client);
}

/**
 * Replies do not find it from now on.
 * @subprog
 */
export function leaveReplies(c: Connection, index: u32): void {
  forgetReplies(c, index);
}

/** A connection that took a local port and was not let in gives it back. */
export function returnLocalPort(c: Connection, index: u32): void {
  if ((c.flags & METHOD_MASK) === METHOD_FULLNAT) leaveReplies(c, index);
}

/**
 * Where the client's packets find a connection already, a new one is to get them (a real server calls a client).
 * @subprog
 */
export function supersede(opening: Opening): void {
  if (opening.family === AF_INET) supersedeIn(IPV4, opening);
  else supersedeIn(IPV6, opening);
}

function supersedeIn(family: Family, opening: Opening): void {
  const key = stack(family.Tuple, {
    sourcePort: opening.clientPort,
    destinationPort: opening.virtualPort,
    protocol: opening.protocol,
  });
  family.narrow(key.source, opening.client);
  family.narrow(key.destination, opening.virtual);
  const flow = findFlow(family, key);
  if (flow === NO_FLOW || directionOf(flow) !== REQUEST) return;
  const c = connections.at(numberOf(flow));
  if (c !== null) c.flags = u32(c.flags | SUPERSEDED);
  leaveFlow(family, key, flow);
}

/** Count a new connection at its real server: inactive until its state says otherwise. */
export function bind(server: RealServer, number: u32): void {
  const standing = standingOf(number);
  atomicAdd(standing, 'inactive', 1);
  if (server.upper !== 0 && standing.active + standing.inactive >= server.upper) standing.flags = SERVER_OVERLOAD;
}

/** The same where its entry was that of an inactive one at the real server of number `before`, which lets go of that. */
export function bindInstead(server: RealServer, number: u32, before: u32, c: Connection): void {
  bind(server, number);
  unbindFrom(before, c);
}

/** The real server of that number has the connection no longer; the overload flag has a hysteresis (spec section 5). */
export function unbindFrom(number: u32, c: Connection): void {
  const server = servers.at(number);
  if (server === null) return;
  const standing = standingOf(number);
  if ((c.flags & TEMPLATE) !== 0) {
    atomicAdd(server, 'persistent', -1);
  } else {
    if (isActive(c.protocol, c.state)) atomicAdd(standing, 'active', -1);
    else atomicAdd(standing, 'inactive', -1);
    if (standing.flags !== 0 && standing.active + standing.inactive < lowMark(server)) standing.flags = 0;
  }
  if (standing.active + standing.inactive + server.persistent === 0) server.idleSince = exactNow();
}

/** Below this many connections an overloaded real server takes new ones again: three quarters of the limit by default. */
export function lowMark(server: RealServer): number {
  if (server.lower !== 0) return server.lower;
  return server.upper === 0 ? 0xffff_ffff : server.upper - (server.upper >>> 2);
}

/**
 * Change the state; the first CPU to do so moves the connection between the active and the inactive.
 * @subprog
 */
export function changeState(c: Connection, server: RealServer | null, from: u32, to: u32): void {
  if (atomicCompareExchange(c, 'state', from, to) !== from) return;
  if (c.controller !== 0 && isEstablished(c.protocol, to)) assureTemplate(c);
  if (server === null) return;
  const was = isActive(c.protocol, from);
  const is = isActive(c.protocol, to);
  if (was === is) return;
  const standing = standingOf(c.server);
  if (is) {
    atomicAdd(standing, 'active', 1);
    atomicAdd(standing, 'inactive', -1);
  } else {
    atomicAdd(standing, 'active', -1);
    atomicAdd(standing, 'inactive', 1);
  }
}

/** The template has led to a connection that came about: the defence spares it. */
export function assureTemplate(c: Connection): void {
  if (c.controller === 0) return;
  const template = connections.at(u32(c.controller - 1));
  if (template !== null && (template.flags & TEMPLATE) !== 0 && template.state !== ASSURED) template.state = ASSURED;
}

/**
 * Take a connection out of the table, once, whoever asks first. Not while it controls others.
 * @subprog
 */
export function expire(c: Connection, index: u32): void {
  if (atomicCompareExchange(c, 'alive', 1, 0) !== 1) return;
  leave(c, index);
  if ((c.flags & OF_ENGINE) !== 0) forgetData(index);
  if ((c.flags & HAS_IDLE_RULE) !== 0) endIdleRule(c);
  if ((c.flags & HAS_ADJUSTMENTS) !== 0) endAdjustments(index);
  if (c.controller !== 0) {
    const controller = connections.at(u32(c.controller - 1));
    if (controller !== null) atomicAdd(controller, 'controls', -1);
  }
  unbindFrom(c.server, c);
  if ((c.flags & UNKNOWN_PORT) !== 0) atomicAdd(population.only, 'expected', -1);
  atomicAdd(population.only, 'alive', -1);
  returnSlot(index);
}

/** No packet finds it any more; the next walk takes it out, and until then it is listed and counted. */
export function expireSoon(c: Connection, index: u32): void {
  leave(c, index);
  c.lastSeen = clock();
  c.timeout = 1;
}

/** FTP data leads to FTP control leads to a template. */
const LONGEST_CHAIN = 3;

/** Take it out, and those that controlled it and now control nobody; an assured template is spared. */
export function dropChain(first: u32): void {
  let index: u32 = first;
  for (let i = 0; i < LONGEST_CHAIN; i++) {
    const c = connections.at(index);
    if (c === null || c.alive !== 1 || c.controls !== 0) return;
    if (i > 0 && (c.flags & TEMPLATE) !== 0 && c.state === ASSURED) return;
    const controller = c.controller;
    expire(c, index);
    if (controller === 0) return;
    index = u32(controller - 1);
  }
}

/** The timer starts anew with its state's timeout. Nothing is written that already says so: the line may be shared. */
export function rearm(c: Connection, now: u32): void {
  const timeout = timeoutOf(c.protocol, c.state);
  if (c.timeout !== timeout) c.timeout = timeout;
  if (c.lastSeen !== now) c.lastSeen = now;
}

/** Whether nothing has been seen of it for its timeout. A packet may have come since `now` was asked: then it is not. */
export function isExpired(c: Connection, now: u32): boolean {
  const silent = u32(now - c.lastSeen);
  return silent >= c.timeout && silent < 0x8000_0000;
}

/** What a controlling entry gets each time its timer fires: it waits for those it controls (and keeps this timeout). */
const BUSY_TIMEOUT = ticksOf(60);

/** Its timer fires: it goes, or waits on where it controls others. True when it is gone. */
export function fire(c: Connection, index: u32): boolean {
  if (c.controls !== 0) {
    c.lastSeen = u32(c.lastSeen + c.timeout);
    c.timeout = BUSY_TIMEOUT;
    return false;
  }
  if ((c.flags & HAS_IDLE_RULE) !== 0) announceEnd(c);
  expire(c, index);
  return true;
}

/** The live connection of that number, or null. */
export function connectionAt(index: u32, now: u32): Connection | null {
  const c = connections.at(index);
  if (c === null || c.alive !== 1) return null;
  if (isExpired(c, now) && fire(c, index)) return null;
  return c;
}
