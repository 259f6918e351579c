/**
 * Round robin: the real servers in turn; a weight counts only as zero or not.
 *
 * `cursor` is the place after the one chosen last, so 0 means "from the head" and a turn begins where the last one ended.
 */
import { loop, u32 } from '@ipvsd/bpf';
import { standingOf } from '../service/service.ts';
import { isEligible, memberNumber, NONE, type Scheduler } from './scheduler.ts';

export const rr: Scheduler = {
  name: 'rr',
  number: 1,
  schedule(service, state) {
    const start: u32 = state.cursor;
    const count: u32 = service.count;
    let chosen: u32 = NONE;
    loop(count, (i) => {
      const ahead = start + i;
      const place = u32(ahead >= count ? ahead - count : ahead);
      const number = memberNumber(service, place);
      if (!isEligible(standingOf(number))) return 0;
      chosen = number;
      state.cursor = u32(place + 1);
      return 1;
    });
    return chosen;
  },
  prepare(members, before, change) {
    if (change.kind === 'edit' || before.cursor === 0) return before;
    // The pointer stays at the real server chosen last, or moves to its predecessor when that one has gone.
    for (let place = before.cursor - 1; place >= 0; place--) {
      const now = members.findIndex(({ server }) => server === change.before[place]);
      if (now >= 0) return { ...before, cursor: now + 1 };
    }
    return { ...before, cursor: 0 };
  },
};
