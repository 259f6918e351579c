/**
 * Frames that are put away for a while. A frame lies in chunks, as helpers copy pieces of a fixed size only.
 */
import {
  type ArrayMap,
  array,
  loadBytes,
  loop,
  percpuArray,
  type Skb,
  stack,
  storeBytes,
  struct,
  u8,
  u32,
} from '@ipvsd/bpf';

const CHUNK = 64;
export const CHUNKS = 26;
/** Bytes of the longest frame that can be put away: Ethernet's, and an outer header. */
export const LONGEST = CHUNK * (CHUNKS - 1);

export const Chunk = struct('frame_chunk', { bytes: array(u8, CHUNK) });
/** Where the packet at hand lies while another has its buffer. */
const aside = percpuArray('frame_aside', Chunk, { maxEntries: CHUNKS });

export const putAside = (skb: Skb, length: u32): boolean => save(skb, aside, 0, length);
/** The first `length` bytes of the packet become what was put aside; it must be that long already. */
export const takeBack = (skb: Skb, length: u32): boolean => fetch(skb, aside, 0, length);

type Chunks = ArrayMap<(typeof Chunk)['fields']>;
const One = struct('frame_byte', { byte: u8 });

/** What a loop says of itself: numbers that change in one would make the verifier follow each round by itself. */
const Copying = struct('frame_copying', { failed: u32 });
const copying = percpuArray('frame_copying', Copying, { maxEntries: 1 });

/** The first `length` bytes of the packet, into chunks from `first` on. */
export function save(skb: Skb, into: Chunks, first: u32, length: u32): boolean {
  const whole = (length & 0xfff) >>> 6;
  const state = copying.at(0);
  const last = into.at(first + whole);
  const one = stack(One);
  if (state === null || last === null || length > LONGEST) return false;
  state.failed = 0;
  loop(whole, (i) => {
    const chunk = into.at(first + i);
    if (chunk !== null && loadBytes(skb, u32(i * CHUNK) & 0xfff, chunk) === 0) return 0;
    state.failed = 1;
    return 1;
  });
  loop(length & (CHUNK - 1), (i) => {
    if (loadBytes(skb, u32(whole * CHUNK + i) & 0xfff, one) !== 0) state.failed = 1;
    last.bytes.set(i & (CHUNK - 1), one.byte);
    return 0;
  });
  return state.failed === 0;
}

/** The first `length` bytes of the packet become what lies there. */
export function fetch(skb: Skb, from: Chunks, first: u32, length: u32): boolean {
  const whole = (length & 0xfff) >>> 6;
  const state = copying.at(0);
  const last = from.at(first + whole);
  const one = stack(One);
  if (state === null || last === null || length > LONGEST) return false;
  state.failed = 0;
  loop(whole, (i) => {
    const chunk = from.at(first + i);
    if (chunk !== null && storeBytes(skb, u32(i * CHUNK) & 0xfff, chunk, 0) === 0) return 0;
    state.failed = 1;
    return 1;
  });
  loop(length & (CHUNK - 1), (i) => {
    one.byte = last.bytes.get(i & (CHUNK - 1));
    if (storeBytes(skb, u32(whole * CHUNK + i) & 0xfff, one, 0) !== 0) state.failed = 1;
    return 0;
  });
  return state.failed === 0;
}
