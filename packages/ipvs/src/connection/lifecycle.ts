/**
 * A connection's life in the table: entered, moved between active and inactive, expired.
 *
 * Several CPUs may handle packets of one connection at once. A state changes by compare-and-exchange, and only who wins moves
 * the real server's counters, so that they always add up.
 */
import { ANY, atomicAdd, atomicCompareExchange, NO_EXIST, stack, u32 } from '@ipvsd/bpf';
import { type Family, Flow, IPV4, IPV6, REPLY, REQUEST } from '../family.ts';
import { AF_INET } from '../packet/address.ts';
import { type RealServer, SERVER_OVERLOAD, servers } from '../service/service.ts';
import { type Connection, connections, NO_OUTPUT, population, returnSlot } from './connection.ts';
import { isActive } from './tcp-state.ts';

/** Let both directions find a filled entry. False when another CPU was first or the table of flows is full. */
export function enter(family: Family, c: Connection, index: u32): boolean {
  const key = stack(family.Tuple, {
    sourcePort: c.clientPort,
    destinationPort: c.virtualPort,
    protocol: c.protocol,
  });
  family.narrow(key.source, c.client);
  family.narrow(key.destination, c.virtual);
  const flow = stack(Flow, { connection: index, direction: REQUEST });
  if (family.flows.update(key, flow, NO_EXIST) !== 0) return false;
  if ((c.flags & NO_OUTPUT) === 0) {
    const back = stack(family.Tuple, {
      sourcePort: c.realPort,
      destinationPort: c.clientPort,
      protocol: c.protocol,
    });
    family.narrow(back.source, c.real);
    family.narrow(back.destination, c.client);
    flow.direction = REPLY;
    // Where two virtual services lead one client port to one real server, the newest connection gets the replies.
    family.flows.update(back, flow, ANY);
  }
  atomicAdd(population.only, 'alive', 1);
  return true;
}

function leave(family: Family, c: Connection, index: u32): void {
  const key = stack(family.Tuple, {
    sourcePort: c.clientPort,
    destinationPort: c.virtualPort,
    protocol: c.protocol,
  });
  family.narrow(key.source, c.client);
  family.narrow(key.destination, c.virtual);
  family.flows.delete(key);
  if ((c.flags & NO_OUTPUT) === 0) {
    const back = stack(family.Tuple, {
      sourcePort: c.realPort,
      destinationPort: c.clientPort,
      protocol: c.protocol,
    });
    family.narrow(back.source, c.real);
    family.narrow(back.destination, c.client);
    const flow = family.flows.lookup(back);
    if (flow !== null && flow.connection === index) family.flows.delete(back);
  }
}

/** Count a new connection at its real server: inactive until its state says otherwise. */
export function bind(server: RealServer): void {
  atomicAdd(server, 'inactive', 1);
  if (server.upper !== 0 && server.active + server.inactive >= server.upper) {
    server.flags = u32(server.flags | SERVER_OVERLOAD);
  }
}

/** The reverse, with the overload flag's hysteresis (spec section 5). */
function unbind(server: RealServer, active: boolean): void {
  if (active) atomicAdd(server, 'active', -1);
  else atomicAdd(server, 'inactive', -1);
  const total = server.active + server.inactive;
  const low = server.lower !== 0 ? total < server.lower : server.upper === 0 || total * 4 < server.upper * 3;
  if (low) server.flags = u32(server.flags & ~SERVER_OVERLOAD);
}

/** Change the state; the first CPU to do so moves the connection between the active and the inactive. */
export function changeState(c: Connection, server: RealServer, from: u32, to: u32): void {
  if (atomicCompareExchange(c, 'state', from, to) !== from) return;
  const was = isActive(from);
  const is = isActive(to);
  if (was === is) return;
  if (is) {
    atomicAdd(server, 'active', 1);
    atomicAdd(server, 'inactive', -1);
  } else {
    atomicAdd(server, 'active', -1);
    atomicAdd(server, 'inactive', 1);
  }
}

/** Take a connection out of the table, once, whoever asks first. */
export function expire(c: Connection, index: u32): void {
  if (atomicCompareExchange(c, 'alive', 1, 0) !== 1) return;
  if (c.family === AF_INET) leave(IPV4, c, index);
  else leave(IPV6, c, index);
  const server = servers.at(c.server);
  if (server !== null) unbind(server, isActive(c.state));
  atomicAdd(population.only, 'alive', -1);
  returnSlot(index);
}

/** Whether nothing has been seen of it for its timeout. */
export const isExpired = (c: Connection, now: u32): boolean => u32(now - c.lastSeen) >= c.timeout;

/** The live connection of that number, or null. */
export function connectionAt(index: u32, now: u32): Connection | null {
  const c = connections.at(index);
  if (c === null || c.alive !== 1) return null;
  if (isExpired(c, now)) {
    expire(c, index);
    return null;
  }
  return c;
}
