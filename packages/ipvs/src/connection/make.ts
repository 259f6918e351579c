/** New entries of the connection table, filled and let in: connections, templates, and what bypasses all real servers. */
import { assign, atomicAdd, type be16, raw, rawBe16, u8, u32 } from '@ipvsd/bpf';
import { IPV4, IPV6 } from '../family.ts';
import { beginUnchanged, endAdjustments } from '../forward/sequence.ts';
import { helperOf } from '../helper/ports.ts';
import { type Address6, AF_INET } from '../packet/address.ts';
import { IPPROTO_GRE, IPPROTO_TCP, IPPROTO_UDP } from '../packet/headers.ts';
import { timeoutOf } from '../protocol/index.ts';
import { LISTEN } from '../protocol/tcp.ts';
import {
  METHOD_BYPASS,
  METHOD_FULLNAT,
  METHOD_MASQ,
  NONE,
  type RealServer,
  SERVICE_ONE_PACKET,
  type Service,
  servers,
} from '../service/service.ts';
import { countConnection } from '../service/statistics.ts';
import { now as clock, settings, ticksOf } from '../settings.ts';
import { takeNumber } from './calls.ts';
import {
  ADJUSTED,
  ASSURED,
  type Connection,
  connections,
  HAS_ADJUSTMENTS,
  HAS_IDLE_RULE,
  HASHED,
  HELPER_UNIT,
  INACTIVE,
  LIMITED,
  METHOD_MASK,
  NO_CLIENT_PORT,
  NO_OUTPUT,
  NO_SERVER_PORT,
  OF_ENGINE,
  ONE_PACKET,
  OTHER_FAMILY,
  population,
  returnSlot,
  SHAKING,
  SUPERSEDED,
  TEMPLATE,
  takeSlot,
  UNKNOWN_PORT,
} from './connection.ts';
import { beginIdleRule, endIdleRule } from './idle.ts';
import { bind, bindInstead, enter, enterAgain, leave, returnLocalPort, unbindFrom } from './lifecycle.ts';
import {
  keepLocalEnd,
  keepPort,
  localEnds,
  OTHER_LOCALS,
  PROBES,
  TELLS_BY_OPTION,
  TELLS_BY_PROXY_1,
  TELLS_BY_PROXY_2,
  TELLS_BY_PROXY_EACH,
  TELLS_NOT,
  takeLocalEnd,
  takePort,
} from './local-end.ts';
import { NO_LOCAL_PORT, NO_SERVER, type Opening, type Plan, TABLE_FULL } from './opening.ts';
import { endBefore, KEPT_END, KEPT_REPLIES, letGo, takeOver } from './reuse.ts';

/** Ticks until the first state sets its own timeout. */
const INITIAL_TIMEOUT = ticksOf(3);

/**
 * A connection to the real server that the plan chose, in the entry of its finished one where it can be. `controller`: the number of
 * its template plus one, or 0.
 * @subprog
 */
export function makeConnection(plan: Plan, opening: Opening, port: be16, controller: u32): u32 {
  const { service, chosen } = plan;
  const server = servers.at(chosen);
  if (server === null) return NO_SERVER;
  const method: u8 = u8(server.method & 7);
  const fullnat = method === METHOD_FULLNAT;
  const once = (service.flags & SERVICE_ONE_PACKET) !== 0 && opening.protocol === IPPROTO_UDP && !fullnat;
  const unseen: u32 = method === METHOD_MASQ || fullnat ? 0 : NO_OUTPUT;
  // What helpers write is of the packet's own family.
  const readable = (method === METHOD_MASQ || fullnat) && !once && server.family === opening.family;
  const helped: u32 = readable ? helperOf(opening.protocol, opening.virtualPort) : 0;
  const tells: u32 = fullnat ? wayToTell(service, opening.protocol) : TELLS_NOT;
  const proxied = tells >= TELLS_BY_PROXY_1 && opening.protocol === IPPROTO_TCP;
  const flags: u32 =
    (proxied && helped === 0 ? ADJUSTED : 0) +
    method +
    INACTIVE +
    unseen +
    familyOf(server, opening) +
    (once ? ONE_PACKET : 0) +
    flagsOfHelper(helped, opening) +
    flagsOfLimit(service.segmentSize, opening.protocol);
  const again = plan.finished === NONE ? NONE : takeOver(plan, opening);
  letGo(plan);
  const index = again === NONE ? take(isAssured(controller)) : again;
  const c = connections.at(index);
  if (c === null) return TABLE_FULL;
  const before: u32 = c.server;
  let kept: u32 = 0;
  if (again === NONE) introduce(c, index, opening);
  else kept = endBefore(c, server.address, port, flags);
  fill(c, chosen, port, again === NONE ? flags : u32(flags + HASHED), INITIAL_TIMEOUT, opening.mark);
  if (helped !== 0 || proxied) beginUnchanged(index);
  assign(c.real, server.address);
  if (fullnat) {
    const refused = localEndFor(c, service, server.family, kept);
    if (refused !== 0) {
      abandon(c, index, again, before);
      return refused;
    }
    const end = localEnds.at(index);
    if (end !== null) {
      end.tells = u8(tells & 7);
      end.answered = 0;
    }
  }
  if (!once && service.idleRule !== 0 && !beginIdleRule(c, service)) return abandon(c, index, again, before);
  const entered = again !== NONE ? enterAgain(c, index, kept & KEPT_REPLIES) : once || enter(c, index);
  if (!entered) return abandon(c, index, again, before);
  if (controller !== 0) {
    const controlling = connections.at(u32(controller - 1));
    if (controlling !== null) atomicAdd(controlling, 'controls', 1);
    c.controller = controller;
  }
  if (again === NONE) bind(server, chosen);
  // Where no threshold is, one that comes for one that goes changes nothing.
  else if (before !== chosen || server.upper !== 0) bindInstead(server, chosen, before, c);
  countConnection(chosen);
  c.alive = 1;
  return index;
}

/** The connection did not come about; nor is there still one where it took over the entry `again`, of the real server `before`. */
function abandon(c: Connection, index: u32, again: u32, before: u32): u32 {
  if (again !== NONE) unbindFrom(before, c);
  return giveUp(c, index);
}

/** A local end: the one that the entry had, where that leads to the real server or may, or another. 0, or why there is none. */
function localEndFor(c: Connection, service: Service, family: u32, kept: u32): u32 {
  const { index } = service;
  const own = family === c.family;
  const place: u32 = own ? 0 : OTHER_LOCALS;
  const locals: u32 = own ? service.locals : service.otherLocals;
  const four = family === AF_INET;
  if ((kept & KEPT_END) !== 0) {
    const same = (kept & KEPT_REPLIES) !== 0;
    const keeps = four
      ? keepLocalEnd(IPV4, c, index, place, locals, same)
      : keepLocalEnd(IPV6, c, index, place, locals, same);
    if (keeps) return 0;
    if (same) returnLocalPort(c, c.number);
  }
  return four ? takeLocalEnd(IPV4, c, index, place, locals) : takeLocalEnd(IPV6, c, index, place, locals);
}

/** How a real server is told of its client: as the service says, else by the protocol's option. */
function wayToTell(service: Service, protocol: u32): u32 {
  const version = service.proxy;
  const { addressOption, datagramOption } = settings.only;
  if (protocol === IPPROTO_TCP) {
    if (version === 0) return addressOption !== 0 ? TELLS_BY_OPTION : TELLS_NOT;
    return version === 1 ? TELLS_BY_PROXY_1 : TELLS_BY_PROXY_2;
  }
  if (protocol !== IPPROTO_UDP) return TELLS_NOT;
  if (version === 0) return datagramOption !== 0 ? TELLS_BY_OPTION : TELLS_NOT;
  // Version 1 has no word for UDP.
  return version === 1 ? TELLS_NOT : version === 2 ? TELLS_BY_PROXY_2 : TELLS_BY_PROXY_EACH;
}

/** A helper may change the length of what TCP carries. */
const flagsOfHelper = (helper: u32, opening: Opening): u32 =>
  (helper & 7) * HELPER_UNIT + (helper !== 0 && opening.protocol === IPPROTO_TCP ? ADJUSTED : 0);

const flagsOfLimit = (limit: u32, protocol: u32): u32 =>
  limit !== 0 && protocol === IPPROTO_TCP ? LIMITED + SHAKING : 0;

/**
 * A connection that goes where its packets say (cache_bypass).
 * @subprog
 */
export function makeBypass(opening: Opening): u32 {
  const index = begin(opening, NONE, rawBe16(0), METHOD_BYPASS + INACTIVE + NO_OUTPUT, INITIAL_TIMEOUT, false);
  if (index === TABLE_FULL) return TABLE_FULL;
  const c = connections.at(index);
  if (c === null) return TABLE_FULL;
  return enter(c, index) ? index : giveUp(c, index);
}

/**
 * A connection of a masqueraded host: `source` is the director's address that the outside sees.
 * @subprog
 */
export function makeMasqueraded(opening: Opening, source: Address6): u32 {
  const helped = helperOf(opening.protocol, opening.virtualPort);
  const flags = METHOD_FULLNAT + INACTIVE + flagsOfHelper(helped, opening);
  const index = begin(opening, NONE, opening.virtualPort, flags, INITIAL_TIMEOUT, false);
  if (index === TABLE_FULL) return TABLE_FULL;
  if (helped !== 0) beginUnchanged(index);
  const c = connections.at(index);
  const end = localEnds.at(index);
  if (c === null || end === null) return TABLE_FULL;
  assign(c.real, opening.virtual);
  assign(end.address, source);
  end.route.ifindex = 0;
  end.tells = TELLS_NOT;
  const taken = opening.family === AF_INET ? takePort(IPV4, c, end, PROBES) : takePort(IPV6, c, end, PROBES);
  if (!taken) {
    giveUp(c, index);
    return NO_LOCAL_PORT;
  }
  return enter(c, index) ? index : giveUp(c, index);
}

/**
 * A template; `wanted` has its key.
 * @subprog
 */
export function makeTemplate(wanted: Opening, chosen: u32, port: be16, timeout: u32): u32 {
  const server = servers.at(chosen);
  if (server === null) return NO_SERVER;
  const index = begin(
    wanted,
    chosen,
    port,
    (server.method & 7) + TEMPLATE + familyOf(server, wanted) + (wanted.engine !== 0 ? OF_ENGINE : 0),
    timeout,
    false,
  );
  if (index === TABLE_FULL) return TABLE_FULL;
  const c = connections.at(index);
  if (c === null) return TABLE_FULL;
  assign(c.real, server.address);
  if (!enter(c, index)) return giveUp(c, index);
  atomicAdd(server, 'persistent', 1);
  return index;
}

/**
 * A connection to the real server of `c`, which has the number `control` and controls it: both directions let in before its first
 * packet.
 * @subprog
 */
export function makeExpected(c: Connection, control: u32, wanted: Opening, realPort: be16): u32 {
  // Of a masqueraded host it has none.
  const server = servers.at(c.server);
  const unknown: u32 = (raw(wanted.clientPort) === 0 ? NO_CLIENT_PORT : 0) + (raw(realPort) === 0 ? NO_SERVER_PORT : 0);
  // Calls may have the number 0. The client finds one when it is answered (calls.ts).
  const lacks: u32 = wanted.protocol === IPPROTO_GRE ? SUPERSEDED : unknown;
  const inherited: u32 = c.flags & (METHOD_MASK + NO_OUTPUT + OTHER_FAMILY);
  const limit = flagsOfLimit(c.flags & LIMITED, wanted.protocol);
  const index = begin(wanted, c.server, realPort, inherited + INACTIVE + lacks + limit, INITIAL_TIMEOUT, true);
  if (index === TABLE_FULL) return TABLE_FULL;
  const made = connections.at(index);
  if (made === null) return TABLE_FULL;
  // Outside, whom a masqueraded host waits for is all that there is.
  if (server === null) assign(made.real, wanted.virtual);
  else assign(made.real, c.real);
  made.state = wanted.protocol === IPPROTO_TCP ? LISTEN : 0;
  made.timeout = timeoutOf(wanted.protocol, made.state);
  if ((inherited & METHOD_MASK) === METHOD_FULLNAT && !takePortBeside(made, c)) return giveUp(made, index);
  if (!enter(made, index)) return giveUp(made, index);
  made.controller = u32(control + 1);
  atomicAdd(c, 'controls', 1);
  if ((lacks & UNKNOWN_PORT) !== 0) atomicAdd(population.only, 'expected', 1);
  if (server !== null) bind(server, c.server);
  return index;
}

/** The real server sees it come from the same local address as `c`, and what is of one port of the client from one port. */
function takePortBeside(made: Connection, c: Connection): boolean {
  const own = localEnds.at(made.number);
  const control = localEnds.at(c.number);
  if (own === null || control === null) return false;
  assign(own.address, control.address);
  own.route.ifindex = 0;
  // A data connection has no header: who waits there knows whom for.
  own.tells = made.protocol === IPPROTO_TCP && control.tells === TELLS_BY_OPTION ? TELLS_BY_OPTION : TELLS_NOT;
  own.answered = 0;
  if (made.clientPort === c.clientPort && made.protocol === c.protocol) {
    own.port = control.port;
    return made.family === AF_INET ? keepPort(IPV4, made) : keepPort(IPV6, made);
  }
  if (made.protocol === IPPROTO_GRE) return made.family === AF_INET ? takeNumber(IPV4, made) : takeNumber(IPV6, made);
  // Where media is sent is told to the real server as the client says it.
  if (made.protocol !== IPPROTO_TCP) {
    own.port = made.clientPort;
    return made.family === AF_INET ? keepPort(IPV4, made) : keepPort(IPV6, made);
  }
  return made.family === AF_INET ? takePort(IPV4, made, own, PROBES) : takePort(IPV6, made, own, PROBES);
}

/** Whether the template of that number plus one has led to a connection that came about. */
function isAssured(controller: u32): boolean {
  if (controller === 0) return false;
  const template = connections.at(u32(controller - 1));
  return template !== null && template.state === ASSURED;
}

const familyOf = (server: RealServer, opening: Opening): number =>
  server.family === opening.family ? 0 : OTHER_FAMILY;

/** An entry that no packet finds yet: its number. */
function begin(opening: Opening, server: u32, port: be16, flags: u32, timeout: u32, known: boolean): u32 {
  const index = take(known);
  const c = connections.at(index);
  if (c === null) return TABLE_FULL;
  introduce(c, index, opening);
  fill(c, server, port, flags, timeout, opening.mark);
  c.alive = 1;
  return index;
}

/** A place in the table, or TABLE_FULL. */
function take(known: boolean): u32 {
  const index = takeSlot(known);
  if (index === NONE) return TABLE_FULL;
  atomicAdd(population.only, 'alive', 1);
  return index;
}

/** Whose the entry is. */
function introduce(c: Connection, index: u32, opening: Opening): void {
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
function fill(c: Connection, server: u32, port: be16, flags: u32, timeout: u32, mark: u32): void {
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

/** Another CPU was first, or the table of flows is full, or there is no local port. */
function giveUp(c: Connection, index: u32): u32 {
  leave(c, index);
  returnLocalPort(c, index);
  if ((c.flags & HAS_IDLE_RULE) !== 0) endIdleRule(c);
  if ((c.flags & HAS_ADJUSTMENTS) !== 0) endAdjustments(index);
  c.alive = 0;
  atomicAdd(population.only, 'alive', -1);
  returnSlot(index);
  return TABLE_FULL;
}
