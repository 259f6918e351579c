/** An option more in the header of a TCP segment. */
import { l4CsumReplace, type Skb, u8, u32 } from '@ipvsd/bpf';
import type { Family } from '../family.ts';
import { lineLength, replaceText } from '../helper/writing.ts';
import { Tcp } from '../packet/headers.ts';

/** Offset of the checksum in the TCP header, and the longest header with options. */
const CHECKSUM = 16;
const LONGEST_HEADER = 60;

/**
 * The line that was written (helper/writing.ts), of whole words, goes directly behind the fixed header. False where there is no
 * room, and the segment is as it was. The packet moves.
 */
export function insertOption(skb: Skb, family: Family, transport: u32): boolean {
  const size = lineLength();
  const tcp = skb.header(Tcp, transport);
  if (tcp === null || (tcp.dataOffset >>> 4) * 4 + size > LONGEST_HEADER) return false;
  if (!replaceText(skb, family, transport, u32(transport + Tcp.size), 0)) return false;
  const grown = skb.header(Tcp, transport);
  if (grown === null) return false;
  const old = grown.dataOffset;
  grown.dataOffset = u8(old + size * 4);
  // In the lower byte of its word, as the machine has it.
  l4CsumReplace(skb, u32(transport + CHECKSUM), old, u32(old + size * 4), 2);
  return true;
}
