/** Never queue: the first idle real server however light, and only where all are busy the shortest expected delay. */
import { delayOf, EMPTY, lightest, type Scheduler } from './scheduler.ts';

const IDLE = 1;

export const nq: Scheduler = {
  name: 'nq',
  number: 10,
  schedule: (service) => lightest(service, delayOf, undefined, IDLE),
  prepare: () => EMPTY,
};
