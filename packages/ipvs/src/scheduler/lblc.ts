/**
 * Locality-based least connection: a destination address stays with its real server until that one is busy while another is
 * idle; then, as for new ones, weighted least connection chooses.
 */
import { assign, stack, u32 } from '@ipvsd/bpf';
import { standingOf } from '../service/service.ts';
import { now as clock, settings } from '../settings.ts';
import { isBusy, isServing, LocalityKey, localities, remember } from './locality.ts';
import { EMPTY, NONE, type Scheduler } from './scheduler.ts';
import { wlc } from './wlc.ts';

export const lblc: Scheduler = {
  name: 'lblc',
  number: 5,
  schedule(service, state, asking) {
    const now = clock();
    const key = stack(LocalityKey, { era: service.era });
    assign(key.destination, asking.virtual);
    const known = localities.lookup(key);
    if (known !== null && u32(now - known.lastUse) < settings.only.localityExpiration) {
      known.lastUse = now;
      const number = known.servers.get(0);
      const fit = isServing(service, number) && standingOf(number).weight > 0;
      // The threshold is not asked: what the cache holds is worth more than the limit (so does the kernel).
      if (fit && !isBusy(service, number)) return number;
    }
    const chosen = wlc.schedule(service, state, asking);
    if (chosen === NONE) return NONE;
    if (known !== null) {
      known.lastUse = now;
      known.servers.set(0, chosen);
      return chosen;
    }
    remember(key, chosen, now);
    return chosen;
  },
  prepare: () => EMPTY,
};
