/**
 * A client uses its port anew while its finished connection is still in the table, two minutes as a rule: with the ports that one
 * client has, most connections under load are such. The new connection takes over the old one's entry then (its number, the flow of
 * the client's packets, where the real server is the same that of the replies and the local port too), instead of one
 * entry leaving the table for another to come in.
 *
 * Between the packet's arrival and that, the old entry stays as it is: schedulers count it still, as IPVS does.
 */
import { atomicCompareExchange, type be16, type u32 } from '@ipvsd/bpf';
import { endAdjustments } from '../forward/sequence.ts';
import { type Address6, isSame } from '../packet/address.ts';
import { IPPROTO_TCP } from '../packet/headers.ts';
import { SCTP_CLOSED } from '../protocol/sctp.ts';
import { CLOSE, FIN_WAIT, TIME_WAIT } from '../protocol/tcp.ts';
import { METHOD_FULLNAT, METHOD_MASQ, NONE, servers } from '../service/service.ts';
import { settings } from '../settings.ts';
import {
  type Connection,
  connections,
  HAS_ADJUSTMENTS,
  HAS_IDLE_RULE,
  HASHED,
  METHOD_MASK,
  NO_OUTPUT,
  OTHER_FAMILY,
  SUPERSEDED,
  TEMPLATE,
  UNKNOWN_PORT,
} from './connection.ts';
import { leaveReplies } from './entering.ts';
import { endIdleRule } from './idle.ts';
import { expireSoon } from './lifecycle.ts';
import { OF_PACKET, type Opening, openings, type Plan, planOf } from './opening.ts';

/** The bit of conn_reuse_mode for connections whose replies go another way. */
const REUSE_UNSEEN = 2;

/** The client may use its port anew. Never where a template controls: its connections stay together. */
export function isFinished(c: Connection, state: u32): boolean {
  const mode = settings.only.connectionReuse;
  if (mode === 0 || c.controller !== 0 || c.controls !== 0) return false;
  if (c.protocol !== IPPROTO_TCP) return state === SCTP_CLOSED;
  if (state === TIME_WAIT || state === CLOSE) return true;
  return (mode & REUSE_UNSEEN) !== 0 && state === FIN_WAIT && (c.flags & NO_OUTPUT) !== 0;
}

/** Any of these but the first, and the client's flow may not be its own. */
const USUAL = HASHED + SUPERSEDED + UNKNOWN_PORT + TEMPLATE;

/**
 * The entry of the plan's finished connection becomes the caller's, no longer alive but still found by the client's packets: its
 * number. NONE where there is none to be had. Several CPUs may ask, and the sweeper: who changes the state has the right, and its
 * connection counts as inactive from then on, as it did.
 * @subprog alone
 */
export function takeOver(): u32 {
  const plan = planOf();
  const opening = openings.at(OF_PACKET);
  if (plan === null || opening === null) return NONE;
  const index = plan.finished;
  const c = connections.at(index);
  if (c === null) return NONE;
  const state = c.state;
  if (!isFinished(c, state) || (c.flags & USUAL) !== HASHED || !isOf(c, opening)) return NONE;
  if (atomicCompareExchange(c, 'state', state, 0) !== state) return NONE;
  if (atomicCompareExchange(c, 'alive', 1, 0) !== 1) return NONE;
  plan.finished = NONE;
  return index;
}

/** The packet opens no connection, or one with an entry of its own: the plan's finished connection goes. */
export function letGo(plan: Plan): void {
  const index = plan.finished;
  if (index === NONE) return;
  plan.finished = NONE;
  const c = connections.at(index);
  if (c !== null && c.alive === 1 && isFinished(c, c.state)) expireSoon(c, index);
}

/** What the old connection leaves to the new one: that replies are found by the same addresses and ports; a local end. */
export const KEPT_REPLIES = 1;
export const KEPT_END = 2;

/**
 * The end of the connection whose entry was taken over, and still tells of it, for one with those flags to the real server of number
 * `chosen`: says what is kept. Who counts it is told by who counts the new one.
 * @subprog alone
 */
export function endBefore(connection: u32, chosen: u32, port: be16, flags: u32): u32 {
  const c = connections.at(connection);
  const server = servers.at(chosen);
  if (c === null || server === null) return 0;
  if ((c.flags & HAS_IDLE_RULE) !== 0) endIdleRule(c);
  if ((c.flags & HAS_ADJUSTMENTS) !== 0) endAdjustments(c.number);
  const sameFamily = ((c.flags ^ flags) & OTHER_FAMILY) === 0;
  const end = sameFamily && (c.flags & METHOD_MASK) === METHOD_FULLNAT ? KEPT_END : 0;
  if (sameFamily && hasSameReplies(c, flags & METHOD_MASK, server.address, port)) return KEPT_REPLIES + end;
  leaveReplies(c.number);
  return end;
}

function hasSameReplies(c: Connection, method: u32, real: Address6, port: be16): boolean {
  const before = c.flags & METHOD_MASK;
  const translated = method === METHOD_MASQ || method === METHOD_FULLNAT;
  // Where nothing is translated the virtual service's own address is the source.
  if (!translated) return before !== METHOD_MASQ && before !== METHOD_FULLNAT;
  return before === method && c.realPort === port && isSame(c.real, real);
}

const isOf = (c: Connection, opening: Opening): boolean =>
  c.clientPort === opening.clientPort &&
  c.virtualPort === opening.virtualPort &&
  c.protocol === opening.protocol &&
  isSame(c.client, opening.client) &&
  isSame(c.virtual, opening.virtual);
