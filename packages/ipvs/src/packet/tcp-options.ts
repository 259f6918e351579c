/** Options of a TCP header (RFC 9293 3.1): found, and what is changed in them taken into the checksum. */
import { l4CsumReplace, loadBytes, loop, percpuArray, type Skb, stack, storeBytes, struct, u8, u32 } from '@ipvsd/bpf';
import { fold32, wordDifference } from './checksum.ts';
import { MAX_OFFSET, Tcp } from './headers.ts';

export const TIMESTAMPS = 8;
/** Blocks that were received beyond a gap (RFC 2018). */
export const SELECTIVE = 5;

const END = 0;
const NO_OPERATION = 1;
const MOST_OPTIONS = 40;
/** Offset of the checksum in the TCP header. */
const CHECKSUM = 16;

const Option = struct('tcp_option', { kind: u8, length: u8 });
/** Where the option was found, or 0. Not on the stack: each turn of the loop would be another case for the verifier. */
const Search = struct('option_search', { at: u32, found: u32, length: u32 });
const searches = percpuArray('option_search', Search, { maxEntries: 1 });

/**
 * The offset of the first option of that kind in the header at `transport`, or 0; `foundLength()` is its length then.
 * @subprog alone
 */
export function findOption(skb: Skb, transport: u32, kind: u32): u32 {
  const from = transport & MAX_OFFSET;
  const tcp = skb.header(Tcp, from);
  const search = searches.at(0);
  if (tcp === null || search === null) return 0;
  const end = from + (tcp.dataOffset >>> 4) * 4;
  search.at = from + Tcp.size;
  search.found = 0;
  const option = stack(Option);
  loop(MOST_OPTIONS, () => {
    const at = search.at;
    if (at + 2 > end || loadBytes(skb, at & 0xffff, option) !== 0) return 1;
    if (option.kind === END) return 1;
    if (option.kind === NO_OPERATION) {
      search.at = u32(at + 1);
      return 0;
    }
    if (option.length < 2 || at + option.length > end) return 1;
    if (option.kind === kind) {
      search.found = at;
      search.length = option.length;
      return 1;
    }
    search.at = u32(at + option.length);
    return 0;
  });
  return search.found;
}

const Byte = struct('option_byte', { value: u8 });
/** As many as there can be of two bytes each. */
const MOST_FOUND = 20;

/**
 * All options of that kind become nothing, so that nobody behind reads them.
 * @subprog alone
 */
export function blotOptions(skb: Skb, transport: u32, kind: u32): void {
  const from = transport & MAX_OFFSET;
  loop(MOST_FOUND, () => {
    const at = findOption(skb, from, kind);
    if (at === 0) return 1;
    blot(skb, from, at, foundLength());
    return 0;
  });
}

/** @subprog alone */
function blot(skb: Skb, transport: u32, at: u32, length: u32): void {
  const byte = stack(Byte);
  loop(MOST_OPTIONS, (i) => {
    const place = u32(at + i) & 0xffff;
    if (i >= length || loadBytes(skb, place, byte) !== 0) return 1;
    const difference = u32(fold32(wordDifference(byte.value, NO_OPERATION)));
    byte.value = NO_OPERATION;
    if (storeBytes(skb, place, byte, 0) !== 0) return 1;
    mendChecksum(skb, transport, place, difference);
    return 0;
  });
}

/** Of what findOption has found last. */
export function foundLength(): u32 {
  const search = searches.at(0);
  return search === null ? 0 : search.length;
}

/** The sum of what lies at `at` has changed by `difference`. The packet moves. */
export function mendChecksum(skb: Skb, transport: u32, at: u32, difference: u32): void {
  // Behind an odd number of bytes each is the other half of its word.
  const odd = ((at - transport) & 1) !== 0;
  const swapped = u32(((difference & 0x00ff_00ff) << 8) | ((difference >>> 8) & 0x00ff_00ff));
  l4CsumReplace(skb, u32(transport + CHECKSUM), 0, odd ? swapped : difference, 0);
}
