/**
 * Defence while memory for connections is short: some first packets are dropped (drop_packet), entries that look abandoned
 * go early (drop_entry), TCP connections are believed only after the whole handshake (secure_tcp).
 *
 * Each has a mode: 0 off; 1 by itself, memory is not short; 2 by itself, memory is short; 3 on. What counts as memory is the
 * connection table's own free part, in pages as `amemthresh` is: nothing else grows with the number of connections.
 */
import { loop, single, struct, u32, type ViewOf } from '@ipvsd/bpf';
import { ASSURED, Connection, connections, ONE_PACKET, population, TEMPLATE } from './connection/connection.ts';
import { dropChain } from './connection/lifecycle.ts';
import { IPPROTO_SCTP, IPPROTO_TCP } from './packet/headers.ts';
import { SCTP_ESTABLISHED } from './protocol/sctp.ts';
import { ESTABLISHED, SYN_RECEIVED, SYNACK } from './protocol/tcp.ts';
import { exactNow as clock, draw, settings, ticksOf } from './settings.ts';

const AUTOMATIC = 1;
const ACTIVE = 2;
const ALWAYS = 3;
const PAGE = 4096;

export const Defence = struct('defence', {
  /** Every how many first packets one is dropped; 0: none. */
  rate: u32,
  /** First packets to come until the next is dropped. */
  left: u32,
  /** Candidates of 1 to 8 packets still to be spared, four bits each. */
  spared: u32,
});
export const defence = single('defence', Defence);

/** Asked for each packet that would open a connection. */
export function dropsFirstPacket(): boolean {
  const d = defence.only;
  const rate = d.rate;
  if (rate === 0) return false;
  const left = d.left;
  if (left > 1) {
    d.left = u32(left - 1);
    return false;
  }
  d.left = rate;
  return true;
}

/** Pages that new connections may still take. */
function freePages(): u32 {
  const most = settings.only.maxConnections;
  const alive = population.only.alive;
  if (alive >= most) return 0;
  return u32((u32(most - alive) * Connection.size) / PAGE);
}

/** Once a second: is memory short, and what follows. */
export function defend(): void {
  const s = settings.only;
  const threshold = s.memoryThreshold;
  const free = freePages();
  const short = free < threshold;
  s.secureTcp = modeAfter(s.secureTcp, short);
  s.dropEntry = modeAfter(s.dropEntry, short);
  s.dropPacket = modeAfter(s.dropPacket, short);
  defence.only.rate = s.dropPacket === ALWAYS ? s.dropRate : s.dropPacket === ACTIVE ? rateFor(threshold, free) : 0;
  if (s.dropEntry >= ACTIVE) dropAbandoned();
}

function modeAfter(mode: u32, short: boolean): u32 {
  if (mode === AUTOMATIC && short) return ACTIVE;
  if (mode === ACTIVE && !short) return AUTOMATIC;
  return mode;
}

/** The less there is, the more is dropped: with nothing left every first packet. */
function rateFor(threshold: u32, free: u32): u32 {
  return threshold > free ? u32(threshold / u32(threshold - free)) : 0;
}

/** Look at one part in 32 of the table, beginning anywhere. */
function dropAbandoned(): void {
  const highest = population.only.highest;
  if (highest === 0) return;
  const part: u32 = u32(highest / 32) + 1;
  const first: u32 = draw(0) % highest;
  loop(part, (i) => {
    const ahead = first + i;
    const index = u32(ahead >= highest ? ahead - highest : ahead);
    const c = connections.at(index);
    if (c !== null && c.alive === 1 && c.controls === 0 && looksAbandoned(c)) dropChain(index);
    return 0;
  });
}

function looksAbandoned(c: ViewOf<typeof Connection>): boolean {
  const state = c.state;
  if ((c.flags & TEMPLATE) !== 0) return (c.flags & ONE_PACKET) !== 0 ? drawn(c) : state !== ASSURED;
  if (c.protocol === IPPROTO_TCP) {
    if (state === SYN_RECEIVED || state === SYNACK) return true;
    return state === ESTABLISHED ? drawn(c) : false;
  }
  if (c.protocol === IPPROTO_SCTP) {
    if (state === 1 || state === 2) return true;
    return state === SCTP_ESTABLISHED ? drawn(c) : false;
  }
  return drawn(c);
}

const LONG_SILENT = ticksOf(60);

/** Of those long silent with n packets (1 to 8) in all, one in n. */
function drawn(c: ViewOf<typeof Connection>): boolean {
  if (u32(clock() - c.lastSeen) < LONG_SILENT) return false;
  const n = c.inPackets;
  if (n === 0 || n > 8) return false;
  const d = defence.only;
  const shift = ((n - 1) & 7) * 4;
  const spared = (d.spared >>> shift) & 15;
  if (spared > 1) {
    d.spared = u32(d.spared - u32(1 << shift));
    return false;
  }
  d.spared = u32((d.spared & ~(15 << shift)) | (n << shift));
  return true;
}
