/**
 * A first packet of a connection: which real server is to have it, and the entry that remembers.
 *
 * in: the virtual service and what the packet says; out: the number of a connection, or why there is none.
 */
import { type be16, htons, raw, type u32 } from '@ipvsd/bpf';
import { chooseServer } from '../scheduler/index.ts';
import { NONE, SERVICE_PERSISTENT, type Service, servers } from '../service/service.ts';
import { now as clock } from '../settings.ts';
import { connections } from './connection.ts';
import { makeConnection } from './make.ts';
import { IGNORED, LAST_CONNECTION, NO_SERVER, type Opening, TABLE_FULL } from './opening.ts';
import { templateFor } from './template.ts';

const FTP_DATA = htons(20);

/** @subprog */
export function open(service: Service, opening: Opening): u32 {
  // Active FTP: the real server calls the client, nothing is balanced.
  if (opening.clientPort === FTP_DATA) return IGNORED;
  if ((service.flags & SERVICE_PERSISTENT) !== 0) return openPersistent(service, opening);
  if (service.mark === 0 && opening.virtualPort !== service.port) return NO_SERVER;
  const chosen = chooseServer(service, opening);
  if (chosen === NONE) return NO_SERVER;
  return makeConnection(service, opening, chosen, portAt(chosen, opening), 0);
}

function openPersistent(service: Service, opening: Opening): u32 {
  const number = templateFor(service, opening);
  if (number > LAST_CONNECTION) return number;
  const template = connections.at(number);
  if (template === null) return TABLE_FULL;
  const server = template.server;
  // Only the service's own port is mapped; any other is the same at the real server.
  const port = opening.virtualPort === service.port ? portAt(server, opening) : opening.virtualPort;
  const opened = makeConnection(service, opening, server, port, number + 1);
  if (opened > LAST_CONNECTION) return opened;
  // The template lives on from now, with its own timeout.
  template.lastSeen = clock();
  return opened;
}

/** The real server's port, or the packet's where it has none of its own. */
function portAt(number: u32, opening: Opening): be16 {
  const server = servers.at(number);
  return server !== null && raw(server.port) !== 0 ? server.port : opening.virtualPort;
}
