/**
 * The power of two random choices: two real servers are drawn by weight, the less loaded one for its weight is taken. As
 * good as asking all where news of the load is old.
 */
import { u32, u64 } from '@ipvsd/bpf';
import { draw } from '../settings.ts';
import { EMPTY, eachServer, isLighter, NONE, overhead, type Scheduler } from './scheduler.ts';

/** 0 to `most`, each as likely. */
const upTo = (most: u32, nth: number): u32 => u32((u64(draw(nth)) * (u64(most) + 1n)) >> 32n);

export const twos: Scheduler = {
  name: 'twos',
  number: 14,
  schedule(service) {
    let total: u32 = 0;
    eachServer(service, (server) => {
      total = u32(total + server.weight);
      return 0;
    });
    let one: u32 = upTo(total, 0);
    let other: u32 = upTo(total, 1);
    let first: u32 = NONE;
    let second: u32 = NONE;
    let firstLoad: u32 = 0;
    let firstWeight: u32 = 0;
    let secondLoad: u32 = 0;
    let secondWeight: u32 = 0;
    eachServer(service, (server, number) => {
      const weight: u32 = server.weight;
      const load: u32 = u32(overhead(server));
      // What is left of each draw is what the real servers so far have not used up.
      if (first === NONE && one <= weight) {
        first = number;
        firstLoad = load;
        firstWeight = weight;
      }
      if (second === NONE && other <= weight) {
        second = number;
        secondLoad = load;
        secondWeight = weight;
      }
      one = u32(one - weight);
      other = u32(other - weight);
      return first !== NONE && second !== NONE ? 1 : 0;
    });
    return isLighter(secondLoad, secondWeight, firstLoad, firstWeight) ? second : first;
  },
  prepare: () => EMPTY,
};
