/**
 * Persistence: all connections of a client, or of a network of clients, go to one real server for as long as the template
 * lives. Templates are entries of the connection table without a client port, found by the client's network (spec 4.3).
 */
import { clear, htonl, htons, raw, rawBe32, stack, u32, u64 } from '@ipvsd/bpf';
import { type Family, IPV4, IPV6, OF_TEMPLATE } from '../family.ts';
import { AF_INET } from '../packet/address.ts';
import { NONE, SERVER_AVAILABLE, type Service, servers, standingOf } from '../service/service.ts';
import { now as clock, settings } from '../settings.ts';
import type { Connection } from './connection.ts';
import { leave } from './entering.ts';
import { findFlow, NO_FLOW, numberOf } from './flows.ts';
import { connectionAt } from './lifecycle.ts';
import type { Opening } from './opening.ts';

const FTP = htons(21);
/** Ports of a template that no packet shall find again. */
const INVALID_PORT = htons(65_535);

/** The template is for the service's one port, and not for all that FTP opens. */
export const isOfOnePort = (service: Service, opening: Opening): boolean =>
  opening.virtualPort === service.port && service.port !== FTP;

/** Writes into `wanted` the key of the template that the packet falls under. */
export function templateKey(wanted: Opening, service: Service, opening: Opening): void {
  clear(wanted);
  wanted.family = opening.family;
  wanted.mark = opening.mark;
  wanted.client.a = rawBe32(u32(raw(opening.client.a) & raw(service.netmask.a)));
  wanted.client.b = rawBe32(u32(raw(opening.client.b) & raw(service.netmask.b)));
  wanted.client.c = rawBe32(u32(raw(opening.client.c) & raw(service.netmask.c)));
  wanted.client.d = rawBe32(u32(raw(opening.client.d) & raw(service.netmask.d)));
  if (service.mark !== 0 && opening.virtualPort !== service.port) {
    // One template for all that the mark stands for: its protocol is IP and its address the mark.
    wanted.virtual.a = htonl(service.mark);
    return;
  }
  wanted.protocol = opening.protocol;
  wanted.virtual.a = opening.virtual.a;
  wanted.virtual.b = opening.virtual.b;
  wanted.virtual.c = opening.virtual.c;
  wanted.virtual.d = opening.virtual.d;
  if (isOfOnePort(service, opening)) wanted.virtualPort = opening.virtualPort;
}

/**
 * The number of the valid template of that key, or NONE.
 * @subprog
 */
export function findTemplate(wanted: Opening): u32 {
  return ifValid(wanted.family === AF_INET ? lookupTemplate(IPV4, wanted) : lookupTemplate(IPV6, wanted));
}

/** The template of that number where it is valid, or NONE; one that no longer is will not be found again. */
export function ifValid(number: u32): u32 {
  if (number === NONE) return NONE;
  const template = connectionAt(number, clock());
  if (template === null) return NONE;
  if (isValid(template)) return number;
  invalidate(template, number);
  return NONE;
}

function lookupTemplate(family: Family, wanted: Opening): u32 {
  const key = stack(family.Tuple, {
    destinationPort: wanted.virtualPort,
    protocol: wanted.protocol,
    kind: OF_TEMPLATE,
  });
  family.narrow(key.source, wanted.client);
  family.narrow(key.destination, wanted.virtual);
  const flow = findFlow(family, key);
  return flow === NO_FLOW ? NONE : numberOf(flow);
}

/** Its real server is in service and, where operators want it so (expire_quiescent_template), not quiesced. */
function isValid(template: Connection): boolean {
  const server = servers.at(template.server);
  if (server === null || (server.flags & SERVER_AVAILABLE) === 0) return false;
  return standingOf(template.server).weight !== 0 || settings.only.expireQuiescentTemplate === 0;
}

/** Nobody finds it again; it stays in the list until its time is over, as connections may still hang on it. */
export function invalidate(template: Connection, index: u32): void {
  leave(index);
  template.virtualPort = INVALID_PORT;
  template.realPort = INVALID_PORT;
}

/** Ticks that its templates live. */
export const ticksOfService = (service: Service): u32 => u32((u64(service.timeout) * 1_000_000_000n) >> 20n);
