/**
 * The power of two random choices: two real servers are drawn by weight, the less loaded one for its weight is taken. As
 * good as asking all where news of the load is old.
 */
import { percpuArray, struct, u32, u64 } from '@ipvsd/bpf';
import { draw } from '../settings.ts';
import { EMPTY, eachServer, isLighter, NONE, overhead, type Scheduler } from './scheduler.ts';

/** 0 to `most`, each as likely. */
const upTo = (most: u32, nth: number): u32 => u32((u64(draw(nth)) * (u64(most) + 1n)) >> 32n);

/** Both draws: what is left of each after the weights so far, and whom it fell on. In a map, as those of `wrr` are. */
const Draws = struct('twos_draws', {
  total: u32,
  one: u32,
  other: u32,
  first: u32,
  firstLoad: u32,
  firstWeight: u32,
  second: u32,
  secondLoad: u32,
  secondWeight: u32,
});
const draws = percpuArray('twos_draws', Draws, { maxEntries: 1 });

export const twos: Scheduler = {
  name: 'twos',
  number: 14,
  schedule(service) {
    const drawn = draws.at(0);
    if (drawn === null) return NONE;
    drawn.total = 0;
    eachServer(service, (server) => {
      drawn.total = u32(drawn.total + server.weight);
      return 0;
    });
    drawn.one = upTo(drawn.total, 0);
    drawn.other = upTo(drawn.total, 1);
    drawn.first = NONE;
    drawn.second = NONE;
    drawn.firstLoad = 0;
    drawn.firstWeight = 0;
    drawn.secondLoad = 0;
    drawn.secondWeight = 0;
    eachServer(service, (server, number) => {
      const weight: u32 = server.weight;
      const load: u32 = u32(overhead(server));
      if (drawn.first === NONE && drawn.one <= weight) {
        drawn.first = number;
        drawn.firstLoad = load;
        drawn.firstWeight = weight;
      }
      if (drawn.second === NONE && drawn.other <= weight) {
        drawn.second = number;
        drawn.secondLoad = load;
        drawn.secondWeight = weight;
      }
      drawn.one = u32(drawn.one - weight);
      drawn.other = u32(drawn.other - weight);
      return drawn.first !== NONE && drawn.second !== NONE ? 1 : 0;
    });
    const lighter = isLighter(drawn.secondLoad, drawn.secondWeight, drawn.firstLoad, drawn.firstWeight);
    return lighter ? drawn.second : drawn.first;
  },
  prepare: () => EMPTY,
};
