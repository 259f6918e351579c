/**
 * The director's own end of a connection under FULLNAT: the local address and port that the real server sees as its client.
 *
 * A port is taken by entering the flow of the replies, whose key (real server, local end) no other connection may have: the
 * table of flows is the pool, exact for each real server, and a port is free again when its connection leaves the table, never
 * before. Each local address goes through its ports in turn, so one rests until all others have been used.
 *
 * Finding one tries at most 1024: of a pool that is 99 % full this fails for one connection in 30,000, of one 99.9 % full for
 * every third, and the client's next SYN goes on where the last one ended. So no port is missed, and an attack on a full pool
 * costs a bounded time.
 */
import {
  ANY,
  arrayMap,
  assign,
  atomicAdd,
  atomicFetchAdd,
  be16,
  be32,
  hashMap,
  htons,
  loop,
  lruHashMap,
  stack,
  struct,
  u8,
  u32,
  type ViewOf,
} from '@ipvsd/bpf';
import { type Family, REPLY, sourceOf } from '../family.ts';
import { Address6, isSame } from '../packet/address.ts';
import { MAX_SERVICES, Route } from '../service/service.ts';
import { settings } from '../settings.ts';
import { connections, MAX_CONNECTIONS } from './connection.ts';
import { enterFlow, flowOf } from './flows.ts';
import { NO_LOCAL_ADDRESS, NO_LOCAL_PORT } from './opening.ts';

export const LocalEnd = struct('local_end', {
  address: Address6,
  port: be16,
  /** How the real server is told of the client (forward/tell.ts, forward/tell-datagram.ts). */
  tells: u8,
  /** TCP: whether it has answered the client's SYN. UDP: how many datagrams have told it, or ANSWERED. */
  answered: u8,
  /** What the client acknowledges until the real server has said more, and where its first byte is, as the real server counts. */
  firstAck: be32,
  firstSequence: be32,
  /** The way to what no real server's record has one to (masquerade.ts). */
  route: Route,
});
export const TELLS_NOT = 0;
export const TELLS_BY_OPTION = 1;
export const TELLS_BY_PROXY_1 = 2;
export const TELLS_BY_PROXY_2 = 3;
/** UDP: before each datagram, and not only until the real server answers. */
export const TELLS_BY_PROXY_EACH = 4;
export const ANSWERED = 255;
export type LocalEnd = ViewOf<typeof LocalEnd>;

/** By the connection's number. Beside the table and not in it: NAT shall not carry it through the caches. */
export const localEnds = arrayMap('local_ends', LocalEnd, { maxEntries: MAX_CONNECTIONS });

/**
 * A service's local addresses in the order they were added: those of its own family at places from 0 to its `locals`, those of the
 * other from OTHER_LOCALS on. `order`: their place among all, for listing.
 */
export const LocalAddressKey = struct('local_addr_key', { service: u32, place: u32 });
export const LocalAddress = struct('local_address', { address: Address6, order: u32 });
export const OTHER_LOCALS = 0x8000_0000;
export const localAddresses = hashMap('local_addresses', LocalAddressKey, LocalAddress, {
  maxEntries: 65_536,
  noPreallocation: true,
});

/** Whose turn it is among a service's local addresses. */
const Turn = struct('local_turn', { turn: u32 });
const turns = arrayMap('local_turns', Turn, { maxEntries: MAX_SERVICES });

/** Where an address goes on with its ports, whichever services use it. */
const Pool = struct('port_pool', { cursor: u32 });
const PoolKey = struct('port_pool_key', { address: Address6, family: u32 });
const pools = lruHashMap('port_pools', PoolKey, Pool, { maxEntries: 4096 });

/** Ports that are tried for one connection, over all its addresses, and how many of these. */
export const PROBES = 1024;
const MOST_ADDRESSES = 16;

/**
 * Give the connection a local end out of the `locals` addresses of its service from `place` on, in turn, and let replies find it: 0,
 * or why there is none. `family`: theirs, and the real server's.
 * @subprog alone
 */
export function takeLocalEnd(family: Family, connection: u32, service: u32, place: u32, locals: u32): u32 {
  const turn = turns.at(service);
  const end = localEnds.at(connection);
  if (turn === null || end === null || locals === 0) return NO_LOCAL_ADDRESS;
  const tries: u32 = locals < MOST_ADDRESSES ? locals : MOST_ADDRESSES;
  const first = atomicFetchAdd(turn, 'turn', 1);
  // Every twentieth steps on by two: round robin over real servers shall not keep step with this one.
  const start = u32(first + u32(first / 20));
  let refused: u32 = NO_LOCAL_PORT;
  // A loop that the verifier sees once: sixteen rounds of its own were half of all its work.
  loop(tries, (i) => {
    const key = stack(LocalAddressKey, { service, place: u32(place + (u32(start + i) % locals)) });
    const local = localAddresses.lookup(key);
    if (local === null) {
      refused = NO_LOCAL_ADDRESS;
      return 1;
    }
    assign(end.address, local.address);
    if (!takePort(family, connection, u32(PROBES / tries))) return 0;
    refused = 0;
    return 1;
  });
  return refused;
}

/**
 * A free port of its local end's address towards the connection's real server: entered as the flow of its replies.
 * @subprog alone
 */
export function takePort(family: Family, connection: u32, probes: u32): boolean {
  const c = connections.at(connection);
  const end = localEnds.at(connection);
  if (c === null || end === null) return false;
  const pool = poolOf(family, end.address);
  if (pool === null || settings.only.localPorts === 0) return false;
  const first = atomicFetchAdd(pool, 'cursor', 1);
  const key = stack(family.Tuple, { sourcePort: c.realPort, protocol: c.protocol });
  family.narrow(key.source, c.real);
  family.narrow(key.destination, end.address);
  const flow = flowOf(c.number, REPLY);
  let taken: u32 = 0;
  let tried: u32 = 0;
  loop(probes, (i) => {
    const port = portAt(u32(first + i));
    key.destinationPort = port;
    tried = i;
    if (!enterFlow(family, key, flow)) return 0;
    end.port = port;
    taken = 1;
    return 1;
  });
  // The first is counted already.
  if (tried !== 0) atomicAdd(pool, 'cursor', tried);
  return taken === 1;
}

/**
 * The same end as the connection had that its entry was before, if the address is still one of the service's: 16 of them are looked
 * through. `same`: its replies find it already; otherwise it is to be had where no other of the real server has it.
 * @subprog alone
 */
export function keepLocalEnd(
  family: Family,
  connection: u32,
  service: u32,
  first: u32,
  locals: u32,
  same: boolean,
): boolean {
  const end = localEnds.at(connection);
  if (end === null) return false;
  let known: u32 = 0;
  loop(locals < MOST_ADDRESSES ? locals : MOST_ADDRESSES, (place) => {
    const local = localAddresses.lookup(stack(LocalAddressKey, { service, place: u32(first + place) }));
    if (local === null) return 1;
    if (!isSame(local.address, end.address)) return 0;
    known = 1;
    return 1;
  });
  return known !== 0 && (same || keepPort(family, connection));
}

/** The local port of that turn. Read by each, as the stack below is short. */
function portAt(turn: u32): be16 {
  const range = settings.only.localPorts;
  return htons(range === 0 ? 0 : u32(settings.only.firstLocalPort + (turn % range)) & 0xffff);
}

/**
 * Replies from where its real server is known to send find it at the local end that it has. False where others are there.
 * @subprog alone
 */
export function keepPort(family: Family, connection: u32): boolean {
  const c = connections.at(connection);
  const end = localEnds.at(connection);
  if (c === null || end === null) return false;
  const key = stack(family.Tuple, {
    sourcePort: sourceOf(c.protocol, c.realPort),
    destinationPort: end.port,
    protocol: c.protocol,
  });
  family.narrow(key.source, c.real);
  family.narrow(key.destination, end.address);
  return enterFlow(family, key, flowOf(c.number, REPLY));
}

/**
 * Beside the chain of calls that ends in entering a flow, whose stack is short.
 * @subprog
 */
function poolOf(family: Family, address: Address6): ViewOf<typeof Pool> | null {
  const key = stack(PoolKey, { family: family.number });
  assign(key.address, address);
  const known = pools.lookup(key);
  if (known !== null) return known;
  const fresh = stack(Pool);
  pools.update(key, fresh, ANY);
  return pools.lookup(key);
}
