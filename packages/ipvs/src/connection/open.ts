/**
 * The entries that a first packet makes: a template where its service is persistent and has none for the client, and the
 * connection.
 *
 * in: the plan with a real server chosen; out: the number of the connection, or why there is none.
 */
import { type be16, raw, rawBe16, u32 } from '@ipvsd/bpf';
import { NONE, SERVICE_PERSISTENT, servers } from '../service/service.ts';
import { now as clock } from '../settings.ts';
import { connections } from './connection.ts';
import { makeConnection, makeTemplate } from './make.ts';
import { LAST_CONNECTION, NO_SERVER, type Opening, type Plan } from './opening.ts';
import { isOfOnePort, ticksOfService } from './template.ts';

export function open(plan: Plan, opening: Opening): u32 {
  const service = plan.service;
  const chosen = plan.chosen;
  if (chosen === NONE) return NO_SERVER;
  const persistent = (service.flags & SERVICE_PERSISTENT) !== 0;
  let template: u32 = plan.template;
  if (persistent && template === NONE) {
    const port = isOfOnePort(service, opening) ? portOf(chosen) : rawBe16(0);
    template = makeTemplate(chosen, port, ticksOfService(service));
    if (template > LAST_CONNECTION) return template;
  }
  // Under a template only the service's own port is mapped; any other is the same at the real server.
  const mapped = !persistent || opening.virtualPort === service.port;
  const own = portOf(chosen);
  const port = mapped && raw(own) !== 0 ? own : opening.virtualPort;
  const opened = makeConnection(port, persistent ? u32(template + 1) : 0);
  if (persistent && opened <= LAST_CONNECTION) touch(template);
  return opened;
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
