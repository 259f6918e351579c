/**
 * What user space asks the kernel side to do, because only there it happens between packets and never over their counts.
 */
import { array, assign, be16, loop, single, struct, syscallProgram, u8, u32, type ViewOf } from '@ipvsd/bpf';
import { connections } from '../connection/connection.ts';
import { dropChain, lowMark } from '../connection/lifecycle.ts';
import { startSweeping, sweepAll, sweeper } from '../connection/sweep.ts';
import { Address6 } from '../packet/address.ts';
import { loadOf } from '../scheduler/ll.ts';
import {
  type RealServer,
  SERVER_AVAILABLE,
  SERVER_OVERLOAD,
  SERVER_PLACED,
  type Standing,
  servers,
  standingOf,
} from '../service/service.ts';
import {
  beginAnew,
  collect,
  type Figures,
  ranges,
  serverFigures,
  serviceFigures,
  setToZero,
  totalFigures,
} from '../service/statistics.ts';
import { exactNow as clock, settings } from '../settings.ts';

/** Give a number to a new real server, its counts at zero. */
export const PLACE = 0;
/** Change what an operator may change. */
export const EDIT = 1;
/** Out of service: its connections remember it, nothing new goes there. */
export const RETIRE = 2;
/** Back in service with its counts. */
export const REVIVE = 3;

export const ServerOrder = struct('server_order', {
  number: u32,
  kind: u32,
  address: Address6,
  port: be16,
  family: u8,
  method: u8,
  tunnelType: u8,
  tunnelFlags: u8,
  tunnelPort: be16,
  weight: u32,
  upper: u32,
  lower: u32,
  service: u32,
  /** The service's sequence. */
  owner: u32,
});
export type ServerOrder = ViewOf<typeof ServerOrder>;

/** Where user space puts them. */
export const MAX_ORDERS = 512;
export const Orders = struct('orders', { of: array(ServerOrder, MAX_ORDERS) });
export const orders = single('orders', Orders, { shared: true });

/** The first so many of `orders`. */
export const ServerOrders = struct('server_orders', { count: u32 });

/** 0, or which was the first that cannot be carried out, from 1; what comes behind it is left. */
export const server = syscallProgram('ipvsd_server', ServerOrders, ({ count }) => {
  let refused: u32 = 0;
  loop(count, (i) => {
    const place = i & (MAX_ORDERS - 1);
    if (carryOut(orders.only.of.at(place))) return 0;
    refused = place + 1;
    return 1;
  });
  return refused & (2 * MAX_ORDERS - 1);
});

function carryOut(order: ServerOrder): boolean {
  const s = servers.at(order.number);
  const standing = standingOf(order.number);
  if (s === null) return false;
  const kind = order.kind;
  if (kind === RETIRE) {
    // What it has counted is its service's, and its own at the next tick should it be back by then.
    collect(order.number, s.service);
    s.flags = u32(s.flags & ~SERVER_AVAILABLE);
    s.idleSince = clock();
    if (settings.only.expireNoDestination !== 0) sweeper.only.orphans = 1;
    return true;
  }
  if (kind === PLACE) {
    s.flags = SERVER_PLACED;
    standing.flags = 0;
    standing.active = 0;
    standing.inactive = 0;
    s.persistent = 0;
    s.upper = 0;
    s.lower = 0;
    assign(s.address, order.address);
    s.port = order.port;
    s.family = order.family;
  }
  if (kind !== EDIT) {
    enterService(s, order);
    s.lastWeight = order.weight;
  }
  s.method = order.method;
  s.tunnelType = order.tunnelType;
  s.tunnelFlags = order.tunnelFlags;
  s.tunnelPort = order.tunnelPort;
  standing.weight = order.weight;
  if (order.weight !== 0) s.lastWeight = order.weight;
  if (order.upper !== s.upper || order.lower !== s.lower) {
    s.upper = order.upper;
    s.lower = order.lower;
    limit(s, standing);
  }
  // The next packet asks for the way anew.
  s.route.ifindex = 0;
  s.pathMtu = 0;
  s.flags = u32(s.flags | SERVER_AVAILABLE);
  return true;
}

/** It begins to count for a service; another one than before does not get what it counted there. */
function enterService(s: RealServer, order: ServerOrder): void {
  const own = serverFigures.at(order.number);
  if (own !== null) {
    if (order.kind === PLACE) beginAnew(own);
    else if (s.owner !== order.owner) setToZero(own);
  }
  if (order.kind === PLACE || s.owner !== order.owner) loadOf(order.number).cost = 0;
  s.service = order.service;
  s.owner = order.owner;
  if (order.number >= ranges.only.servers) ranges.only.servers = u32(order.number + 1);
  if (order.service >= ranges.only.services) ranges.only.services = u32(order.service + 1);
}

/** New limits count at once; between the two marks it stays as it was. */
function limit(s: RealServer, standing: Standing): void {
  const total = standing.active + standing.inactive;
  if (s.upper !== 0 && total >= s.upper) standing.flags = SERVER_OVERLOAD;
  else if (total < lowMark(s)) standing.flags = 0;
}

/** Whose figures. */
export const OF_SERVER = 0;
export const OF_SERVICE = 1;
export const OF_ALL = 2;

export const FiguresOrder = struct('figures_order', { kind: u32, number: u32 });

/** What listings show starts at 0 again. */
export const zero = syscallProgram('ipvsd_zero', FiguresOrder, (order) => {
  const kind = order.kind;
  if (kind === OF_ALL) {
    setToZero(totalFigures.only);
    return 0;
  }
  const figures: Figures | null = kind === OF_SERVER ? serverFigures.at(order.number) : serviceFigures.at(order.number);
  if (figures === null) return 1;
  setToZero(figures);
  return 0;
});

const Nothing = struct('nothing', { reserved: u32 });

/** Start the table's timer. */
export const start = syscallProgram('ipvsd_start', Nothing, () => startSweeping());

/** Remove all that has expired, now. */
export const sweep = syscallProgram('ipvsd_sweep', Nothing, () => {
  sweepAll();
  return 0;
});

export const ConnectionOrder = struct('connection_order', { connection: u32 });

/** Take a connection out of the table, with what controlled it alone. 1 where there is none, 2 where it controls others. */
export const drop = syscallProgram('ipvsd_drop', ConnectionOrder, (order) => {
  const c = connections.at(order.connection);
  if (c === null || c.alive !== 1) return 1;
  if (c.controls !== 0) return 2;
  dropChain(order.connection);
  return 0;
});
