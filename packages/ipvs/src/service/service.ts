/**
 * Virtual services and their real servers, as both planes hold them.
 *
 * User space writes services and lists of members whole (each replaced at once). A real server also carries what packets
 * count, so user space never writes one: it asks the `server` program (programs/control.ts).
 */
import { array, arrayMap, be16, hashMap, single, struct, u8, u16, u32, type ViewOf } from '@ipvsd/bpf';
import { Address6 } from '../packet/address.ts';

/** What a packet must match. By address (mark 0), or by firewall mark (address, port and protocol 0). */
export const ServiceKey = struct('service_key', {
  address: Address6,
  mark: u32,
  port: be16,
  protocol: u8,
  family: u8,
});
export type ServiceKey = ViewOf<typeof ServiceKey>;

/** Flags of a service, with the kernel's numbers (enum ip_vs_svc). */
export const SERVICE_PERSISTENT = 1;
export const SERVICE_ONE_PACKET = 4;
export const SERVICE_SCHED1 = 8;
export const SERVICE_SCHED2 = 16;
export const SERVICE_SCHED3 = 32;

export const Service = struct('service', {
  /** Its place in `serviceStates`, kept for its life. */
  index: u32,
  /** As in its key: the port it listens on, and the firewall mark that leads to it, or 0. */
  mark: u32,
  port: be16,
  /** The largest TCP segment of its connections; 0: as their ends say; SEGMENT_THAT_FITS. */
  segmentSize: u16,
  /** Number of its scheduler. */
  scheduler: u32,
  flags: u32,
  /** Persistence timeout in seconds. */
  timeout: u32,
  /** Its real servers: places `first` to `first + count` of the lists of members, newest first; `first` begins a row. */
  first: u32,
  count: u32,
  /** Persistence granularity: IPv4 mask in the first word, or IPv6 mask. */
  netmask: Address6,
  /** Prefix length of the mask, for listing. */
  prefix: u8,
  engine: u8,
  /** Version of the PROXY protocol that real servers behind FULLNAT hear of their clients by, or 0; 3: 2 before each datagram. */
  proxy: u8,
  reserved2: u8,
  /** Services are told apart by age: each gets the next number when it is made. */
  sequence: u32,
  /** Number of its scheduler's table (scheduler/table.ts). */
  table: u32,
  /** Another number whenever its scheduler is: what the one before remembered is not found again. */
  era: u32,
  /** How many local addresses it has of its own family, and of the other (connection/local-end.ts). */
  locals: u32,
  otherLocals: u32,
  /** Seconds after which a silent connection goes, 0: as its protocol says; and IDLE_RESETS. */
  idleRule: u32,
});
export type Service = ViewOf<typeof Service>;

/** In `idleRule`, above its seconds: both ends are told with a RST when a TCP connection goes by silence. */
export const IDLE_RESETS = 0x8000_0000;
export const IDLE_SECONDS = 0x7fff_ffff;

/** As `segmentSize`: what the ways to real server and client carry. */
export const SEGMENT_THAT_FITS = 0xffff;

/** By the service's index, for packets of its connections: its `segmentSize`, and its `sequence`. */
export const SegmentLimit = struct('segment_limit', { size: u32, sequence: u32 });

/** What a scheduler remembers between connections; each gives the words its own meaning. */
export const ServiceState = struct('service_state', { cursor: u32, current: u32, maximum: u32, divisor: u32 });
export type ServiceState = ViewOf<typeof ServiceState>;

/**
 * Where to send, asked of the kernel at most once a second: next hop, interface, and how long a packet may be. `peer` 1: the
 * interface's other end is in another network namespace of this machine, and `hop` bears the frame's link addresses instead.
 */
export const Route = struct('route', { hop: Address6, ifindex: u32, at: u32, mtu: u16, peer: u16 });
export type Route = ViewOf<typeof Route>;

/** Forwarding methods with the kernel's numbers; fullnat is ours. */
export const METHOD_MASQ = 0;
export const METHOD_LOCAL = 1;
export const METHOD_TUNNEL = 2;
export const METHOD_ROUTE = 3;
export const METHOD_BYPASS = 4;
export const METHOD_FULLNAT = 5;

/** How tunnels are made, with the kernel's numbers, and what is summed up. */
export const TUNNEL_IPIP = 0;
export const TUNNEL_GUE = 1;
export const TUNNEL_GRE = 2;
export const TUNNEL_CHECKSUM = 1;

/** In service; without it the real server is in the trash and only its connections remember it. */
export const SERVER_AVAILABLE = 1;
/** It has a number that is in use. */
export const SERVER_PLACED = 4;

export const RealServer = struct('real_server', {
  flags: u32,
  /** The last weight that was not 0; `mh` builds its table by it. */
  lastWeight: u32,
  upper: u32,
  lower: u32,
  persistent: u32,
  /** The service it belongs to, or did. */
  service: u32,
  address: Address6,
  port: be16,
  family: u8,
  method: u8,
  tunnelType: u8,
  tunnelFlags: u8,
  tunnelPort: be16,
  // What forwarding reads.
  route: Route,
  /** When the last connection or template let go of it. */
  idleSince: u32,
  /** The sequence of its service, as the service's index may have another owner by now. */
  owner: u32,
  // What tunnels need: the director's own address on the way there, and what a router on it said may pass (0: nothing yet).
  source: Address6,
  pathMtu: u32,
  pathMtuAt: u32,
});
export type RealServer = ViewOf<typeof RealServer>;

/** At its upper threshold, or not yet back under the lower one. */
export const SERVER_OVERLOAD = 2;

/** What scheduling reads of a real server. */
export const Standing = struct('standing', {
  /** SERVER_OVERLOAD or 0. */
  flags: u32,
  weight: u32,
  active: u32,
  inactive: u32,
});
export type Standing = ViewOf<typeof Standing>;

export const MAX_SERVICES = 16_384;
/** The last number is nobody's: NONE leads there, to a real server of no weight. */
export const MAX_SERVERS = 131_072;
export const NONE = 0xffff_ffff;

export const services = hashMap('services', ServiceKey, Service, { maxEntries: MAX_SERVICES });
export const serviceStates = arrayMap('service_states', ServiceState, { maxEntries: MAX_SERVICES });
export const segmentLimits = arrayMap('segment_limits', SegmentLimit, { maxEntries: MAX_SERVICES });
export const servers = arrayMap('servers', RealServer, { maxEntries: MAX_SERVERS });

/**
 * How all real servers stand, by number, and the lists of members: one value each, at an address that is part of the programs. A
 * scheduler that weighs hundreds for one packet reaches each with an addition, where a map of many values asks for a lookup.
 */
export const Standings = struct('standings', { of: array(Standing, MAX_SERVERS) });
export const standings = single('standings', Standings, { shared: true });
export const standingOf = (number: u32): Standing => standings.only.of.at(number & (MAX_SERVERS - 1));

/** Numbers of real servers, in whole rows for each service; what is left of the last one is NONE. */
export const ROW = 8;
export const MAX_ROWS = (2 * MAX_SERVERS) / ROW;
export const MemberRow = struct('member_row', { servers: array(u32, ROW) });
export type MemberRow = ViewOf<typeof MemberRow>;
export const Members = struct('members', { rows: array(MemberRow, MAX_ROWS) });
export const members = single('members', Members, { shared: true });
export const memberRow = (row: u32): MemberRow => members.only.rows.at(row & (MAX_ROWS - 1));
