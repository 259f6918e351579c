/**
 * Under FULLNAT many clients come to a real server as one. Each has a clock of its own for TCP timestamps (RFC 7323), and a real
 * server that takes them for one drops the segments of those whose clock is behind. So the option is blotted out of a client's
 * first segment: a connection uses timestamps only where both sides ask for them.
 */
import { array, csumDiff, loadBytes, type Skb, stack, storeBytes, struct, u8, u32 } from '@ipvsd/bpf';
import { MAX_OFFSET } from '../packet/headers.ts';
import { findOption, foundLength, mendChecksum, TIMESTAMPS } from '../packet/tcp-options.ts';

const NOTHING = 1;
const LENGTH = 10;

const Timestamps = struct('timestamps', { bytes: array(u8, LENGTH) });
/** The same, filled to whole words for the checksum. */
const Words = struct('timestamp_words', { bytes: array(u8, 12) });

/** @subprog alone */
export function clearTimestamps(skb: Skb, transport: u32): void {
  const from = transport & MAX_OFFSET;
  const found = findOption(skb, from, TIMESTAMPS);
  if (found !== 0 && foundLength() === LENGTH) blot(skb, from, found);
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
  mendChecksum(skb, transport, at, difference);
}
