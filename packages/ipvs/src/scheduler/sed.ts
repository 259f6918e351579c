/**
 * Shortest expected delay: the least (active + 1) / weight, that is the wait if the connection went there. Inactive
 * connections do not count, so UDP sees all as equally idle.
 */
import { delayOf, EMPTY, lightest, type Scheduler } from './scheduler.ts';

export const sed: Scheduler = {
  name: 'sed',
  number: 9,
  schedule: (service) => lightest(service, delayOf),
  prepare: () => EMPTY,
};
