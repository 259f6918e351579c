/** A new connection: a real server chosen, an entry filled, both directions let in. */
import { assign, be16, raw, struct, u8, type u32, type ViewOf } from '@ipvsd/bpf';
import type { Family } from '../family.ts';
import { Address6 } from '../packet/address.ts';
import { schedule } from '../scheduler/index.ts';
import { countConnection, METHOD_MASQ, NONE, type Service, servers, serviceStates } from '../service/service.ts';
import { type Connection, connections, INACTIVE, NO_OUTPUT, returnSlot, takeSlot } from './connection.ts';
import { bind, enter } from './lifecycle.ts';

/** What the first packet says. */
export const Opening = struct('opening', {
  client: Address6,
  virtual: Address6,
  clientPort: be16,
  virtualPort: be16,
  protocol: u8,
});
export type Opening = ViewOf<typeof Opening>;

/** The number of the real server that is to have it, or NONE. */
export function chooseServer(service: Service, opening: Opening): u32 {
  const state = serviceStates.at(service.index);
  return state === null ? NONE : schedule(service, state, opening);
}

/** Ticks until the first state sets its own timeout (3 s). */
const INITIAL_TIMEOUT = 2861;

/** The number of the new connection, or NONE where the table is full. */
export function openConnection(family: Family, opening: Opening, chosen: u32, mark: u32, now: u32): u32 {
  const server = servers.at(chosen);
  if (server === null) return NONE;
  const index = takeSlot();
  if (index === NONE) return NONE;
  const c = connections.at(index);
  if (c === null) return NONE;
  assign(c.client, opening.client);
  assign(c.virtual, opening.virtual);
  assign(c.real, server.address);
  c.clientPort = opening.clientPort;
  c.virtualPort = opening.virtualPort;
  c.realPort = raw(server.port) !== 0 ? server.port : opening.virtualPort;
  c.protocol = opening.protocol;
  c.family = family.number;
  c.flags = server.method === METHOD_MASQ ? INACTIVE : INACTIVE | NO_OUTPUT;
  c.state = 0;
  c.timeout = INITIAL_TIMEOUT;
  c.lastSeen = now;
  c.server = chosen;
  c.inPackets = 0;
  c.mark = mark;
  c.controller = 0;
  c.controls = 0;
  c.route.ifindex = 0;
  c.alive = 1;
  if (!enter(family, c, index)) {
    c.alive = 0;
    returnSlot(index);
    return NONE;
  }
  bind(server);
  countConnection(chosen);
  return index;
}

export type { Connection };
