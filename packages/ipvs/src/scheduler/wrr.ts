/**
 * Weighted round robin: in each pass over the list the real servers whose weight reaches a bar take one turn, and the bar
 * goes down from the greatest weight by the weights' greatest common divisor.
 *
 * `cursor` is the place after the one chosen last (0: the head), `current` the bar, `maximum` where it starts anew,
 * `divisor` its step. With weights 4, 3 and 2 the turns are A A B A B C A B C.
 */
import { loop, percpuArray, struct, u32 } from '@ipvsd/bpf';
import { standingOf } from '../service/service.ts';
import { isOverloaded, memberNumber, NONE, type PreparedMember, type Scheduler } from './scheduler.ts';

/** More steps than any list and its weights can ask for (and what bpf_loop allows). */
const MAX_STEPS = 1 << 23;

/** A walk over the list. In a map, as the verifier would follow each value of each of these through every step. */
const Walk = struct('wrr_walk', {
  place: u32,
  bar: u32,
  began: u32,
  /** The place to stop at (plus one), once the last pass of a second descent has begun. */
  stop: u32,
  restarted: u32,
  lastPass: u32,
  chosen: u32,
});
const walks = percpuArray('wrr_walks', Walk, { maxEntries: 1 });

export const wrr: Scheduler = {
  name: 'wrr',
  number: 2,
  schedule(service, state) {
    if (state.maximum === 0) return NONE;
    const walk = walks.at(0);
    if (walk === null) return NONE;
    const count: u32 = service.count;
    walk.began = state.cursor;
    walk.place = state.cursor;
    walk.bar = state.current;
    walk.stop = 0;
    walk.restarted = 0;
    walk.lastPass = 0;
    walk.chosen = NONE;
    loop(MAX_STEPS, () => {
      const place = walk.place;
      if (place < count) {
        const number = memberNumber(service, place);
        const server = standingOf(number);
        walk.place = u32(place + 1);
        if (!isOverloaded(server) && server.weight >= walk.bar) {
          walk.chosen = number;
          return 1;
        }
        return walk.place === walk.stop ? 1 : 0;
      }
      walk.place = 0;
      if (walk.bar <= state.divisor) {
        walk.bar = state.maximum;
        // Everyone has been asked for any weight at all: in a last pass, or because the walk began at the head.
        if (walk.lastPass === 1 || walk.began === 0) return 1;
        walk.restarted = 1;
      } else {
        walk.bar = u32(walk.bar - state.divisor);
      }
      walk.lastPass = walk.bar <= state.divisor ? 1 : 0;
      if (walk.lastPass === 1 && walk.restarted === 1) walk.stop = walk.began;
      return 0;
    });
    state.current = walk.bar;
    if (walk.chosen !== NONE) state.cursor = walk.place;
    return walk.chosen;
  },
  prepare(members, before) {
    const divisor = members.reduce((d, { weight }) => gcd(d, weight), 0) || 1;
    const maximum = Math.max(0, maximumWeight(members) - (divisor - 1));
    const { current } = before;
    if (current > maximum || current === 0) return { cursor: 0, current: maximum, maximum, divisor };
    const aligned = divisor > 1 ? Math.floor(current / divisor) * divisor + 1 : current;
    return { cursor: 0, current: aligned, maximum, divisor };
  },
};

const maximumWeight = (members: readonly PreparedMember[]): number =>
  members.reduce((greatest, { weight }) => Math.max(greatest, weight), 0);

const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b));
