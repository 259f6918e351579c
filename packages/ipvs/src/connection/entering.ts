/** Whether packets find a connection: its flows are entered into their table, and leave it. */
import { stack, u32, type ViewOf } from '@ipvsd/bpf';
import { enterByKey, leaveByKey } from '../engine/engine.ts';
import { type Family, IPV4, IPV6, OF_PACKETS, OF_TEMPLATE, REPLY, REQUEST, sourceOf } from '../family.ts';
import { AF_INET } from '../packet/address.ts';
import { METHOD_FULLNAT, METHOD_MASQ } from '../service/service.ts';
import {
  type Connection,
  connections,
  HASHED,
  isNat64,
  METHOD_MASK,
  OF_ENGINE,
  SUPERSEDED,
  TEMPLATE,
} from './connection.ts';
import { directionOf, enterFlow, findFlow, flowOf, leaveFlow, NO_FLOW, numberOf, redirectFlow } from './flows.ts';
import { localEnds } from './local-end.ts';
import type { Opening } from './opening.ts';

/**
 * Let packets of both directions find a filled entry. False when another CPU was first or the table of flows is full.
 * @subprog alone
 */
export function enter(index: u32): boolean {
  const c = connections.at(index);
  if (c === null) return false;
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
 * @subprog alone
 */
export function enterAgain(index: u32, same: u32): boolean {
  const c = connections.at(index);
  if (c === null) return false;
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
 * @subprog alone
 */
export function leave(index: u32): void {
  const c = connections.at(index);
  if (c === null || (c.flags & HASHED) === 0) return;
  if ((c.flags & OF_ENGINE) !== 0) leaveByKey(index);
  else {
    if (c.family === AF_INET) leaveRequests(IPV4, c, index);
    else leaveRequests(IPV6, c, index);
    if ((c.flags & TEMPLATE) === 0) leaveReplies(index);
  }
  c.flags = u32(c.flags & ~HASHED);
}

/**
 * Replies do not find it from now on; its local port, if it has one, is free.
 * @subprog alone
 */
export function leaveReplies(index: u32): void {
  const c = connections.at(index);
  if (c === null) return;
  // NAT64: they are of the real server's family.
  if (c.family === AF_INET || isNat64(c)) leaveRepliesIn(IPV4, c, index);
  else leaveRepliesIn(IPV6, c, index);
}

function leaveRepliesIn(family: Family, c: Connection, index: u32): void {
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

/** A connection that took a local port and was not let in gives it back. */
export function returnLocalPort(c: Connection): void {
  if ((c.flags & METHOD_MASK) === METHOD_FULLNAT) leaveReplies(c.number);
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
