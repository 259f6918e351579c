/**
 * Timers. A packet only stores when it was seen; one kernel timer walks the table and removes what has been silent for its
 * timeout. So forwarding costs no timer work, no process need live, and a lookup that meets an expired entry first removes
 * it itself.
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
  type ViewOf,
} from '@ipvsd/bpf';
import { exactNow as clock } from '../settings.ts';
import { connections, population } from './connection.ts';
import { expire, isExpired } from './lifecycle.ts';

const Sweeper = struct('sweeper', {
  timer,
  /** The number at which the next walk goes on. */
  next: u32,
  /** Walks so far, for `ipvsd status`. */
  rounds: u32,
});
type Sweeper = ViewOf<typeof Sweeper>;

export const sweeper = single('sweeper', Sweeper);

/** Eight walks a second, each over an eighth of the table or this many entries, whichever is less. */
const PERIOD_NS = 125_000_000n;
const MOST_PER_WALK = 65_536;

/** Remove a connection that has been silent too long. */
function expireIfDue(index: u32, now: u32): void {
  const c = connections.at(index);
  if (c !== null && c.alive === 1 && isExpired(c, now)) expire(c, index);
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

function onTimer(_map: unknown, _key: u32, value: Sweeper): number {
  walk(value);
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
}
