/**
 * Packets of connections that are more than readdressed: their bytes or their sequence numbers are not the sender's. They leave
 * the fast path here, go through the connection's helper where it has one, get the right sequence numbers, and go on as all others.
 *
 * Here too goes on what another stage has found or made a connection for: so the verifier sees the rest of the way but twice,
 * here and in the fast path.
 */
import { type Skb, tailCall, type u32 } from '@ipvsd/bpf';
import { ADJUSTED, type Connection, connections, HELPER_MASK, HELPER_SHIFT, SHAKING } from './connection/connection.ts';
import { endOnce, isOnce } from './connection/once.ts';
import { because, REASONS } from './counters.ts';
import { type Family, REQUEST } from './family.ts';
import { beginUnchanged, mendSequences } from './forward/sequence.ts';
import { AF_INET } from './packet/address.ts';
import { ETHERNET, FRAGMENT6, IPPROTO_TCP, Ports, Tcp } from './packet/headers.ts';
import { eventOf } from './protocol/index.ts';
import { TRUNCATED } from './protocol/protocol.ts';
import { ESTABLISHED } from './protocol/tcp.ts';
import { reply } from './reply.ts';
import { request } from './request.ts';
import { now as clock } from './settings.ts';
import { errandOf, HANDSHAKE, helpers, stages } from './stages.ts';

/** Where a packet of a known connection goes on: any but those of the fast path, which have none of the flags ALTERED. */
export function toAltered(skb: Skb, c: Connection, direction: u32): number {
  const errand = errandOf();
  if (errand === null) return because(REASONS.corrupt);
  errand.connection = c.number;
  errand.direction = direction;
  if ((c.flags & SHAKING) !== 0) return tailCall(skb, stages, HANDSHAKE);
  return tailCall(skb, helpers, (c.flags & HELPER_MASK) >>> HELPER_SHIFT);
}

/** The stage behind all helpers. */
export function altered(skb: Skb, family: Family): number {
  const errand = errandOf();
  if (errand === null) return because(REASONS.corrupt);
  const { connection, direction } = errand;
  const c = connections.at(connection);
  const before = skb.header(family.Header, ETHERNET);
  if (c === null || before === null) return because(REASONS.corrupt);
  const extension = family.number !== AF_INET && family.isFragmented(before) ? FRAGMENT6 : 0;
  const transport = family.transport(before) + extension;
  const protocol = c.protocol;
  if ((c.flags & ADJUSTED) !== 0 && protocol === IPPROTO_TCP) {
    // A client's SYN counts anew, unless it may be anybody's that meets a connection which is open.
    const anew = direction === REQUEST && c.state !== ESTABLISHED && isSyn(skb, transport);
    if (anew) beginUnchanged(connection);
    mendSequences(skb, transport, connection, direction);
  }
  const ip = skb.header(family.Header, ETHERNET);
  const ports = skb.header(Ports, transport);
  const event = eventOf(skb, protocol, transport);
  if (ip === null || ports === null || event === TRUNCATED) return because(REASONS.truncated);
  const now = clock();
  const verdict =
    direction === REQUEST
      ? request(skb, family, ip, ports, transport, c, event, protocol, now)
      : reply(skb, family, ip, ports, transport, c, event, protocol, now);
  if (isOnce(c)) endOnce();
  return verdict;
}

const SYN = 0x02;
const ACK = 0x10;

function isSyn(skb: Skb, transport: u32): boolean {
  const tcp = skb.header(Tcp, transport);
  return tcp !== null && (tcp.flags & (SYN | ACK)) === SYN;
}
