/**
 * Under FULLNAT many clients come to a real server as one. Each has a clock of its own for TCP timestamps (RFC 7323), and a real
 * server that takes them for one drops the segments of those whose clock is behind. So the option is blotted out of a client's
 * first segment: a connection uses timestamps only where both sides ask for them.
 */
import {
  array,
  csumDiff,
  l4CsumReplace,
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
import { MAX_OFFSET, Tcp } from '../packet/headers.ts';

const TCP_HEADER = 20;
const TCP_CHECKSUM = 16;
const MOST_OPTIONS = 40;
const END = 0;
const NOTHING = 1;
const TIMESTAMPS = 8;
const LENGTH = 10;

const Option = struct('tcp_option', { kind: u8, length: u8 });
const Timestamps = struct('timestamps', { bytes: array(u8, LENGTH) });
/** The same, filled to whole words for the checksum. */
const Words = struct('timestamp_words', { bytes: array(u8, 12) });
/** Where the option was found, or 0. Not on the stack: each turn of the loop would be another case for the verifier. */
const Search = struct('option_search', { at: u32, found: u32 });
const searches = percpuArray('option_search', Search, { maxEntries: 1 });

/** @subprog */
export function clearTimestamps(skb: Skb, transport: u32): void {
  const from = transport & MAX_OFFSET;
  const tcp = skb.header(Tcp, from);
  const search = searches.at(0);
  if (tcp === null || search === null) return;
  const end = from + (tcp.dataOffset >>> 4) * 4;
  search.at = from + TCP_HEADER;
  search.found = 0;
  const option = stack(Option);
  loop(MOST_OPTIONS, () => {
    const at = search.at;
    if (at + 2 > end || loadBytes(skb, at & 0xffff, option) !== 0) return 1;
    if (option.kind === END) return 1;
    if (option.kind === NOTHING) {
      search.at = u32(at + 1);
      return 0;
    }
    if (option.length < 2 || at + option.length > end) return 1;
    if (option.kind === TIMESTAMPS && option.length === LENGTH) {
      search.found = at;
      return 1;
    }
    search.at = u32(at + option.length);
    return 0;
  });
  if (search.found !== 0) blot(skb, from, search.found);
}

function blot(skb: Skb, transport: u32, at: u32): void {
  const before = stack(Timestamps);
  const after = stack(Timestamps);
  if (loadBytes(skb, at & 0xffff, before) !== 0) return;
  const from = stack(Words);
  const to = stack(Words);
  for (let i = 0; i < LENGTH; i++) {
    from.bytes.set(i, before.bytes.get(i));
    to.bytes.set(i, NOTHING);
    after.bytes.set(i, NOTHING);
  }
  const difference = u32(csumDiff(from, to, 0));
  if (storeBytes(skb, at & 0xffff, after, 0) !== 0) return;
  // Behind an odd number of bytes each is the other half of its word.
  const odd = ((at - transport) & 1) !== 0;
  const swapped = u32(((difference & 0x00ff_00ff) << 8) | ((difference >>> 8) & 0x00ff_00ff));
  l4CsumReplace(skb, u32(transport + TCP_CHECKSUM), 0, odd ? swapped : difference, 0);
}
