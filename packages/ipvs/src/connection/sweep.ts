/**
 * Timers. A packet only stores when it was seen; one kernel timer walks the table and removes what has been silent for its
 * timeout. So forwarding costs no timer work, no process need live, and a lookup that meets an expired entry first removes
 * it itself. The same timer publishes statistics and minds the defence.
 *
 * Why no timer per connection: a kernel timer takes 96 bytes and 100 ns to arm; a walk over entries that lie in a row takes
 * a few nanoseconds for each, and ten million timers become one.
 */
import {
  CLOCK_MONOTONIC,
  loop,
  single,
  struct,
  timer,
  timerInit,
  timerSetCallback,
  timerStart,
  u32,
  u64,
  type ViewOf,
} from '@ipvsd/bpf';
import { defend } from '../defence.ts';
import { SERVER_AVAILABLE, servers } from '../service/service.ts';
import { estimate } from '../service/statistics.ts';
import { exactNow as clock, settings, ticksOf } from '../settings.ts';
import { connections, population } from './connection.ts';
import { dropChain, fire, isExpired } from './lifecycle.ts';

const Sweeper = struct('sweeper', {
  timer,
  /** The number at which the next walk goes on. */
  next: u32,
  /** Walks so far, for `ipvsd status`. */
  rounds: u32,
  /** The number of the estimator's period, and when the defence looked last. */
  period: u32,
  defended: u32,
  /** 1: a real server was removed whose connections are to go (expire_nodest_conn). */
  orphans: u32,
});
type Sweeper = ViewOf<typeof Sweeper>;

export const sweeper = single('sweeper', Sweeper);

/** Eight walks a second, each over an eighth of the table or this many entries, whichever is less. */
const PERIOD_NS = 125_000_000n;
const MOST_PER_WALK = 65_536;

/** Statistics are published at each even second since boot. */
const ESTIMATION_NS = 2_000_000_000n;
const DEFENCE_PERIOD = ticksOf(1);
/** Ticks that are made up for when the clock leaps; after so many no rate is left. */
const MOST_TICKS = 32;

/** Remove a connection that has been silent too long. */
function expireIfDue(index: u32, now: u32): void {
  const c = connections.at(index);
  if (c !== null && c.alive === 1 && isExpired(c, now)) fire(c, index);
}

/** One walk over the next part of the table. */
function walk(sweeper: Sweeper): void {
  const now = clock();
  const highest: u32 = population.only.highest;
  const part: u32 = u32(highest / 8) + 1;
  const length: u32 = part < MOST_PER_WALK ? part : MOST_PER_WALK;
  const first: u32 = sweeper.next < highest ? sweeper.next : 0;
  loop(length, (i) => {
    expireIfDue(u32(first + i), now);
    return 0;
  });
  sweeper.next = u32(first + length);
  sweeper.rounds = u32(sweeper.rounds + 1);
}

/** What is due by the clock besides. */
function keepTime(sweeper: Sweeper, now: u32): void {
  if (u32(now - sweeper.defended) >= DEFENCE_PERIOD) {
    sweeper.defended = now;
    defend();
  }
  if (sweeper.orphans !== 0) {
    sweeper.orphans = 0;
    dropOrphans();
  }
  // Two ticks ahead: the clock is cut to ticks, and a walk at the very second is to find it full.
  const period = u32((u64(u32(now + 2)) << 20n) / ESTIMATION_NS);
  const passed = sweeper.period === 0 ? 0 : u32(period - sweeper.period);
  sweeper.period = period;
  if (settings.only.runEstimation === 0) return;
  loop(MOST_TICKS, (i) => {
    if (i >= passed) return 1;
    estimate();
    return 0;
  });
}

function onTimer(_map: unknown, _key: u32, value: Sweeper): number {
  walk(value);
  keepTime(value, clock());
  timerStart(value.timer, PERIOD_NS, 0);
  return 0;
}

/** Arm the timer, or re-arm it with this program's callback after an upgrade. */
export function startSweeping(): number {
  const { timer: pulse } = sweeper.only;
  timerInit(pulse, sweeper, CLOCK_MONOTONIC);
  timerSetCallback(pulse, onTimer);
  return timerStart(pulse, PERIOD_NS, 0);
}

/** The whole table at once, for a clock that user space moves. */
export function sweepAll(): void {
  const now = clock();
  loop(population.only.highest, (i) => {
    expireIfDue(i, now);
    return 0;
  });
  keepTime(sweeper.only, now);
}

/** Drop all connections whose real server has left (expire_nodest_conn, when one is removed). */
function dropOrphans(): void {
  loop(population.only.highest, (i) => {
    const c = connections.at(i);
    if (c === null || c.alive !== 1) return 0;
    const server = servers.at(c.server);
    if (server !== null && (server.flags & SERVER_AVAILABLE) === 0) dropChain(i);
    return 0;
  });
}
