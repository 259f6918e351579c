/**
 * A connection's life in the table: counted at its real server, moved between active and inactive, expired.
 *
 * Several CPUs may handle packets of one connection at once. A state changes by compare-and-exchange, and only who wins moves
 * the real server's counters, so that they always add up.
 */
import { atomicAdd, atomicCompareExchange, u32 } from '@ipvsd/bpf';
import { forgetData } from '../engine/engine.ts';
import { endAdjustments } from '../forward/sequence.ts';
import { isActive, isEstablished, timeoutOf } from '../protocol/index.ts';
import { type RealServer, SERVER_OVERLOAD, servers, standingOf } from '../service/service.ts';
import { now as clock, exactNow, ticksOf } from '../settings.ts';
import {
  ASSURED,
  type Connection,
  connections,
  HAS_ADJUSTMENTS,
  HAS_IDLE_RULE,
  OF_ENGINE,
  population,
  returnSlot,
  TEMPLATE,
  UNKNOWN_PORT,
} from './connection.ts';
import { leave } from './entering.ts';
import { announceEnd, endIdleRule } from './idle.ts';

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
 * @subprog alone
 */
export function expire(index: u32): void {
  const c = connections.at(index);
  if (c === null) return;
  if (atomicCompareExchange(c, 'alive', 1, 0) !== 1) return;
  leave(index);
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
  leave(index);
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
    expire(index);
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
  expire(index);
  return true;
}

/** The live connection of that number, or null. */
export function connectionAt(index: u32, now: u32): Connection | null {
  const c = connections.at(index);
  if (c === null || c.alive !== 1) return null;
  if (isExpired(c, now) && fire(c, index)) return null;
  return c;
}
