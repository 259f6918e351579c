/**
 * Fragments that have overtaken others wait here. When the one before has come, the next comes in once more, through the same
 * interface and right behind it; so one at a time, each brings its successor.
 *
 * A table of limited size: who comes last takes the place of who has waited for longest.
 */
import {
  ANY,
  arrayMap,
  atomicFetchAdd,
  BPF_F_INGRESS,
  changeTail,
  cloneRedirect,
  lruHashMap,
  type Skb,
  single,
  stack,
  struct,
  u32,
} from '@ipvsd/bpf';
import { because, REASONS } from './counters.ts';
import { FRAGMENT_AGE, FragmentKey } from './fragment-key.ts';
import { CHUNKS, Chunk, fetch, LONGEST, putAside, save, takeBack } from './frame-store.ts';

/** Frames that may wait. A power of two. */
const PLACES = 256;
const Waiting = struct('waiting', { number: u32, length: u32, at: u32 });
export const waiting = lruHashMap('waiting', FragmentKey, Waiting, { maxEntries: PLACES });

/** Who has a place: the number it was given. */
const Place = struct('waiting_place', { number: u32 });
const places = arrayMap('waiting_places', Place, { maxEntries: PLACES });
const Turn = struct('waiting_turn', { next: u32 });
const turn = single('waiting_turn', Turn);

const chunks = arrayMap('waiting_chunks', Chunk, { maxEntries: PLACES * CHUNKS });

/** Keep the packet until the one before it has come; the key's offset is its own. */
export function waitFor(skb: Skb, key: FragmentKey, now: u32): number {
  const length = skb.len;
  if (length > LONGEST) return because(REASONS.fragment);
  const number = atomicFetchAdd(turn.only, 'next', 1);
  const at = number & (PLACES - 1);
  const place = places.at(at);
  if (place === null) return because(REASONS.corrupt);
  place.number = number;
  if (!save(skb, chunks, at * CHUNKS, length)) return because(REASONS.fragment);
  waiting.update(key, stack(Waiting, { number, length, at: now }), ANY);
  return because(REASONS.fragmentWaits);
}

/** Whether one waits for the place in the packet that the key names. */
export const isAwaited = (key: FragmentKey): boolean => waiting.lookup(key) !== null;

/** Bytes of the frame that waits there; 0 where none does. */
export function lengthOfWaiting(key: FragmentKey): u32 {
  const entry = waiting.lookup(key);
  return entry === null ? 0 : entry.length;
}

/**
 * The first bytes of the packet become the frame of `length` bytes that waits there, and it waits no more. False where it is lost.
 * @subprog
 */
export function takeWaiting(skb: Skb, key: FragmentKey, length: u32, now: u32): boolean {
  const entry = waiting.lookup(key);
  if (entry === null) return false;
  const number = entry.number;
  const fits = entry.length === length && u32(now - entry.at) < FRAGMENT_AGE;
  waiting.delete(key);
  const at = number & (PLACES - 1);
  const place = places.at(at);
  if (place === null || place.number !== number || !fits || length > LONGEST) return false;
  return fetch(skb, chunks, at * CHUNKS, length);
}

/** Let the one that waits there come in once more. The packet at hand stays as it is, but has moved; false where it is lost. */
export function release(skb: Skb, key: FragmentKey, now: u32): boolean {
  const length = lengthOfWaiting(key);
  const own = skb.len;
  if (length === 0 || own > LONGEST) return true;
  if (!putAside(skb, own) || changeTail(skb, length, 0) !== 0) return false;
  if (takeWaiting(skb, key, length, now)) cloneRedirect(skb, skb.ifindex, BPF_F_INGRESS);
  return changeTail(skb, own, 0) === 0 && takeBack(skb, own);
}
