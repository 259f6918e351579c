/** New entries for connections that are expected (expected.ts), filled and let in. */
import { assign, atomicAdd, type be16, raw, u32 } from '@ipvsd/bpf';
import { IPV4, IPV6 } from '../family.ts';
import { AF_INET } from '../packet/address.ts';
import { IPPROTO_GRE, IPPROTO_TCP } from '../packet/headers.ts';
import { timeoutOf } from '../protocol/index.ts';
import { LISTEN } from '../protocol/tcp.ts';
import { METHOD_FULLNAT, servers } from '../service/service.ts';
import { takeNumber } from './calls.ts';
import {
  type Connection,
  connections,
  INACTIVE,
  LIMITED,
  METHOD_MASK,
  NO_CLIENT_PORT,
  NO_OUTPUT,
  NO_SERVER_PORT,
  OTHER_FAMILY,
  population,
  SUPERSEDED,
  UNKNOWN_PORT,
} from './connection.ts';
import { enter } from './entering.ts';
import { begin, giveUp, INITIAL_TIMEOUT } from './entry.ts';
import { bind } from './lifecycle.ts';
import { keepPort, localEnds, PROBES, TELLS_BY_OPTION, TELLS_NOT, takePort } from './local-end.ts';
import { flagsOfLimit } from './make.ts';
import { OF_PACKET, openings, TABLE_FULL } from './opening.ts';

/**
 * A connection to the real server of the one with the number `control`, which controls it, as this CPU's opening says
 * (helper/expectation.ts): both directions let in before its first packet.
 * @subprog alone
 */
export function makeExpected(control: u32, realPort: be16): u32 {
  const c = connections.at(control);
  const wanted = openings.at(OF_PACKET);
  if (c === null || wanted === null) return TABLE_FULL;
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
  if ((inherited & METHOD_MASK) === METHOD_FULLNAT && !takePortBeside(made, c)) return giveUp(index);
  if (!enter(index)) return giveUp(index);
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
    return made.family === AF_INET ? keepPort(IPV4, made.number) : keepPort(IPV6, made.number);
  }
  if (made.protocol === IPPROTO_GRE) return made.family === AF_INET ? takeNumber(IPV4, made) : takeNumber(IPV6, made);
  // Where media is sent is told to the real server as the client says it.
  if (made.protocol !== IPPROTO_TCP) {
    own.port = made.clientPort;
    return made.family === AF_INET ? keepPort(IPV4, made.number) : keepPort(IPV6, made.number);
  }
  return made.family === AF_INET ? takePort(IPV4, made.number, PROBES) : takePort(IPV6, made.number, PROBES);
}
