/**
 * Maglev hashing: a client always goes to the same real server, and when one comes or goes few others change theirs.
 *
 * Each real server has a permutation of the slots of its own; in turn, and as often a turn as its weight says, each takes the
 * first slot of its permutation that is free ("Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016).
 */
import { loop, ntohs, u32 } from '@ipvsd/bpf';
import { SERVICE_SCHED1, SERVICE_SCHED2 } from '../service/service.ts';
import { sipHash } from './hash.ts';
import { EMPTY, foldAddress, NONE, type PreparedMember, type Scheduler } from './scheduler.ts';
import { serverInSlot, takesConnections } from './table.ts';

/** A prime, the kernel's default. */
export const SLOTS = 4093;
/** Weights are cut to this many bits, or a heavy real server's turns would fill the table before others had theirs. */
const TURN_BITS = 6;
const FIRST_KEY = 2_654_435_761n;
const SECOND_KEY = 2_654_446_892n;
const FALLBACK = SERVICE_SCHED1;
const WITH_PORT = SERVICE_SCHED2;

export const mh: Scheduler = {
  name: 'mh',
  number: 13,
  schedule(service, _state, asking) {
    const flags = service.flags;
    const port: u32 = (flags & WITH_PORT) !== 0 ? ntohs(asking.clientPort) : 0;
    const client: u32 = u32(foldAddress(asking.client) + port);
    const slot: u32 = sipHash(client, FIRST_KEY) % SLOTS;
    const first = serverInSlot(service, slot);
    if (takesConnections(service, first)) return first;
    let chosen: u32 = NONE;
    if ((flags & FALLBACK) === 0) return chosen;
    loop(SLOTS, (i) => {
      const offset = u32(slot + i) % SLOTS;
      const number = serverInSlot(service, sipHash(u32(client + offset), FIRST_KEY) % SLOTS);
      if (!takesConnections(service, number)) return 0;
      chosen = number;
      return 1;
    });
    return chosen;
  },
  prepare: () => EMPTY,
  /** By the last weights that were not 0: a quiesced real server keeps its slots, and so do all others. */
  table(members) {
    const turns = turnsOf(members);
    const table = new Array<number>(SLOTS).fill(NONE);
    const permutations = members.map(({ address, port }) => ({
      next: sipHash(u32(address + port), FIRST_KEY) % SLOTS,
      skip: (sipHash(u32(address + port), SECOND_KEY) % (SLOTS - 1)) + 1,
    }));
    let free = turns.some((count) => count > 0) ? SLOTS : 0;
    while (free > 0) {
      for (const [i, { server }] of members.entries()) {
        const permutation = permutations[i]!;
        for (let turn = 0; turn < turns[i]! && free > 0; turn++, free--) {
          while (table[permutation.next] !== NONE) permutation.next = (permutation.next + permutation.skip) % SLOTS;
          table[permutation.next] = server;
        }
      }
    }
    return table;
  },
};

/** Slots that each real server takes in a turn. */
function turnsOf(members: readonly PreparedMember[]): number[] {
  const weights = members.map(({ lastWeight }) => lastWeight);
  const divisor = weights.reduce(gcd, 0) || 1;
  const bits = 32 - Math.clz32(Math.max(0, ...weights) / divisor);
  const shift = Math.max(0, bits - TURN_BITS);
  return weights.map((weight) => (weight === 0 ? 0 : (weight / divisor) >> shift || 1));
}

const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b));
