/**
 * The largest segment that an end of a TCP connection takes, as it says in its SYN: made smaller where the way is narrower than
 * it can know, so that nothing has to be told later and nothing is fragmented.
 */
import {
  array,
  be16,
  htons,
  l4CsumReplace,
  loadBytes,
  loop,
  raw,
  type Skb,
  stack,
  storeBytes,
  struct,
  u8,
  u32,
} from '@ipvsd/bpf';
import { MAX_OFFSET, Tcp } from '../packet/headers.ts';

const OptionHead = struct('tcp_option', { kind: u8, length: u8 });
const Size = struct('tcp_mss', { bytes: array(u8, 2) });
const Word = struct('tcp_word', { value: be16 });

const END = 0;
const NOTHING = 1;
const SEGMENT_SIZE = 2;
const SYN = 2;
const TCP = 20;
const CHECKSUM = 16;
/** Options fill 40 bytes at most, one each at least. */
const MOST_OPTIONS = 40;

/**
 * Lowers what the SYN at `transport` says to `most`; false where it says nothing: its sender takes what RFC 9293 (3.7.1) says.
 * The packet may move.
 * @subprog alone
 */
export function clampSegmentSize(skb: Skb, transport: u32, most: u32): boolean {
  const start = transport & MAX_OFFSET;
  const tcp = skb.header(Tcp, start);
  if (tcp === null || (tcp.flags & SYN) === 0) return true;
  const end = start + (tcp.dataOffset >>> 4) * 4;
  const option = stack(OptionHead);
  let at: u32 = start + TCP;
  let found: u32 = 0;
  loop(MOST_OPTIONS, () => {
    const here = at & MAX_OFFSET;
    if (here + 2 > end) return 1;
    if (loadBytes(skb, here, option) !== 0) return 1;
    const { kind, length } = option;
    if (kind === END) return 1;
    if (kind === SEGMENT_SIZE && length === 4 && here + 4 <= end) {
      found = here + 2;
      return 1;
    }
    at = kind === NOTHING ? here + 1 : length < 2 ? end : here + length;
    return 0;
  });
  if (found === 0) return false;
  const where = found & MAX_OFFSET;
  const size = stack(Size);
  if (loadBytes(skb, where, size) !== 0) return true;
  const high = size.bytes.get(0);
  const low = size.bytes.get(1);
  if (high * 256 + low <= most) return true;
  const word = stack(Word, { value: htons(most & 0xffff) });
  if (storeBytes(skb, where, word, 0) !== 0) return true;
  // Behind an odd number of bytes its halves belong to two words of the sum, and the sum sees them the other way round.
  const odd = (where - start) & 1;
  const old: u32 = odd === 0 ? raw(htons(high * 256 + low)) : raw(htons(low * 256 + high));
  const next: u32 = odd === 0 ? raw(word.value) : raw(htons((most & 0xff) * 256 + ((most >>> 8) & 0xff)));
  l4CsumReplace(skb, u32(start + CHECKSUM), old, next, 2);
  return true;
}
