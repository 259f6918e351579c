/**
 * What an operator may set, read by the packet path and written by user space. One element, one load to read.
 *
 * Time inside the data plane is counted in *ticks* of 2^20 ns (1.048576 ms): a shift of the kernel's clock instead of a
 * division, 32 bits that wrap after 52 days and are only ever subtracted.
 */
import { array, ktimeCoarseNs, ktimeNs, single, struct, u32, type ViewOf } from '@ipvsd/bpf';

export const TICK_NS = 1_048_576;
/** Seconds to ticks, rounded. */
export const ticksOf = (seconds: number): number => Math.round((seconds * 1e9) / TICK_NS);
/** Ticks to seconds, as a fraction. */
export const secondsOf = (ticks: number): number => (ticks * TICK_NS) / 1e9;

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
