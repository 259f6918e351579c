/**
 * Source hashing: a client always goes to the same real server, by its address, with sh-port also by its port. Each real
 * server has as many buckets in a row as its weight says. Where that one takes no connections, sh-fallback asks the others.
 */
import { loop, ntohs, u32 } from '@ipvsd/bpf';
import { SERVICE_SCHED1, SERVICE_SCHED2 } from '../service/service.ts';
import { bucketOf } from './hash.ts';
import { EMPTY, foldAddress, NONE, type Scheduler } from './scheduler.ts';
import { serverInSlot, takesConnections } from './table.ts';

const BUCKETS = 256;
const FALLBACK = SERVICE_SCHED1;
const WITH_PORT = SERVICE_SCHED2;

export const sh: Scheduler = {
  name: 'sh',
  number: 8,
  schedule(service, _state, asking) {
    const flags = service.flags;
    const port: u32 = (flags & WITH_PORT) !== 0 ? ntohs(asking.clientPort) : 0;
    const bucket: u32 = bucketOf(u32(foldAddress(asking.client) + port));
    const first = serverInSlot(service, bucket);
    if (takesConnections(service, first)) return first;
    let chosen: u32 = NONE;
    if ((flags & FALLBACK) === 0) return chosen;
    loop(BUCKETS, (i) => {
      // The search begins at twice the hash: the kernel adds the bucket to an offset that starts there.
      const number = serverInSlot(service, u32(bucket + bucket + i) & (BUCKETS - 1));
      if (!takesConnections(service, number)) return 0;
      chosen = number;
      return 1;
    });
    return chosen;
  },
  prepare: () => EMPTY,
  /** A quiesced real server keeps one bucket. */
  table(members) {
    const table: number[] = [];
    for (let turn = 0; table.length < BUCKETS; turn++) {
      const member = members[turn % Math.max(1, members.length)];
      const buckets = Math.min(Math.max(1, member?.weight ?? 0), BUCKETS - table.length);
      for (let i = 0; i < buckets; i++) table.push(member?.server ?? NONE);
    }
    return table;
  },
};
