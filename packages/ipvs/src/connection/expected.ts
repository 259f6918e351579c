/**
 * Connections that are there before their first packet, as a helper has read of them: bound to the real server of the connection
 * that spoke of them, which controls them. Where the port of one side is not known yet it is 0, and the first packet from any port
 * of that side makes it known.
 */
import { assign, atomicAdd, atomicCompareExchange, type be16, raw, stack, u32 } from '@ipvsd/bpf';
import { type Family, IPV4, IPV6, sourceOf } from '../family.ts';
import { type Address6, AF_INET } from '../packet/address.ts';
import { IPPROTO_TCP } from '../packet/headers.ts';
import { LISTEN } from '../protocol/tcp.ts';
import { METHOD_FULLNAT, NONE, servers } from '../service/service.ts';
import { now as clock } from '../settings.ts';
import { type Connection, connections, METHOD_MASK, NO_CLIENT_PORT, population, UNKNOWN_PORT } from './connection.ts';
import { enter, leave, returnLocalPort } from './entering.ts';
import { findFlow, NO_FLOW, numberOf } from './flows.ts';
import { changeState, connectionAt, expire, rearm } from './lifecycle.ts';
import { keepPort } from './local-end.ts';
import { makeExpected } from './make-expected.ts';
import { OF_PACKET, type Opening, openings, TABLE_FULL } from './opening.ts';

/**
 * Expect a connection of `control` that opens as this CPU's opening says (helper/expectation.ts), to or from `realPort` of its
 * real server: its number. One that is expected already waits anew; TABLE_FULL or more where the client is connected to another
 * real server by these ports, or there is no room.
 * @subprog alone
 */
export function expect(control: u32, realPort: be16): u32 {
  const c = connections.at(control);
  const wanted = openings.at(OF_PACKET);
  if (c === null || wanted === null) return TABLE_FULL;
  const known = wanted.family === AF_INET ? find(IPV4, wanted) : find(IPV6, wanted);
  const there = connections.at(known);
  if (known < TABLE_FULL && there !== null) {
    if (there.controller === u32(control + 1) && there.realPort === realPort) {
      listen(there);
      return known;
    }
    // What nobody came for makes room, as only the last that was said counts.
    if ((there.flags & UNKNOWN_PORT) === 0) return TABLE_FULL;
    expire(known);
  }
  return makeExpected(control, realPort);
}

/**
 * What `control` expects by these ports, and nobody has come for, is expected no more.
 * @subprog
 */
export function expectNoMore(control: u32, wanted: Opening): void {
  const known = wanted.family === AF_INET ? find(IPV4, wanted) : find(IPV6, wanted);
  const there = connections.at(known);
  if (known >= TABLE_FULL || there === null) return;
  if (there.controller === u32(control + 1) && (there.flags & UNKNOWN_PORT) !== 0) expire(known);
}

function find(family: Family, wanted: Opening): u32 {
  const key = stack(family.Tuple, {
    sourcePort: sourceOf(wanted.protocol, wanted.clientPort),
    destinationPort: wanted.virtualPort,
    protocol: wanted.protocol,
  });
  family.narrow(key.source, wanted.client);
  family.narrow(key.destination, wanted.virtual);
  const flow = findFlow(family, key);
  if (flow === NO_FLOW) return TABLE_FULL;
  const index = numberOf(flow);
  return connectionAt(index, clock()) === null ? TABLE_FULL : index;
}

function listen(c: Connection): void {
  if (c.protocol === IPPROTO_TCP) changeState(c, servers.at(c.server), c.state, LISTEN);
  rearm(c, clock());
}

/**
 * Twice the number of the connection that waited for such a packet, plus the packet's direction; or NONE. By its ports it is known
 * from now on. Only asked for packets that no connection knows.
 */
export function takeExpected(family: Family, opening: Opening): u32 {
  if (population.only.expected === 0) return NONE;
  const key = stack(family.Tuple, { destinationPort: opening.virtualPort, protocol: opening.protocol });
  family.narrow(key.source, opening.client);
  family.narrow(key.destination, opening.virtual);
  let flow: u32 = findFlow(family, key);
  if (flow === NO_FLOW) {
    // Or anybody may come.
    const open = stack(family.Tuple, { destinationPort: opening.virtualPort, protocol: opening.protocol });
    family.narrow(open.destination, opening.virtual);
    flow = findFlow(family, open);
  }
  if (flow === NO_FLOW) return NONE;
  const index = numberOf(flow);
  const c = connectionAt(index, clock());
  if (c === null || !becomeKnown(c, index, opening)) return NONE;
  return flow;
}

/**
 * The port, and where anybody might come the host, is that of the packet. False where another CPU was first, or the client uses these ports otherwise.
 * @subprog
 */
function becomeKnown(c: Connection, index: u32, opening: Opening): boolean {
  const port = opening.clientPort;
  const flags = c.flags;
  if ((flags & UNKNOWN_PORT) === 0) return false;
  if (atomicCompareExchange(c, 'flags', flags, u32(flags & ~UNKNOWN_PORT)) !== flags) return false;
  atomicAdd(population.only, 'expected', -1);
  leave(index);
  if ((flags & NO_CLIENT_PORT) !== 0) {
    c.clientPort = port;
  } else {
    c.realPort = port;
    c.virtualPort = port;
    if (isNobody(c.real)) {
      assign(c.real, opening.client);
      assign(c.virtual, opening.client);
    }
  }
  const kept = (flags & METHOD_MASK) !== METHOD_FULLNAT || keepLocalPort(c);
  if (kept && enter(index)) return true;
  returnLocalPort(c);
  expire(index);
  return false;
}

const keepLocalPort = (c: Connection): boolean =>
  c.family === AF_INET ? keepPort(IPV4, c.number) : keepPort(IPV6, c.number);

const isNobody = (address: Address6): boolean =>
  raw(address.a) === 0 && raw(address.b) === 0 && raw(address.c) === 0 && raw(address.d) === 0;
