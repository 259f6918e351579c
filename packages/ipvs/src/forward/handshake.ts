/**
 * Handshakes of services that limit TCP segments (ipvsadm --mss): what either end says that it takes, in its SYN, is made smaller,
 * so that nothing has to be dropped and told on a way that is narrower than the ends can know.
 *
 * Only a connection whose handshake goes on comes here: the client's first segment without SYN clears the flag SHAKING, and all
 * that follow take the fast path. Under DR and TUN the real server's answer does not pass, so only the client's SYN is lowered.
 */
import { assign, type Skb, stack, tailCall, u32 } from '@ipvsd/bpf';
import {
  type Connection,
  connections,
  HELPER_MASK,
  HELPER_SHIFT,
  METHOD_MASK,
  SHAKING,
} from '../connection/connection.ts';
import { because, REASONS } from '../counters.ts';
import { type Family, IPV4, IPV6, REQUEST } from '../family.ts';
import { beginLine, writeCharacter } from '../helper/writing.ts';
import { type Address6, AF_INET } from '../packet/address.ts';
import { ETHERNET, FRAGMENT6, Tcp } from '../packet/headers.ts';
import { METHOD_LOCAL, METHOD_TUNNEL, Route, SEGMENT_THAT_FITS, segmentLimits, servers } from '../service/service.ts';
import { now as clock } from '../settings.ts';
import { errandOf, helpers } from '../stages.ts';
import { insertOption } from './option.ts';
import { findRoute } from './route.ts';
import { clampSegmentSize } from './segment-size.ts';
import { overheadOf, roomOf } from './tunnel.ts';

const SYN = 0x02;
const TCP = 20;
/** What a sender takes that is told nothing (RFC 9293 3.7.1). */
const UNTOLD_4 = 536;
const UNTOLD_6 = 1220;
/** The option of a segment size: kind and length. */
const SEGMENT_SIZE = 2;
const LENGTH = 4;
/** No way is narrower that one knows nothing of. */
const ANY_SIZE = 0xffff;

/** The stage, before helpers and altered.ts. */
export function handshake(skb: Skb, family: Family): number {
  const errand = errandOf();
  if (errand === null) return because(REASONS.corrupt);
  const c = connections.at(errand.connection);
  const ip = skb.header(family.Header, ETHERNET);
  if (c === null || ip === null) return because(REASONS.corrupt);
  const fragmented = family.isFragmented(ip);
  const transport = family.transport(ip) + (family.number !== AF_INET && fragmented ? FRAGMENT6 : 0);
  const tcp = skb.header(Tcp, transport);
  if (tcp === null) return because(REASONS.truncated);
  if ((tcp.flags & SYN) !== 0) {
    const most = limitOf(skb, c);
    const says = most === 0 || clampSegmentSize(skb, transport, most);
    if (!says && !fragmented) tellSize(skb, family, transport, most);
  } else if (errand.direction === REQUEST) {
    c.flags = u32(c.flags & ~SHAKING);
  }
  return tailCall(skb, helpers, (c.flags & HELPER_MASK) >>> HELPER_SHIFT);
}

/** A SYN that says nothing gets the option only where its receiver would send more. */
function tellSize(skb: Skb, family: Family, transport: u32, most: u32): void {
  if (most >= (family.number === AF_INET ? UNTOLD_4 : UNTOLD_6)) return;
  beginLine();
  writeCharacter(SEGMENT_SIZE);
  writeCharacter(LENGTH);
  writeCharacter(most >>> 8);
  writeCharacter(most & 255);
  insertOption(skb, family, transport);
}

/**
 * The largest segment of the connection; 0: as its ends say.
 * @subprog
 */
function limitOf(skb: Skb, c: Connection): u32 {
  const server = servers.at(c.server);
  if (server === null) return 0;
  const limit = segmentLimits.at(server.service);
  if (limit === null || limit.sequence !== server.owner) return 0;
  const said = limit.size;
  if (said !== SEGMENT_THAT_FITS) return said;
  const method = c.flags & METHOD_MASK;
  const toClient = fitsWithin(mtuTowards(skb, c.family, c.route, c.client), c.family);
  if (method === METHOD_LOCAL) return toClient;
  const mtu = mtuTowards(skb, server.family, server.route, server.address);
  // Into a tunnel goes the client's own packet, out of NAT one of the real server's family.
  const toServer =
    method === METHOD_TUNNEL
      ? fitsWithin(within(roomOf(server, mtu), overheadOf(server, server.family === AF_INET ? 20 : 40)), c.family)
      : fitsWithin(mtu, server.family);
  return toServer < toClient ? toServer : toClient;
}

const within = (mtu: u32, headers: u32): u32 => (mtu > headers ? u32(mtu - headers) : 0);
const fitsWithin = (mtu: u32, family: u32): u32 => within(mtu, (family === AF_INET ? 20 : 40) + TCP);

/**
 * How long a packet to `address` may be. What is known of the way stays as it is: whoever sends along it asks for itself.
 * @subprog
 */
function mtuTowards(skb: Skb, family: u32, known: Route, address: Address6): u32 {
  const route = stack(Route);
  assign(route, known);
  const now = clock();
  const found =
    family === AF_INET ? findRoute(skb, IPV4, route, address, now) : findRoute(skb, IPV6, route, address, now);
  return found ? route.mtu : ANY_SIZE;
}
