/** Where the fragments of a packet go: written when its first is seen, read by those that have no ports. */
import { lruHashMap, struct, u32 } from '@ipvsd/bpf';
import { FragmentKey } from './fragment-key.ts';

export const FollowedFlow = struct('followed_flow', {
  connection: u32,
  direction: u32,
  at: u32,
  /** Where the next one begins, in units of eight bytes. */
  next: u32,
});

export const followed = lruHashMap('fragments', FragmentKey, FollowedFlow, { maxEntries: 4096 });

/** Its fragments are the host's: the first was of no connection. Beside REQUEST and REPLY. */
export const HOST = 2;
/**
 * From here on they are pieces that we made: for a real server, whose number is the entry's `connection`; for the client of that
 * connection; for whom a masqueraded host's connection of that number leads to.
 */
export const OUTWARDS = 3;
export const TOWARDS_CLIENT = 4;
export const TOWARDS_OUTSIDE = 5;
export const NOBODY = 0xffff_ffff;
