/**
 * What user space asks the kernel side to do, because only there it happens between packets and never over their counts.
 */
import { assign, be16, struct, syscallProgram, u8, u16, u32, type ViewOf } from '@ipvsd/bpf';
import { connections } from '../connection/connection.ts';
import { expire } from '../connection/lifecycle.ts';
import { startSweeping, sweepAll } from '../connection/sweep.ts';
import { Address6 } from '../packet/address.ts';
import { SERVER_AVAILABLE, SERVER_OVERLOAD, servers } from '../service/service.ts';

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
  weight: u16,
  reserved: u16,
  upper: u32,
  lower: u32,
  service: u32,
});
export type ServerOrder = ViewOf<typeof ServerOrder>;

export const server = syscallProgram('ipvsd_server', ServerOrder, (order) => {
  const s = servers.at(order.number);
  if (s === null) return 1;
  const kind = order.kind;
  if (kind === RETIRE) {
    s.flags = u32(s.flags & ~SERVER_AVAILABLE);
    return 0;
  }
  if (kind === PLACE) {
    s.flags = 0;
    s.active = 0;
    s.inactive = 0;
    s.persistent = 0;
    s.lastWeight = order.weight;
    assign(s.address, order.address);
    s.port = order.port;
    s.family = order.family;
    s.service = order.service;
  }
  s.method = order.method;
  s.tunnelType = order.tunnelType;
  s.tunnelFlags = order.tunnelFlags;
  s.tunnelPort = order.tunnelPort;
  s.weight = order.weight;
  if (order.weight !== 0) s.lastWeight = order.weight;
  s.service = order.service;
  // A higher limit, or none, lifts the overload; one already reached overloads at once.
  if (order.upper === 0 || order.upper > s.upper) s.flags = u32(s.flags & ~SERVER_OVERLOAD);
  s.upper = order.upper;
  s.lower = order.lower;
  if (s.upper !== 0 && s.active + s.inactive >= s.upper) s.flags = u32(s.flags | SERVER_OVERLOAD);
  // The next packet asks for the way anew.
  s.route.ifindex = 0;
  s.flags = u32(s.flags | SERVER_AVAILABLE);
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

/** Take a connection out of the table. 1 where there is none of that number. */
export const drop = syscallProgram('ipvsd_drop', ConnectionOrder, (order) => {
  const c = connections.at(order.connection);
  if (c === null) return 1;
  expire(c, order.connection);
  return 0;
});
