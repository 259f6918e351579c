/**
 * Destination hashing, for caches: a destination address always goes to the same real server. Weights only say whether
 * that one may be used; a real server that may not leaves its destinations without any.
 */
import type { u32 } from '@ipvsd/bpf';
import { bucketOf } from './hash.ts';
import { EMPTY, foldAddress, NONE, type Scheduler } from './scheduler.ts';
import { serverInSlot, takesConnections } from './table.ts';

const BUCKETS = 256;

export const dh: Scheduler = {
  name: 'dh',
  number: 7,
  schedule(service, _state, asking): u32 {
    const number = serverInSlot(service, bucketOf(foldAddress(asking.virtual)));
    return takesConnections(service, number) ? number : NONE;
  },
  prepare: () => EMPTY,
  /** One bucket each in turn; editing a weight moves nothing. */
  table(members, change) {
    if (change.kind === 'edit') return undefined;
    return Array.from({ length: BUCKETS }, (_, bucket) => members[bucket % members.length]?.server ?? NONE);
  },
};
