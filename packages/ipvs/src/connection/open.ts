/**
 * A first packet of a connection: which real server is to have it, and the entry that remembers.
 *
 * in: the virtual service and what the packet says; out: the number of a connection, or why there is none.
 */
import { type be16, htons, raw, rawBe16, u32 } from '@ipvsd/bpf';
import { chooseServer } from '../scheduler/index.ts';
import { NONE, SERVICE_PERSISTENT, type Service, servers } from '../service/service.ts';
import { now as clock } from '../settings.ts';
import { connections } from './connection.ts';
import { makeConnection, makeTemplate } from './make.ts';
import { IGNORED, LAST_CONNECTION, NO_SERVER, OF_ITS_TEMPLATE, type Opening, openings, TABLE_FULL } from './opening.ts';
import { findTemplate, isOfOnePort, templateKey, ticksOfService } from './template.ts';

const FTP_DATA = htons(20);

/** @subprog */
export function open(service: Service, opening: Opening): u32 {
  // Active FTP: the real server calls the client, nothing is balanced.
  if (opening.clientPort === FTP_DATA) return IGNORED;
  const persistent = (service.flags & SERVICE_PERSISTENT) !== 0;
  if (!persistent && service.mark === 0 && opening.virtualPort !== service.port) return NO_SERVER;

  const wanted = openings.at(OF_ITS_TEMPLATE);
  if (wanted === null) return TABLE_FULL;
  let template: u32 = NONE;
  if (persistent) {
    templateKey(wanted, service, opening);
    template = findTemplate(wanted);
  }
  let chosen: u32 = serverOf(template);
  if (chosen === NONE) chosen = chooseServer(service, opening);
  if (chosen === NONE) return NO_SERVER;
  if (persistent && template === NONE) {
    const port = isOfOnePort(service, opening) ? portOf(chosen) : rawBe16(0);
    template = makeTemplate(wanted, chosen, port, ticksOfService(service));
    if (template > LAST_CONNECTION) return template;
  }
  // Under a template only the service's own port is mapped; any other is the same at the real server.
  const mapped = !persistent || opening.virtualPort === service.port;
  const own = portOf(chosen);
  const port = mapped && raw(own) !== 0 ? own : opening.virtualPort;
  const opened = makeConnection(service, opening, chosen, port, persistent ? u32(template + 1) : 0);
  if (persistent && opened <= LAST_CONNECTION) touch(template);
  return opened;
}

/** The real server of a template; NONE for no template. */
function serverOf(template: u32): u32 {
  if (template === NONE) return NONE;
  const entry = connections.at(template);
  return entry === null ? NONE : entry.server;
}

function portOf(number: u32): be16 {
  const server = servers.at(number);
  return server === null ? rawBe16(0) : server.port;
}

/** The template lives on from now, with its own timeout. */
function touch(template: u32): void {
  const entry = connections.at(template);
  if (entry !== null) entry.lastSeen = clock();
}
