/**
 * What an operator may set, read by the packet path and written by user space. One element, one load to read.
 *
 * Time inside the data plane is counted in *ticks* of 2^20 ns (1.048576 ms): a shift of the kernel's clock instead of a
 * division, 32 bits that wrap after 52 days and are only ever subtracted.
 */
import { array, ktimeCoarseNs, ktimeNs, mul32, randomU32, single, struct, u32, u64, type ViewOf } from '@ipvsd/bpf';

export const TICK_NS = 1_048_576;
/** Seconds to ticks, rounded up: a timer may be late, never early. */
export const ticksOf = (seconds: number): number => Math.ceil((seconds * 1e9) / TICK_NS);
/** Ticks to seconds, as a fraction. */
export const secondsOf = (ticks: number): number => (ticks * TICK_NS) / 1e9;

export const Settings = struct('settings', {
  /** Ticks of a clock that user space moves; 0: the kernel's clock. For replays in virtual time. */
  clock: u32,
  /** Connections that may exist; the maps are made for it. */
  maxConnections: u32,
  /** Places beyond it (connection/connection.ts). */
  reservedConnections: u32,
  /** Of the table of flows (connection/flows.ts): how many buckets, and what its hash begins with. */
  flowBuckets: u32,
  flowKey: u64,
  /** Timeouts in ticks: of each protocol 16, by state. */
  timeouts: array(u32, 48),
  /** conn_reuse_mode, its bits. */
  connectionReuse: u32,
  expireNoDestination: u32,
  expireQuiescentTemplate: u32,
  sloppyTcp: u32,
  sloppySctp: u32,
  cacheBypass: u32,
  natIcmpSend: u32,
  scheduleIcmp: u32,
  ignoreTunneled: u32,
  pathMtuDiscovery: u32,
  /** 1 while this director is a backup that must not balance (backup_only, and a backup daemon runs). */
  backupOnly: u32,
  /** Modes of the defence, 0 to 3; 1 and 2 are exchanged by the data plane itself (defence.ts). */
  secureTcp: u32,
  dropEntry: u32,
  dropPacket: u32,
  /** amemthresh in pages, and am_droprate. */
  memoryThreshold: u32,
  dropRate: u32,
  runEstimation: u32,
  /** lblc_expiration and lblcr_expiration in ticks. */
  localityExpiration: u32,
  replicationExpiration: u32,
  /** CPUs that may count packets. */
  cpus: u32,
  /** Virtual services and masqueraded networks of each family; without any its packets are the host's alone, connections or not. */
  services4: u32,
  services6: u32,
  /** 1 where rules give packets a firewall mark (service/mark.ts). */
  markRules: u32,
  /** Kind of the TCP option that tells real servers behind FULLNAT of their clients; 0: none. */
  addressOption: u32,
  /** How many networks are masqueraded. */
  masquerades: u32,
  /** Local ports of FULLNAT and masquerading: the first, and how many. */
  firstLocalPort: u32,
  localPorts: u32,
  /** 1: packets go straight into the network namespaces behind local veth pairs (forward/peer.ts). */
  localPeers: u32,
  /** 1 where real servers may open connections (outgoing.ts). */
  engineServers: u32,
  /** What stands in for random numbers, so that a replay draws the same; 0: they are random. */
  chance: u32,
});
export type Settings = ViewOf<typeof Settings>;

export const settings = single('settings', Settings);

/** Now, in ticks. */
export function now(): u32 {
  const fixed = settings.only.clock;
  if (fixed !== 0) return fixed;
  return u32(ktimeCoarseNs() >> 20n);
}

/** The same for where the coarse clock is not to be had (syscall programs, and timers that they start). */
export function exactNow(): u32 {
  const fixed = settings.only.clock;
  if (fixed !== 0) return fixed;
  return u32(ktimeNs() >> 20n);
}

const GOLDEN_RATIO_32 = 0x61c8_8647;

/** 32 random bits; `nth` tells apart the numbers that one packet draws, should the chance be fixed. */
export function draw(nth: number): u32 {
  const fixed = settings.only.chance;
  return fixed !== 0 ? mul32(u32(fixed + nth), GOLDEN_RATIO_32) : randomU32();
}
