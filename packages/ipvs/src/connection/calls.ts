/**
 * Calls of PPTP (RFC 2637). Each side numbers a call as it likes, and a packet bears the number that its receiver gave. So who
 * stands between them must see that no two receivers behind one address have the same number for one sender: where a number is
 * taken, another stands for it, in the messages about the call and in its packets.
 *
 * A call is in the table when it is asked for, found by packets to the client; when it is answered, packets to the server find it too.
 */
import { assign, type be16, htons, stack, u32, type ViewOf } from '@ipvsd/bpf';
import { type Family, REQUEST } from '../family.ts';
import { isSameAddress } from '../packet/address.ts';
import { IPPROTO_GRE } from '../packet/headers.ts';
import { METHOD_FULLNAT } from '../service/service.ts';
import { type Connection, connections, METHOD_MASK, SUPERSEDED } from './connection.ts';
import { enterRequests, leaveRequests, tupleOfRequests } from './entering.ts';
import { findFlow, NO_FLOW, numberOf } from './flows.ts';
import { expire } from './lifecycle.ts';
import { keepPort, localEnds } from './local-end.ts';

/** The flow that packets to `ip`'s destination which bear `number` lead to, or NO_FLOW. */
export function findCall(family: Family, ip: ViewOf<Family['Header']>, number: be16): u32 {
  const key = stack(family.Tuple, { destinationPort: number, protocol: IPPROTO_GRE });
  assign(key.source, ip.source);
  assign(key.destination, ip.destination);
  return findFlow(family, key);
}

/** What the receiver of a packet calls it. */
export const receiversNumber = (c: Connection, direction: u32): be16 =>
  direction === REQUEST ? c.realPort : c.clientPort;

/** What the real server has been told that the client calls it. */
export function toldNumber(c: Connection): be16 {
  const end = localEnds.at(c.number);
  return end !== null && (c.flags & METHOD_MASK) === METHOD_FULLNAT ? end.port : c.clientPort;
}

/** The real server's packets find the call at the local end by the client's own number, or by another. */
export function takeNumber(family: Family, c: Connection): boolean {
  const end = localEnds.at(c.number);
  if (end === null) return false;
  end.port = c.clientPort;
  let taken = keepPort(family, c.number);
  for (let i = 0; i < TRIES && !taken; i++) {
    end.port = otherNumber(c, i);
    taken = keepPort(family, c.number);
  }
  return taken;
}

/**
 * The real server has answered with its number. The client hears that one, or another where it knows a call of another real server by
 * it already. False where there is none.
 */
export function answerCall(family: Family, c: Connection, index: u32, number: be16): boolean {
  const known = (c.flags & SUPERSEDED) === 0;
  if (known && c.realPort === number) return true;
  leaveRequests(family, c, index);
  c.realPort = number;
  c.virtualPort = number;
  endPredecessor(family, c);
  let entered = enterRequests(family, c, index);
  for (let i = 0; i < TRIES && !entered; i++) {
    c.virtualPort = otherNumber(c, i);
    entered = enterRequests(family, c, index);
  }
  c.flags = entered ? u32(c.flags & ~SUPERSEDED) : u32(c.flags | SUPERSEDED);
  return entered;
}

/** Where the same real server had another call by that number, that one is over: it has been restarted, or did not say so. */
function endPredecessor(family: Family, c: Connection): void {
  const key = stack(family.Tuple);
  tupleOfRequests(family, key, c);
  const flow = findFlow(family, key);
  if (flow === NO_FLOW) return;
  const index = numberOf(flow);
  const there = connections.at(index);
  if (there !== null && isSameAddress(there.real, c.real)) expire(index);
}

const TRIES = 4;
/** Odd, so that each connection of 65,536 has another number. */
const SPREAD = 40_503;
const otherNumber = (c: Connection, i: u32): be16 => htons(u32((u32(c.number + i) & 0xffff) * SPREAD) & 0xffff);
