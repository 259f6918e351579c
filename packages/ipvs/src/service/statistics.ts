/**
 * Statistics: counted by each CPU for itself at the real server; published, with rates, every two seconds (spec section 14).
 *
 * Each CPU's counts only ever grow. A tick collects what all have counted, adds what is new to the real server, its service
 * and the total, and lets the rates follow by a quarter of the difference. So a packet counts once, no count is lost between
 * CPUs, and a service keeps what its real servers counted after they are gone.
 */
import {
  arrayMap,
  assign,
  atomicAdd,
  clear,
  loop,
  percpuArray,
  single,
  struct,
  u32,
  u64,
  type ViewOf,
} from '@ipvsd/bpf';
import { settings } from '../settings.ts';
import { MAX_SERVERS, MAX_SERVICES, SERVER_AVAILABLE, servers } from './service.ts';

export const Traffic = struct('traffic', {
  connections: u64,
  inPackets: u64,
  outPackets: u64,
  inBytes: u64,
  outBytes: u64,
});
type Traffic = ViewOf<typeof Traffic>;
export const traffic = percpuArray('traffic', Traffic, { maxEntries: MAX_SERVERS });

export const Figures = struct('figures', {
  published: Traffic,
  /** Collected since the last tick. */
  pending: Traffic,
  /** What was published when an operator set it to zero: listings show the difference. */
  base: Traffic,
  /** Connections and packets a second times 2^10, bytes a second times 2^5. */
  rates: Traffic,
});
export type Figures = ViewOf<typeof Figures>;

export const serverFigures = arrayMap('server_figures', Figures, { maxEntries: MAX_SERVERS });
export const serviceFigures = arrayMap('service_figures', Figures, { maxEntries: MAX_SERVICES });
export const totalFigures = single('total_figures', Figures);

/** How far numbers have been given out. */
export const Ranges = struct('ranges', { servers: u32, services: u32 });
export const ranges = single('ranges', Ranges);

// A packet counts ----------------------------------------------------------------------------------------------------

export function countConnection(server: u32): void {
  const t = traffic.at(server);
  if (t !== null) t.connections = u64(t.connections + 1n);
}

export function countIn(server: u32, bytes: u32): void {
  const t = traffic.at(server);
  if (t === null) return;
  t.inPackets = u64(t.inPackets + 1n);
  t.inBytes = u64(t.inBytes + u64(bytes));
}

export function countOut(server: u32, bytes: u32): void {
  const t = traffic.at(server);
  if (t === null) return;
  t.outPackets = u64(t.outPackets + 1n);
  t.outBytes = u64(t.outBytes + u64(bytes));
}

/** More bytes of a packet that is counted already. */
export function countMore(server: u32, bytes: u32, reply: boolean): void {
  const t = traffic.at(server);
  if (t === null) return;
  if (reply) t.outBytes = u64(t.outBytes + u64(bytes));
  else t.inBytes = u64(t.inBytes + u64(bytes));
}

// The tick -----------------------------------------------------------------------------------------------------------

/** Every two seconds: publish what was counted, and let the rates follow. */
export function estimate(): void {
  loop(ranges.only.servers, (number) => {
    const server = servers.at(number);
    if (server === null) return 1;
    if ((server.flags & SERVER_AVAILABLE) === 0) return 0;
    collect(number, server.service);
    publish(serverFigures.at(number));
    return 0;
  });
  loop(ranges.only.services, (index) => {
    publish(serviceFigures.at(index));
    return 0;
  });
  publish(totalFigures.only);
}

/** Take in what all CPUs have counted at a real server since the last time. */
export function collect(number: u32, service: u32): void {
  const own = serverFigures.at(number);
  const whole = serviceFigures.at(service);
  if (own === null || whole === null) return;
  let connections: u64 = 0n;
  let inPackets: u64 = 0n;
  let outPackets: u64 = 0n;
  let inBytes: u64 = 0n;
  let outBytes: u64 = 0n;
  loop(settings.only.cpus, (cpu) => {
    const t = traffic.atCpu(number, cpu);
    if (t === null) return 1;
    connections = u64(connections + t.connections);
    inPackets = u64(inPackets + t.inPackets);
    outPackets = u64(outPackets + t.outPackets);
    inBytes = u64(inBytes + t.inBytes);
    outBytes = u64(outBytes + t.outBytes);
    return 0;
  });
  const { published, pending } = own;
  connections = u64(connections - published.connections - pending.connections);
  inPackets = u64(inPackets - published.inPackets - pending.inPackets);
  outPackets = u64(outPackets - published.outPackets - pending.outPackets);
  inBytes = u64(inBytes - published.inBytes - pending.inBytes);
  outBytes = u64(outBytes - published.outBytes - pending.outBytes);
  add(own.pending, connections, inPackets, outPackets, inBytes, outBytes);
  add(whole.pending, connections, inPackets, outPackets, inBytes, outBytes);
  add(totalFigures.only.pending, connections, inPackets, outPackets, inBytes, outBytes);
}

function add(to: Traffic, connections: u64, inPackets: u64, outPackets: u64, inBytes: u64, outBytes: u64): void {
  atomicAdd(to, 'connections', connections);
  atomicAdd(to, 'inPackets', inPackets);
  atomicAdd(to, 'outPackets', outPackets);
  atomicAdd(to, 'inBytes', inBytes);
  atomicAdd(to, 'outBytes', outBytes);
}

/** Scales of the estimator: over two seconds a difference of 1 is 2^9 or 2^4. */
const PACKETS = 512n;
const BYTES = 16n;

function publish(figures: Figures | null): void {
  if (figures === null) return;
  const { published, pending, rates } = figures;
  rates.connections = follow(rates.connections, u64(pending.connections * PACKETS));
  rates.inPackets = follow(rates.inPackets, u64(pending.inPackets * PACKETS));
  rates.outPackets = follow(rates.outPackets, u64(pending.outPackets * PACKETS));
  rates.inBytes = follow(rates.inBytes, u64(pending.inBytes * BYTES));
  rates.outBytes = follow(rates.outBytes, u64(pending.outBytes * BYTES));
  accept(published, pending);
}

/** What is pending becomes published. */
function accept(published: Traffic, pending: Traffic): void {
  published.connections = u64(published.connections + pending.connections);
  published.inPackets = u64(published.inPackets + pending.inPackets);
  published.outPackets = u64(published.outPackets + pending.outPackets);
  published.inBytes = u64(published.inBytes + pending.inBytes);
  published.outBytes = u64(published.outBytes + pending.outBytes);
  clear(pending);
}

/** A quarter of the way, rounded down as a shift of a signed number does. */
function follow(rate: u64, fresh: u64): u64 {
  if (fresh >= rate) return u64(rate + (u64(fresh - rate) >> 2n));
  return u64(rate - (u64(rate - fresh + 3n) >> 2n));
}

// Zero ---------------------------------------------------------------------------------------------------------------

/** What is shown starts at 0 again. What was counted since the last tick will still be shown. */
export function setToZero(figures: Figures): void {
  assign(figures.base, figures.published);
  clear(figures.rates);
}

/** Nothing that the number counted before is shown. */
export function beginAnew(figures: Figures): void {
  accept(figures.published, figures.pending);
  setToZero(figures);
}
