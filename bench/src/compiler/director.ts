/**
 * One journey in two languages: TCP by NAT for both families, with four schedulers, as the packet path was when it was young. Its
 * twin is bench/c/director.c, function by function. It stands still so that the two stay the same logic, and so that compilers are
 * compared and not features; packets go through packages/ipvs.
 */
import {
  ANY,
  array,
  arrayMap,
  assign,
  atomicAdd,
  atomicCompareExchange,
  atomicFetchAdd,
  BPF_F_PSEUDO_HDR,
  be16,
  be32,
  FibLookup,
  fibLookup,
  hashMap,
  htons,
  ktimeCoarseNs,
  l4CsumReplace,
  loop,
  NO_EXIST,
  ntohs,
  percpuArray,
  RedirectNeighbour,
  raw,
  rawBe16,
  rawBe32,
  redirectNeigh,
  type Skb,
  single,
  stack,
  stackMap,
  struct,
  TC_ACT_OK,
  TC_ACT_SHOT,
  tcProgram,
  u8,
  u16,
  u32,
  u64,
  type ViewOf,
} from '@ipvsd/bpf';

// packet/address ------------------------------------------------------------------------------------------------------

const Address4 = struct('address4', { a: be32 });
const Address6 = struct('address6', { a: be32, b: be32, c: be32, d: be32 });

type Address4 = ViewOf<typeof Address4>;
type Address6 = ViewOf<typeof Address6>;

/** Numbers of the address families, as the kernel's sockets have them. */
const AF_INET = 2;
const AF_INET6 = 10;

// packet/headers ------------------------------------------------------------------------------------------------------

/** Bytes of the Ethernet header; a VLAN tag is held apart by the kernel. */
const ETHERNET = 14;

const IPPROTO_TCP = 6;

export const Ipv4 = struct('ipv4', {
  versionAndLength: u8,
  tos: u8,
  length: be16,
  id: be16,
  /** Three flag bits and the fragment offset in units of 8 bytes. */
  fragment: be16,
  timeToLive: u8,
  protocol: u8,
  checksum: be16,
  source: Address4,
  destination: Address4,
});

export const Ipv6 = struct('ipv6', {
  versionAndClass: be32,
  payloadLength: be16,
  protocol: u8,
  timeToLive: u8,
  source: Address6,
  destination: Address6,
});

export const Tcp = struct('tcp', {
  sourcePort: be16,
  destinationPort: be16,
  sequence: be32,
  acknowledgement: be32,
  dataOffset: u8,
  flags: u8,
  window: be16,
  checksum: be16,
  urgent: be16,
});
type Tcp = ViewOf<typeof Tcp>;

/** Any transport with ports begins with them. */
const Ports = struct('ports', { sourcePort: be16, destinationPort: be16 });
type Ports = ViewOf<typeof Ports>;

// packet/checksum -----------------------------------------------------------------------------------------------------

/** An unfolded sum: how much `next` adds that `old` did not. At most 2^33 for words. */
const wordDifference = (old: number, next: number): number => next + (0xffff_ffff - old);

/** Fold a sum below 2^48 to 32 bits, end-around. */
function fold32(sum: number): u32 {
  const once = u32(sum) + u32(sum / 0x1_0000_0000);
  return u32(u32(once) + u32(once / 0x1_0000_0000));
}

/** Apply a sum of 32-bit differences to a header checksum. */
function patch(checksum: be16, difference: u32): be16 {
  const sum = 0xffff - raw(checksum) + (difference & 0xffff) + (difference >>> 16);
  const once = (sum & 0xffff) + (sum >>> 16);
  const twice = (once & 0xffff) + (once >>> 16);
  return rawBe16(0xffff - (twice & 0xffff));
}

// settings ------------------------------------------------------------------------------------------------------------

const TICK_NS = 1_048_576;
/** Seconds to ticks, rounded. */
export const ticksOf = (seconds: number): number => Math.round((seconds * 1e9) / TICK_NS);

export const Settings = struct('settings', {
  /** Ticks of a clock that user space moves; 0: the kernel's clock. For replays in virtual time. */
  clock: u32,
  /** Connections that may exist; the maps are made for it. */
  maxConnections: u32,
  /** Timeout in ticks by TCP state. */
  tcpTimeouts: array(u32, 16),
  udpTimeout: u32,
  /** 1: a SYN on a closing entry that nobody controls opens a new connection (conn_reuse_mode). */
  connectionReuse: u32,
  expireNoDestination: u32,
});

export const settings = single('settings', Settings);

/** Now, in ticks. */
function clock(): u32 {
  const fixed = settings.only.clock;
  if (fixed !== 0) return fixed;
  return u32(ktimeCoarseNs() >> 20n);
}

// service/service -----------------------------------------------------------------------------------------------------

/** What a packet must match. By address (mark 0), or by firewall mark (address, port and protocol 0). */
export const ServiceKey = struct('service_key', {
  address: Address6,
  mark: u32,
  port: be16,
  protocol: u8,
  family: u8,
});

export const Service = struct('service', {
  /** Its place in `serviceStates`, kept for its life. */
  index: u32,
  /** Number of its scheduler. */
  scheduler: u32,
  flags: u32,
  /** Persistence timeout in seconds. */
  timeout: u32,
  /** Its real servers: `members[first .. first + count)`, newest first. */
  first: u32,
  count: u32,
  /** Persistence granularity: IPv4 mask in the first word, or IPv6 mask. */
  netmask: Address6,
  /** Prefix length of the mask, for listing. */
  prefix: u8,
  engine: u8,
  reserved: u16,
  /** Services are told apart by age: each gets the next number when it is made. */
  sequence: u32,
});
type Service = ViewOf<typeof Service>;

/** What a scheduler remembers between connections; each gives the words its own meaning. */
export const ServiceState = struct('service_state', { cursor: u32, current: u32, maximum: u32, divisor: u32 });
type ServiceState = ViewOf<typeof ServiceState>;

/** Where to send: next hop and interface, asked of the kernel at most once a second. */
const Route = struct('route', { hop: Address6, ifindex: u32, at: u32 });
type Route = ViewOf<typeof Route>;

/** Forwarding methods with the kernel's numbers; fullnat is ours. */
const METHOD_MASQ = 0;

/** In service; without it the real server is in the trash and only its connections remember it. */
const SERVER_AVAILABLE = 1;
const SERVER_OVERLOAD = 2;

export const RealServer = struct('real_server', {
  // What scheduling reads, in one cache line.
  flags: u32,
  weight: u16,
  /** The last weight that was not 0; `mh` builds its table by it. */
  lastWeight: u16,
  active: u32,
  inactive: u32,
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
  reserved: u64,
  reserved2: u64,
  reserved3: u64,
});
type RealServer = ViewOf<typeof RealServer>;

const MAX_SERVICES = 16_384;
const MAX_SERVERS = 131_072;
const NONE = 0xffff_ffff;

export const services = hashMap('services', ServiceKey, Service, { maxEntries: MAX_SERVICES });
export const serviceStates = arrayMap('service_states', ServiceState, { maxEntries: MAX_SERVICES });
export const servers = arrayMap('servers', RealServer, { maxEntries: MAX_SERVERS });

/** Numbers of real servers, a run for each service. */
export const Member = struct('member', { server: u32 });
export const members = arrayMap('members', Member, { maxEntries: 2 * MAX_SERVERS });

/** Counted by each CPU for itself; services and totals are sums of their real servers. */
export const Traffic = struct('traffic', {
  connections: u64,
  inPackets: u64,
  outPackets: u64,
  inBytes: u64,
  outBytes: u64,
});
const traffic = percpuArray('traffic', Traffic, { maxEntries: MAX_SERVERS });

function countConnection(server: u32): void {
  const t = traffic.at(server);
  if (t !== null) t.connections = u64(t.connections + 1n);
}

function countIn(server: u32, bytes: u32): void {
  const t = traffic.at(server);
  if (t === null) return;
  t.inPackets = u64(t.inPackets + 1n);
  t.inBytes = u64(t.inBytes + u64(bytes));
}

function countOut(server: u32, bytes: u32): void {
  const t = traffic.at(server);
  if (t === null) return;
  t.outPackets = u64(t.outPackets + 1n);
  t.outBytes = u64(t.outBytes + u64(bytes));
}

// counters ------------------------------------------------------------------------------------------------------------

interface Reason {
  readonly name: string;
  readonly verdict: 'pass' | 'drop';
}

const reason = (verdict: Reason['verdict'], name: string): Reason => ({ name, verdict });

const REASONS = {
  truncated: reason('pass', 'truncated'),
  malformed: reason('pass', 'malformed'),
  fragment: reason('pass', 'fragment'),
  noService: reason('pass', 'noService'),
  notFirst: reason('pass', 'notFirst'),
  noServer: reason('drop', 'noServer'),
  tableFull: reason('drop', 'tableFull'),
  serverGone: reason('drop', 'serverGone'),
  timeToLive: reason('drop', 'timeToLive'),
  noRoute: reason('drop', 'noRoute'),
  corrupt: reason('drop', 'corrupt'),
} as const satisfies Record<string, Reason>;

export const REASON_LIST: readonly Reason[] = Object.values(REASONS);

export const Count = struct('count', { packets: u64 });
const reasons = percpuArray('reasons', Count, { maxEntries: 64 });

/** Count a packet under `reason` and give its verdict. */
function because(reason: Reason): number {
  const count = reasons.at(REASON_LIST.indexOf(reason));
  if (count !== null) count.packets = u64(count.packets + 1n);
  return reason.verdict === 'pass' ? TC_ACT_OK : TC_ACT_SHOT;
}

// family --------------------------------------------------------------------------------------------------------------

/** What a tuple leads to: a connection, and which way the packet goes. */
export const Flow = struct('flow', { connection: u32, direction: u32 });

const REQUEST = 0;
const REPLY = 1;

const tuple = { sourcePort: be16, destinationPort: be16, protocol: u8, reserved: array(u8, 3) };
/** A packet's own addresses and ports: both directions of a connection are found by what the packet itself says. */
export const Tuple4 = struct('tuple4', { source: Address4, destination: Address4, ...tuple });
export const Tuple6 = struct('tuple6', { source: Address6, destination: Address6, ...tuple });

/** Two flows a connection (one without replies through us): sized at twice the connections when the maps are made. */
const flows4 = hashMap('flows4', Tuple4, Flow, { maxEntries: 524_288 });
const flows6 = hashMap('flows6', Tuple6, Flow, { maxEntries: 131_072 });

type Header4 = ViewOf<typeof Ipv4>;
type Header6 = ViewOf<typeof Ipv6>;

const FRAGMENT_MASK = raw(htons(0x3fff));

const IPV4 = {
  number: AF_INET as number,
  Header: Ipv4,
  Tuple: Tuple4,
  Address: Address4,
  flows: flows4,
  /** Where the transport header lies, link header included; options are skipped. */
  transport: (ip: Header4): u32 => ETHERNET + (ip.versionAndLength & 0xf) * 4,
  /** First fragments too: they carry MF. */
  isFragment: (ip: Header4): boolean => (raw(ip.fragment) & FRAGMENT_MASK) !== 0,
  isValid: (ip: Header4): boolean => ip.versionAndLength >= 0x45 && ip.versionAndLength <= 0x4f,
  /** From 16 bytes to the family's own, and back. */
  narrow: (to: Address4, from: Address6): void => {
    to.a = from.a;
  },
  widen: (to: Address6, from: Address4): void => {
    to.a = from.a;
    to.b = rawBe32(0);
    to.c = rawBe32(0);
    to.d = rawBe32(0);
  },
  /** How the ones' complement sum changes when `old` becomes `next`. */
  difference: (old: Address4, next: Address6): number => fold32(wordDifference(raw(old.a), raw(next.a))),
  /** One hop less, and the header checksum mended for that and for an address that changed by `difference`. */
  finish: (ip: Header4, difference: u32): void => {
    ip.timeToLive = u8(ip.timeToLive - 1);
    // A time to live less one is, in the machine's order, its 16-bit word less one: plus 0xfffe in ones' complement.
    ip.checksum = patch(ip.checksum, fold32(difference + 0xfffe));
  },
  length: (ip: Header4): u32 => ntohs(ip.length),
};

type Family = typeof IPV4;

/** Typed as its sibling: the fields that both headers have go by the same names. */
const IPV6: Family = {
  number: AF_INET6,
  Header: Ipv6,
  Tuple: Tuple6,
  Address: Address6,
  flows: flows6,
  transport: (_ip: Header6): u32 => ETHERNET + 40,
  isFragment: (_ip: Header6): boolean => false,
  isValid: (ip: Header6): boolean => (raw(ip.versionAndClass) & 0xf0) === 0x60,
  narrow: (to: Address6, from: Address6): void => assign(to, from),
  widen: (to: Address6, from: Address6): void => assign(to, from),
  difference: (old: Address6, next: Address6): number =>
    fold32(
      wordDifference(raw(old.a), raw(next.a)) +
        wordDifference(raw(old.b), raw(next.b)) +
        wordDifference(raw(old.c), raw(next.c)) +
        wordDifference(raw(old.d), raw(next.d)),
    ),
  finish: (ip: Header6, _difference: u32): void => {
    ip.timeToLive = u8(ip.timeToLive - 1);
  },
  length: (ip: Header6): u32 => ntohs(ip.payloadLength) + 40,
} as unknown as Family;

// connection/tcp-state ------------------------------------------------------------------------------------------------

export const TCP_STATES = [
  'NONE',
  'ESTABLISHED',
  'SYN_SENT',
  'SYN_RECV',
  'FIN_WAIT',
  'TIME_WAIT',
  'CLOSE',
  'CLOSE_WAIT',
  'LAST_ACK',
  'LISTEN',
  'SYNACK',
] as const;

const ESTABLISHED = 1;
const TIME_WAIT = 5;
const CLOSE = 6;

/** States that count as active. */
const ACTIVE_STATES = [1, 2, 3, 10];
const ACTIVE_MASK = ACTIVE_STATES.reduce((mask, state) => mask | (1 << state), 0);

export const isActive = (state: u32): boolean => ((ACTIVE_MASK >>> (state & 15)) & 1) !== 0;

/** What a segment says, first that applies; 4 where it says nothing, which closes. */
const SYN = 0;
const FIN = 1;
const ACK = 2;
const RST = 3;
const NOTHING = 4;

const FLAG_FIN = 0x01;
const FLAG_SYN = 0x02;
const FLAG_RST = 0x04;
const FLAG_ACK = 0x10;

function tcpEvent(flags: u32): u32 {
  if ((flags & FLAG_RST) !== 0) return RST;
  if ((flags & FLAG_SYN) !== 0) return SYN;
  if ((flags & FLAG_FIN) !== 0) return FIN;
  if ((flags & FLAG_ACK) !== 0) return ACK;
  return NOTHING;
}

/** Columns: the state now, in the order of TCP_STATES. */
export const TCP_NORMAL = {
  //           NO ES SS SR FW TW CL CW LA LI SA
  input: {
    syn: row('SR ES ES SR SR SR SR SR SR SR SR'),
    fin: row('CL CW SS TW TW TW CL CW LA LI TW'),
    ack: row('ES ES SS ES FW TW CL CW CL LI ES'),
    rst: row('CL CL CL SR CL CL CL CL LA LI SR'),
  },
  output: {
    syn: row('SS ES SS SR SS SS SS SS SS LI SR'),
    fin: row('TW FW SS TW FW TW CL TW LA LI TW'),
    ack: row('ES ES SS ES FW TW CL CW LA ES ES'),
    rst: row('CL CL SS CL CL TW CL CL CL CL CL'),
  },
  /** Where replies do not come back through the director (DR, TUN). */
  inputOnly: {
    syn: row('SR ES ES SR SR SR SR SR SR SR SR'),
    fin: row('CL FW SS TW FW TW CL CW LA LI TW'),
    ack: row('ES ES SS ES FW TW CL CW CL LI ES'),
    rst: row('CL CL CL SR CL CL CL CL LA LI CL'),
  },
};

type Rows = (typeof TCP_NORMAL)['input'];

function row(states: string): u64 {
  const short = ['NO', 'ES', 'SS', 'SR', 'FW', 'TW', 'CL', 'CW', 'LA', 'LI', 'SA'];
  return states.split(' ').reduce((packed, name, i) => packed | (BigInt(short.indexOf(name)) << BigInt(4 * i)), 0n);
}

const step = (packed: u64, state: u32): u32 => u32(packed >> u64((state & 15) * 4)) & 15;

function follow(rows: Rows, state: u32, event: u32): u32 {
  if (event === SYN) return step(rows.syn, state);
  if (event === FIN) return step(rows.fin, state);
  if (event === ACK) return step(rows.ack, state);
  if (event === RST) return step(rows.rst, state);
  return CLOSE;
}

/** The state after a segment from the client (`repliesUnseen`: of a connection whose replies go another way). */
function afterRequest(state: u32, event: u32, repliesUnseen: boolean): u32 {
  if (repliesUnseen) return follow(TCP_NORMAL.inputOnly, state, event);
  return follow(TCP_NORMAL.input, state, event);
}

/** The state after a segment from the real server. */
const afterReply = (state: u32, event: u32): u32 => follow(TCP_NORMAL.output, state, event);

// connection/connection -----------------------------------------------------------------------------------------------

/** Flags, with the kernel's numbers (enum ip_vs_conn_flags). */
const NO_OUTPUT = 0x0080;
const INACTIVE = 0x0100;

export const Connection = struct('connection', {
  client: Address6,
  virtual: Address6,
  real: Address6,
  clientPort: be16,
  virtualPort: be16,
  realPort: be16,
  protocol: u8,
  family: u8,
  /** 1 while it is in the table. Whoever changes it to 0 removes the rest. */
  alive: u32,
  flags: u32,
  state: u32,
  /** Ticks without a packet after which it expires. */
  timeout: u32,
  lastSeen: u32,
  /** Number of its real server. */
  server: u32,
  inPackets: u32,
  mark: u32,
  /** Number of the connection that controls it plus one; 0 when none does. */
  controller: u32,
  /** How many it controls. */
  controls: u32,
  /** Back to the client. */
  route: Route,
});
type Connection = ViewOf<typeof Connection>;

export const MAX_CONNECTIONS = 262_144;

export const connections = arrayMap('connections', Connection, { maxEntries: MAX_CONNECTIONS });

const Slot = struct('slot', { connection: u32 });
const freeSlots = stackMap('free_slots', Slot, { maxEntries: MAX_CONNECTIONS });

export const Population = struct('population', {
  /** Numbers below were in use at some time. */
  highest: u32,
  /** Connections in the table now. */
  alive: u32,
});
const population = single('population', Population);

/** A number for a new connection, or NONE when the table is full. */
function takeSlot(): u32 {
  const slot = stack(Slot);
  if (freeSlots.pop(slot) === 0) return slot.connection;
  const table = population.only;
  if (table.highest >= settings.only.maxConnections) return NONE;
  const fresh = atomicFetchAdd(table, 'highest', 1);
  // Two CPUs may both have seen room for one; the loser's number lies beyond the end and is never used.
  return fresh < settings.only.maxConnections ? fresh : NONE;
}

function returnSlot(connection: u32): void {
  const slot = stack(Slot, { connection });
  freeSlots.push(slot, 0);
}

// connection/lifecycle ------------------------------------------------------------------------------------------------

/** Let both directions find a filled entry. False when another CPU was first or the table of flows is full. */
function enter(family: Family, c: Connection, index: u32): boolean {
  const key = stack(family.Tuple, {
    sourcePort: c.clientPort,
    destinationPort: c.virtualPort,
    protocol: c.protocol,
  });
  family.narrow(key.source, c.client);
  family.narrow(key.destination, c.virtual);
  const flow = stack(Flow, { connection: index, direction: REQUEST });
  if (family.flows.update(key, flow, NO_EXIST) !== 0) return false;
  if ((c.flags & NO_OUTPUT) === 0) {
    const back = stack(family.Tuple, {
      sourcePort: c.realPort,
      destinationPort: c.clientPort,
      protocol: c.protocol,
    });
    family.narrow(back.source, c.real);
    family.narrow(back.destination, c.client);
    flow.direction = REPLY;
    // Where two virtual services lead one client port to one real server, the newest connection gets the replies.
    family.flows.update(back, flow, ANY);
  }
  atomicAdd(population.only, 'alive', 1);
  return true;
}

function leave(family: Family, c: Connection, index: u32): void {
  const key = stack(family.Tuple, {
    sourcePort: c.clientPort,
    destinationPort: c.virtualPort,
    protocol: c.protocol,
  });
  family.narrow(key.source, c.client);
  family.narrow(key.destination, c.virtual);
  family.flows.delete(key);
  if ((c.flags & NO_OUTPUT) === 0) {
    const back = stack(family.Tuple, {
      sourcePort: c.realPort,
      destinationPort: c.clientPort,
      protocol: c.protocol,
    });
    family.narrow(back.source, c.real);
    family.narrow(back.destination, c.client);
    const flow = family.flows.lookup(back);
    if (flow !== null && flow.connection === index) family.flows.delete(back);
  }
}

/** Count a new connection at its real server: inactive until its state says otherwise. */
function bind(server: RealServer): void {
  atomicAdd(server, 'inactive', 1);
  if (server.upper !== 0 && server.active + server.inactive >= server.upper) {
    server.flags = u32(server.flags | SERVER_OVERLOAD);
  }
}

/** The reverse, with the overload flag's hysteresis (spec section 5). */
function unbind(server: RealServer, active: boolean): void {
  if (active) atomicAdd(server, 'active', -1);
  else atomicAdd(server, 'inactive', -1);
  const total = server.active + server.inactive;
  const low = server.lower !== 0 ? total < server.lower : server.upper === 0 || total * 4 < server.upper * 3;
  if (low) server.flags = u32(server.flags & ~SERVER_OVERLOAD);
}

/** Change the state; the first CPU to do so moves the connection between the active and the inactive. */
function changeState(c: Connection, server: RealServer, from: u32, to: u32): void {
  if (atomicCompareExchange(c, 'state', from, to) !== from) return;
  const was = isActive(from);
  const is = isActive(to);
  if (was === is) return;
  if (is) {
    atomicAdd(server, 'active', 1);
    atomicAdd(server, 'inactive', -1);
  } else {
    atomicAdd(server, 'active', -1);
    atomicAdd(server, 'inactive', 1);
  }
}

/** Take a connection out of the table, once, whoever asks first. */
function expire(c: Connection, index: u32): void {
  if (atomicCompareExchange(c, 'alive', 1, 0) !== 1) return;
  if (c.family === AF_INET) leave(IPV4, c, index);
  else leave(IPV6, c, index);
  const server = servers.at(c.server);
  if (server !== null) unbind(server, isActive(c.state));
  atomicAdd(population.only, 'alive', -1);
  returnSlot(index);
}

/** Whether nothing has been seen of it for its timeout. */
const isExpired = (c: Connection, now: u32): boolean => u32(now - c.lastSeen) >= c.timeout;

/** The live connection of that number, or null. */
function connectionAt(index: u32, now: u32): Connection | null {
  const c = connections.at(index);
  if (c === null || c.alive !== 1) return null;
  if (isExpired(c, now)) {
    expire(c, index);
    return null;
  }
  return c;
}

// scheduler/scheduler -------------------------------------------------------------------------------------------------

/** The packet that asks, as schedulers may see it. */
interface Asking {
  readonly client: Address6;
  readonly virtual: Address6;
}

interface Scheduler {
  /** As `ipvsadm -s` names it. */
  readonly name: string;
  /** Stored in services; never given to another scheduler. */
  readonly number: number;
  /** The number of the chosen real server, or NONE. */
  readonly schedule: (service: Service, state: ServiceState, asking: Asking) => u32;
}

/** The real server at a place of the service's list; null beyond its end. */
function memberAt(service: Service, place: u32): RealServer | null {
  const member = members.at(u32(service.first + place));
  if (member === null) return null;
  return servers.at(member.server);
}

function memberNumber(service: Service, place: u32): u32 {
  const member = members.at(u32(service.first + place));
  return member === null ? NONE : member.server;
}

/** At its upper threshold, or not yet back under the lower one. */
const isOverloaded = (server: RealServer): boolean => (server.flags & SERVER_OVERLOAD) !== 0;

/** Takes new connections: some weight, and not overloaded. */
const isEligible = (server: RealServer): boolean => !isOverloaded(server) && server.weight > 0;

/** What a real server carries: an active connection weighs as much as 256 inactive ones. */
const overhead = (server: RealServer): number => server.active * 256 + server.inactive;

// scheduler/rr --------------------------------------------------------------------------------------------------------

const rr: Scheduler = {
  name: 'rr',
  number: 1,
  schedule(service, state) {
    const start: u32 = state.cursor;
    const count: u32 = service.count;
    let chosen: u32 = NONE;
    loop(count, (i) => {
      const ahead = start + i;
      const place = u32(ahead >= count ? ahead - count : ahead);
      const server = memberAt(service, place);
      if (server === null || !isEligible(server)) return 0;
      chosen = memberNumber(service, place);
      state.cursor = u32(place + 1);
      return 1;
    });
    return chosen;
  },
};

// scheduler/wrr -------------------------------------------------------------------------------------------------------

/** More steps than any list and its weights can ask for (and what bpf_loop allows). */
const MAX_STEPS = 1 << 23;

const wrr: Scheduler = {
  name: 'wrr',
  number: 2,
  schedule(service, state) {
    if (state.maximum === 0) return NONE;
    const count: u32 = service.count;
    const began: u32 = state.cursor;
    let place: u32 = began;
    let bar: u32 = state.current;
    /** The place to stop at (plus one), once the last pass of a second descent has begun. */
    let stop: u32 = 0;
    let restarted: u32 = 0;
    let lastPass: u32 = 0;
    let chosen: u32 = NONE;
    loop(MAX_STEPS, () => {
      if (place < count) {
        const server = memberAt(service, place);
        if (server === null) return 1;
        place = u32(place + 1);
        if (!isOverloaded(server) && server.weight >= bar) {
          chosen = memberNumber(service, u32(place - 1));
          return 1;
        }
        return place === stop ? 1 : 0;
      }
      place = 0;
      if (bar <= state.divisor) {
        bar = state.maximum;
        // Everyone has been asked for any weight at all: in a last pass, or because the walk began at the head.
        if (lastPass === 1 || began === 0) return 1;
        restarted = 1;
      } else {
        bar = u32(bar - state.divisor);
      }
      lastPass = bar <= state.divisor ? 1 : 0;
      if (lastPass === 1 && restarted === 1) stop = began;
      return 0;
    });
    state.current = bar;
    if (chosen !== NONE) state.cursor = place;
    return chosen;
  },
};

// scheduler/lc --------------------------------------------------------------------------------------------------------

const lc: Scheduler = {
  name: 'lc',
  number: 3,
  schedule(service) {
    let chosen: u32 = NONE;
    let least: u32 = 0;
    loop(service.count, (place) => {
      const server = memberAt(service, place);
      if (server === null || !isEligible(server)) return 0;
      const load = u32(overhead(server));
      if (chosen === NONE || load < least) {
        least = load;
        chosen = memberNumber(service, place);
      }
      return 0;
    });
    return chosen;
  },
};

// scheduler/wlc -------------------------------------------------------------------------------------------------------

const wlc: Scheduler = {
  name: 'wlc',
  number: 4,
  schedule(service) {
    let chosen: u32 = NONE;
    let least: u32 = 0;
    let weight: u16 = 0;
    loop(service.count, (place) => {
      const server = memberAt(service, place);
      if (server === null || !isEligible(server)) return 0;
      const load = u32(overhead(server));
      if (chosen === NONE || load * weight < least * server.weight) {
        least = load;
        weight = server.weight;
        chosen = memberNumber(service, place);
      }
      return 0;
    });
    return chosen;
  },
};

// scheduler/index -----------------------------------------------------------------------------------------------------

const SCHEDULERS: readonly Scheduler[] = [rr, wrr, lc, wlc];

function schedule(service: Service, state: ServiceState, asking: Asking): u32 {
  for (const scheduler of SCHEDULERS) {
    if (service.scheduler === scheduler.number) return scheduler.schedule(service, state, asking);
  }
  return NONE;
}

// connection/open -----------------------------------------------------------------------------------------------------

/** What the first packet says. */
const Opening = struct('opening', {
  client: Address6,
  virtual: Address6,
  clientPort: be16,
  virtualPort: be16,
  protocol: u8,
});
type Opening = ViewOf<typeof Opening>;

/** The number of the real server that is to have it, or NONE. */
function chooseServer(service: Service, opening: Opening): u32 {
  const state = serviceStates.at(service.index);
  return state === null ? NONE : schedule(service, state, opening);
}

/** Ticks until the first state sets its own timeout (3 s). */
const INITIAL_TIMEOUT = 2861;

/** The number of the new connection, or NONE where the table is full. */
function openConnection(family: Family, opening: Opening, chosen: u32, mark: u32, now: u32): u32 {
  const server = servers.at(chosen);
  if (server === null) return NONE;
  const index = takeSlot();
  if (index === NONE) return NONE;
  const c = connections.at(index);
  if (c === null) return NONE;
  assign(c.client, opening.client);
  assign(c.virtual, opening.virtual);
  assign(c.real, server.address);
  c.clientPort = opening.clientPort;
  c.virtualPort = opening.virtualPort;
  c.realPort = raw(server.port) !== 0 ? server.port : opening.virtualPort;
  c.protocol = opening.protocol;
  c.family = family.number;
  c.flags = server.method === METHOD_MASQ ? INACTIVE : INACTIVE | NO_OUTPUT;
  c.state = 0;
  c.timeout = INITIAL_TIMEOUT;
  c.lastSeen = now;
  c.server = chosen;
  c.inPackets = 0;
  c.mark = mark;
  c.controller = 0;
  c.controls = 0;
  c.route.ifindex = 0;
  c.alive = 1;
  if (!enter(family, c, index)) {
    c.alive = 0;
    returnSlot(index);
    return NONE;
  }
  bind(server);
  countConnection(chosen);
  return index;
}

// service/find --------------------------------------------------------------------------------------------------------

function findService(family: u8, protocol: u8, mark: u32, address: Address6, port: be16): Service | null {
  const key = stack(ServiceKey, { family });
  if (mark !== 0) {
    key.mark = mark;
    const marked = services.lookup(key);
    if (marked !== null) return marked;
    key.mark = 0;
  }
  key.address.a = address.a;
  key.address.b = address.b;
  key.address.c = address.c;
  key.address.d = address.d;
  key.protocol = protocol;
  key.port = port;
  const exact = services.lookup(key);
  if (exact !== null) return exact;
  key.port = rawBe16(0);
  return services.lookup(key);
}

// forward/nat ---------------------------------------------------------------------------------------------------------

function rewrite(
  skb: Skb,
  family: Family,
  ip: ViewOf<typeof Ipv4>,
  ports: Ports,
  side: Side,
  to: Address6,
  toPort: be16,
  checksum: u32,
): void {
  const address: Address4 = side.address(ip);
  const oldPort = side.port(ports);
  const difference = family.difference(address, to);
  family.narrow(address, to);
  side.setPort(ports, toPort);
  family.finish(ip, difference);
  l4CsumReplace(skb, checksum, 0, difference, BPF_F_PSEUDO_HDR);
  if (oldPort !== toPort) l4CsumReplace(skb, checksum, raw(oldPort), raw(toPort), 2);
}

interface Side {
  readonly address: (ip: ViewOf<typeof Ipv4>) => Address4;
  readonly port: (ports: Ports) => be16;
  readonly setPort: (ports: Ports, port: be16) => void;
}

const DESTINATION: Side = {
  address: (ip) => ip.destination,
  port: (ports) => ports.destinationPort,
  setPort: (ports, port) => {
    ports.destinationPort = port;
  },
};

const SOURCE: Side = {
  address: (ip) => ip.source,
  port: (ports) => ports.sourcePort,
  setPort: (ports, port) => {
    ports.sourcePort = port;
  },
};

// forward/route -------------------------------------------------------------------------------------------------------

const ROUTE_AGE = ticksOf(1);
const FIB_SUCCESS = 0;
/** The route is known, its neighbour not yet: redirectNeigh resolves it. */
const FIB_NO_NEIGHBOUR = 7;

/** Makes sure that `route` leads to `destination`; false where the kernel has no way. */
function findRoute(skb: Skb, family: Family, route: Route, destination: Address6, now: u32): boolean {
  if (route.ifindex !== 0 && u32(now - route.at) < ROUTE_AGE) return true;
  const question = stack(FibLookup, { family: family.number, ifindex: skb.ingressIfindex });
  question.destination.set(0, destination.a);
  question.destination.set(1, destination.b);
  question.destination.set(2, destination.c);
  question.destination.set(3, destination.d);
  const answer = fibLookup(skb, question, 0);
  if (answer !== FIB_SUCCESS && answer !== FIB_NO_NEIGHBOUR) {
    route.ifindex = 0;
    return false;
  }
  route.hop.a = question.destination.get(0);
  route.hop.b = question.destination.get(1);
  route.hop.c = question.destination.get(2);
  route.hop.d = question.destination.get(3);
  route.ifindex = question.ifindex;
  route.at = now;
  return true;
}

/** Hand the packet to the next hop; the kernel resolves its link address. */
function sendTo(family: Family, route: Route): number {
  const next = stack(RedirectNeighbour, { family: family.number });
  next.address.set(0, route.hop.a);
  next.address.set(1, route.hop.b);
  next.address.set(2, route.hop.c);
  next.address.set(3, route.hop.d);
  return redirectNeigh(route.ifindex, next, 0);
}

// request -------------------------------------------------------------------------------------------------------------

/** Offset of the checksum in the TCP header. */
const TCP_CHECKSUM = 16;

function request(
  skb: Skb,
  family: Family,
  ip: ViewOf<typeof Ipv4>,
  tcp: Tcp,
  transport: u32,
  c: Connection,
  event: u32,
  now: u32,
): number {
  const server = servers.at(c.server);
  if (server === null) return because(REASONS.corrupt);
  if ((server.flags & SERVER_AVAILABLE) === 0) return because(REASONS.serverGone);
  if (ip.timeToLive <= 1) return because(REASONS.timeToLive);
  if (!findRoute(skb, family, server.route, server.address, now)) return because(REASONS.noRoute);

  countIn(c.server, u32(skb.len - ETHERNET));
  const state = c.state;
  if (event !== ACK || state !== ESTABLISHED) {
    changeState(c, server, state, afterRequest(state, event, (c.flags & NO_OUTPUT) !== 0));
  }
  rearm(c, now);
  rewrite(skb, family, ip, tcp, DESTINATION, c.real, c.realPort, transport + TCP_CHECKSUM);
  return sendTo(family, server.route);
}

/** The timer starts anew with its state's timeout. Nothing is written that already says so: the line may be shared. */
function rearm(c: Connection, now: u32): void {
  const timeout = settings.only.tcpTimeouts.get(c.state & 15);
  if (c.timeout !== timeout) c.timeout = timeout;
  if (c.lastSeen !== now) c.lastSeen = now;
}

// reply ---------------------------------------------------------------------------------------------------------------

function reply(
  skb: Skb,
  family: Family,
  ip: ViewOf<typeof Ipv4>,
  tcp: Tcp,
  transport: u32,
  c: Connection,
  event: u32,
  now: u32,
): number {
  const server = servers.at(c.server);
  if (server === null) return because(REASONS.corrupt);
  if (ip.timeToLive <= 1) return because(REASONS.timeToLive);
  if (!findRoute(skb, family, c.route, c.client, now)) return because(REASONS.noRoute);

  // A removed real server's replies still pass; only what is in service is counted (as IPVS does).
  if ((server.flags & SERVER_AVAILABLE) !== 0) countOut(c.server, u32(skb.len - ETHERNET));
  const state = c.state;
  if (event !== ACK || state !== ESTABLISHED) changeState(c, server, state, afterReply(state, event));
  rearm(c, now);
  rewrite(skb, family, ip, tcp, SOURCE, c.virtual, c.virtualPort, transport + TCP_CHECKSUM);
  return sendTo(family, c.route);
}

// director ------------------------------------------------------------------------------------------------------------

const ETH_P_IP = htons(0x0800);
const ETH_P_IPV6 = htons(0x86dd);
/** Addressed to this host by its link address. */
const PACKET_HOST = 0;

function director(skb: Skb): number {
  if (skb.pktType !== PACKET_HOST) return TC_ACT_OK;
  const protocol = skb.protocol;
  if (protocol === ETH_P_IP) return journey(skb, IPV4);
  if (protocol === ETH_P_IPV6) return journey(skb, IPV6);
  return TC_ACT_OK;
}

function journey(skb: Skb, family: Family): number {
  const ip = skb.header(family.Header, ETHERNET);
  if (ip === null) return because(REASONS.truncated);
  if (ip.protocol !== IPPROTO_TCP) return TC_ACT_OK;
  if (!family.isValid(ip)) return because(REASONS.malformed);
  if (family.isFragment(ip)) return because(REASONS.fragment);
  const transport = family.transport(ip);
  const tcp = skb.header(Tcp, transport);
  if (tcp === null) return because(REASONS.truncated);

  const now = clock();
  const event = tcpEvent(tcp.flags);
  const tuple = stack(family.Tuple, {
    sourcePort: tcp.sourcePort,
    destinationPort: tcp.destinationPort,
    protocol: IPPROTO_TCP,
  });
  assign(tuple.source, ip.source);
  assign(tuple.destination, ip.destination);
  const flow = family.flows.lookup(tuple);
  if (flow !== null) {
    const c = connectionAt(flow.connection, now);
    if (c !== null) {
      if (flow.direction !== REQUEST) return reply(skb, family, ip, tcp, transport, c, event, now);
      const finished = c.state === TIME_WAIT || c.state === CLOSE;
      if (!(event === SYN && finished && c.controller === 0 && settings.only.connectionReuse !== 0)) {
        return request(skb, family, ip, tcp, transport, c, event, now);
      }
      // The client uses its port anew: the old entry goes and the packet is a first one.
      expire(c, flow.connection);
    }
  }

  const opening = stack(Opening, {
    clientPort: tcp.sourcePort,
    virtualPort: tcp.destinationPort,
    protocol: IPPROTO_TCP,
  });
  family.widen(opening.client, ip.source);
  family.widen(opening.virtual, ip.destination);
  const service = findService(family.number, IPPROTO_TCP, skb.mark, opening.virtual, tcp.destinationPort);
  if (service === null) return TC_ACT_OK;
  if (event !== SYN) return because(REASONS.notFirst);
  const chosen = chooseServer(service, opening);
  if (chosen === NONE) return because(REASONS.noServer);
  const index = openConnection(family, opening, chosen, skb.mark, now);
  if (index === NONE) return because(REASONS.tableFull);
  const c = connections.at(index);
  if (c === null) return because(REASONS.corrupt);
  return request(skb, family, ip, tcp, transport, c, event, now);
}

export const program = tcProgram('director', (skb) => director(skb));
