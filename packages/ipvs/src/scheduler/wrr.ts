/**
 * Weighted round robin: in each pass over the list the real servers whose weight reaches a bar take one turn, and the bar
 * goes down from the greatest weight by the weights' greatest common divisor.
 *
 * `cursor` is the place after the one chosen last (0: the head), `current` the bar, `maximum` where it starts anew,
 * `divisor` its step. With weights 4, 3 and 2 the turns are A A B A B C A B C.
 */
import { loop, u32 } from '@ipvsd/bpf';
import { isOverloaded, memberAt, memberNumber, NONE, type PreparedMember, type Scheduler } from './scheduler.ts';

/** More steps than any list and its weights can ask for (and what bpf_loop allows). */
const MAX_STEPS = 1 << 23;

export const wrr: Scheduler = {
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
