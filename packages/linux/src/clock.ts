/**
 * The kernel's monotonic clock, as eBPF programs read it, so that a time stamp in a map can be compared with ours.
 *
 * `bpf_ktime_get_ns` is CLOCK_MONOTONIC, `bpf_ktime_get_coarse_ns` is CLOCK_MONOTONIC_COARSE: the time of the last tick,
 * up to 10 ms old and never ahead of the fine one.
 */

import { systemCall } from './syscall.ts';

const CLOCK_MONOTONIC_COARSE = 6;

const timespec = new BigInt64Array(2);

export function monotonicNs(): bigint {
  // Node's clock is the same one, and cheaper than a system call through koffi.
  return process.hrtime.bigint();
}

export function monotonicCoarseNs(): bigint {
  systemCall('read the coarse monotonic clock', 'clock_gettime', CLOCK_MONOTONIC_COARSE, timespec);
  return timespec[0]! * 1_000_000_000n + timespec[1]!;
}
