/** An entry of the connection table: taken, filled, given back. */
import { assign, atomicAdd, type be16, type u32 } from '@ipvsd/bpf';
import { endAdjustments } from '../forward/sequence.ts';
import { NONE } from '../service/service.ts';
import { now as clock, ticksOf } from '../settings.ts';
import {
  type Connection,
  connections,
  HAS_ADJUSTMENTS,
  HAS_IDLE_RULE,
  population,
  returnSlot,
  takeSlot,
} from './connection.ts';
import { leave, returnLocalPort } from './entering.ts';
import { endIdleRule } from './idle.ts';
import { type Opening, TABLE_FULL } from './opening.ts';

/** Ticks until the first state sets its own timeout. */
export const INITIAL_TIMEOUT = ticksOf(3);

/** An entry that no packet finds yet: its number. */
export function begin(opening: Opening, server: u32, port: be16, flags: u32, timeout: u32, known: boolean): u32 {
  const index = take(known);
  const c = connections.at(index);
  if (c === null) return TABLE_FULL;
  introduce(c, index, opening);
  fill(c, server, port, flags, timeout, opening.mark);
  c.alive = 1;
  return index;
}

/** A place in the table, or TABLE_FULL. */
export function take(known: boolean): u32 {
  const index = takeSlot(known);
  if (index === NONE) return TABLE_FULL;
  atomicAdd(population.only, 'alive', 1);
  return index;
}

/** Whose the entry is. */
export function introduce(c: Connection, index: u32, opening: Opening): void {
  assign(c.client, opening.client);
  assign(c.virtual, opening.virtual);
  c.clientPort = opening.clientPort;
  c.virtualPort = opening.virtualPort;
  c.protocol = opening.protocol;
  c.family = opening.family;
  c.number = index;
  c.route.ifindex = 0;
}

/** What it begins with. */
export function fill(c: Connection, server: u32, port: be16, flags: u32, timeout: u32, mark: u32): void {
  c.realPort = port;
  c.flags = flags;
  c.state = 0;
  c.timeout = timeout;
  c.lastSeen = clock();
  c.server = server;
  c.inPackets = 0;
  c.mark = mark;
  c.controller = 0;
  c.controls = 0;
}

/**
 * Another CPU was first, or the table of flows is full, or there is no local port.
 * @subprog alone
 */
export function giveUp(index: u32): u32 {
  const c = connections.at(index);
  if (c === null) return TABLE_FULL;
  leave(index);
  returnLocalPort(c);
  if ((c.flags & HAS_IDLE_RULE) !== 0) endIdleRule(c);
  if ((c.flags & HAS_ADJUSTMENTS) !== 0) endAdjustments(index);
  c.alive = 0;
  atomicAdd(population.only, 'alive', -1);
  returnSlot(index);
  return TABLE_FULL;
}
