/** New entries of the connection table, filled and let in: connections, templates, and what bypasses all real servers. */
import { assign, atomicAdd, type be16, rawBe16, u8, u32 } from '@ipvsd/bpf';
import { IPV4, IPV6 } from '../family.ts';
import { beginUnchanged } from '../forward/sequence.ts';
import { helperOf } from '../helper/ports.ts';
import { type Address6, AF_INET } from '../packet/address.ts';
import { IPPROTO_TCP, IPPROTO_UDP } from '../packet/headers.ts';
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
import { settings } from '../settings.ts';
import {
  ADJUSTED,
  ASSURED,
  type Connection,
  connections,
  HASHED,
  HELPER_UNIT,
  INACTIVE,
  LIMITED,
  NO_OUTPUT,
  OF_ENGINE,
  ONE_PACKET,
  OTHER_FAMILY,
  SHAKING,
  TEMPLATE,
} from './connection.ts';
import { enter, enterAgain, returnLocalPort } from './entering.ts';
import { begin, fill, giveUp, INITIAL_TIMEOUT, introduce, take } from './entry.ts';
import { beginIdleRule } from './idle.ts';
import { bind, bindInstead, unbindFrom } from './lifecycle.ts';
import {
  keepLocalEnd,
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
import {
  NO_LOCAL_PORT,
  NO_SERVER,
  OF_ITS_TEMPLATE,
  OF_PACKET,
  type Opening,
  openings,
  planOf,
  TABLE_FULL,
} from './opening.ts';
import { endBefore, KEPT_END, KEPT_REPLIES, letGo, takeOver } from './reuse.ts';

/**
 * A connection to the real server that the plan chose, in the entry of its finished one where it can be. `controller`: the number of
 * its template plus one, or 0.
 * @subprog alone
 */
export function makeConnection(port: be16, controller: u32): u32 {
  const plan = planOf();
  const opening = openings.at(OF_PACKET);
  if (plan === null || opening === null) return TABLE_FULL;
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
  const again = plan.finished === NONE ? NONE : takeOver();
  letGo(plan);
  const index = again === NONE ? take(isAssured(controller)) : again;
  const c = connections.at(index);
  if (c === null) return TABLE_FULL;
  const before: u32 = c.server;
  let kept: u32 = 0;
  if (again === NONE) introduce(c, index, opening);
  else kept = endBefore(index, chosen, port, flags);
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
  const entered = again !== NONE ? enterAgain(index, kept & KEPT_REPLIES) : once || enter(index);
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
  return giveUp(index);
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
      ? keepLocalEnd(IPV4, c.number, index, place, locals, same)
      : keepLocalEnd(IPV6, c.number, index, place, locals, same);
    if (keeps) return 0;
    if (same) returnLocalPort(c);
  }
  return four ? takeLocalEnd(IPV4, c.number, index, place, locals) : takeLocalEnd(IPV6, c.number, index, place, locals);
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

/** Its handshake says how large segments may be, where its service does. */
export const flagsOfLimit = (limit: u32, protocol: u32): u32 =>
  limit !== 0 && protocol === IPPROTO_TCP ? LIMITED + SHAKING : 0;

/**
 * A connection that goes where its packets say (cache_bypass).
 * @subprog alone
 */
export function makeBypass(): u32 {
  const opening = openings.at(OF_PACKET);
  if (opening === null) return TABLE_FULL;
  const index = begin(opening, NONE, rawBe16(0), METHOD_BYPASS + INACTIVE + NO_OUTPUT, INITIAL_TIMEOUT, false);
  if (index === TABLE_FULL) return TABLE_FULL;
  return enter(index) ? index : giveUp(index);
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
  const taken = opening.family === AF_INET ? takePort(IPV4, index, PROBES) : takePort(IPV6, index, PROBES);
  if (!taken) {
    giveUp(index);
    return NO_LOCAL_PORT;
  }
  return enter(index) ? index : giveUp(index);
}

/**
 * A template, by the key that this CPU's second opening has.
 * @subprog alone
 */
export function makeTemplate(chosen: u32, port: be16, timeout: u32): u32 {
  const server = servers.at(chosen);
  const wanted = openings.at(OF_ITS_TEMPLATE);
  if (server === null || wanted === null) return NO_SERVER;
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
  if (!enter(index)) return giveUp(index);
  atomicAdd(server, 'persistent', 1);
  return index;
}

/** Whether the template of that number plus one has led to a connection that came about. */
function isAssured(controller: u32): boolean {
  if (controller === 0) return false;
  const template = connections.at(u32(controller - 1));
  return template !== null && template.state === ASSURED;
}

const familyOf = (server: RealServer, opening: Opening): number =>
  server.family === opening.family ? 0 : OTHER_FAMILY;
