/**
 * Persistence: all connections of a client, or of a network of clients, go to one real server for as long as the template
 * lives. Templates are entries of the connection table without a client port, found by the client's network (spec 4.3).
 */
import { type be16, htonl, htons, raw, rawBe16, rawBe32, stack, u32, u64 } from '@ipvsd/bpf';
import { type Family, IPV4, IPV6, OF_TEMPLATE } from '../family.ts';
import { AF_INET } from '../packet/address.ts';
import { chooseServer } from '../scheduler/index.ts';
import { NONE, SERVER_AVAILABLE, type Service, servers } from '../service/service.ts';
import { now as clock, settings } from '../settings.ts';
import { type Connection, connections } from './connection.ts';
import { connectionAt, leave } from './lifecycle.ts';
import { makeTemplate } from './make.ts';
import { NO_SERVER, Opening } from './opening.ts';

const FTP = htons(21);
/** Ports of a template that no packet shall find again. */
const INVALID_PORT = htons(65_535);

/** The number of the template that the packet falls under, made where there is none; or why there is none. */
export function templateFor(service: Service, opening: Opening): u32 {
  const wanted = stack(Opening, { family: opening.family, mark: opening.mark, protocol: opening.protocol });
  wanted.client.a = rawBe32(u32(raw(opening.client.a) & raw(service.netmask.a)));
  wanted.client.b = rawBe32(u32(raw(opening.client.b) & raw(service.netmask.b)));
  wanted.client.c = rawBe32(u32(raw(opening.client.c) & raw(service.netmask.c)));
  wanted.client.d = rawBe32(u32(raw(opening.client.d) & raw(service.netmask.d)));
  const onePort = opening.virtualPort === service.port && service.port !== FTP;
  if (service.mark !== 0 && opening.virtualPort !== service.port) {
    // One template for all that the mark stands for: its protocol is IP and its address the mark.
    wanted.protocol = 0;
    wanted.virtual.a = htonl(service.mark);
  } else {
    wanted.virtual.a = opening.virtual.a;
    wanted.virtual.b = opening.virtual.b;
    wanted.virtual.c = opening.virtual.c;
    wanted.virtual.d = opening.virtual.d;
    if (onePort) wanted.virtualPort = opening.virtualPort;
  }

  const known = opening.family === AF_INET ? findTemplate(IPV4, wanted) : findTemplate(IPV6, wanted);
  if (known !== NONE) {
    const template = connections.at(known);
    if (template !== null && isValid(template)) return known;
    if (template !== null) invalidate(template, known);
  }
  const chosen = chooseServer(service, opening);
  if (chosen === NONE) return NO_SERVER;
  return makeTemplate(wanted, chosen, onePort ? portOf(chosen) : rawBe16(0), ticks(service.timeout));
}

function findTemplate(family: Family, wanted: Opening): u32 {
  const key = stack(family.Tuple, {
    destinationPort: wanted.virtualPort,
    protocol: wanted.protocol,
    kind: OF_TEMPLATE,
  });
  family.narrow(key.source, wanted.client);
  family.narrow(key.destination, wanted.virtual);
  const flow = family.flows.lookup(key);
  if (flow === null) return NONE;
  const index = flow.connection;
  return connectionAt(index, clock()) === null ? NONE : index;
}

/** Its real server is in service and, where operators want it so (expire_quiescent_template), not quiesced. */
function isValid(template: Connection): boolean {
  const server = servers.at(template.server);
  if (server === null || (server.flags & SERVER_AVAILABLE) === 0) return false;
  return server.weight !== 0 || settings.only.expireQuiescentTemplate === 0;
}

/** Nobody finds it again; it stays in the list until its time is over, as connections may still hang on it. */
function invalidate(template: Connection, index: u32): void {
  leave(template, index);
  template.virtualPort = INVALID_PORT;
  template.realPort = INVALID_PORT;
}

function portOf(number: u32): be16 {
  const server = servers.at(number);
  return server === null ? rawBe16(0) : server.port;
}

const ticks = (seconds: u32): u32 => u32((u64(seconds) * 1_000_000_000n) >> 20n);
