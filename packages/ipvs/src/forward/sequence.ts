/**
 * TCP sequence numbers of a direction whose bytes are not what their sender sent: a helper made a line longer or shorter, a
 * header was put before the first byte, or the numbers begin elsewhere.
 *
 * A record for each direction says where the last change lies (`from`, as the sender counts) and what is added before and behind
 * it. Acknowledgements and selective ones (RFC 2018) of the other direction are counted back. What went out before the change
 * before last is no more known, as nobody asks for it any more.
 */
import {
  ANY,
  be32,
  hashMap,
  htonl,
  l4CsumReplace,
  loadBytes,
  loop,
  ntohl,
  raw,
  type Skb,
  stack,
  storeBytes,
  struct,
  u32,
  type ViewOf,
} from '@ipvsd/bpf';
import { MAX_CONNECTIONS } from '../connection/connection.ts';
import { REPLY, REQUEST } from '../family.ts';
import { fold32, wordDifference } from '../packet/checksum.ts';
import { MAX_OFFSET, Tcp } from '../packet/headers.ts';
import { findOption, foundLength, mendChecksum, SELECTIVE } from '../packet/tcp-options.ts';

export const Adjustment = struct('adjustment', {
  /** The first byte behind the last change, as its sender counts. */
  from: u32,
  /** Added to the numbers before it, and to those from it on; negative ones as their two's complement. */
  before: u32,
  after: u32,
  /** What the connection's helper remembers. */
  memo: u32,
});
export type Adjustment = ViewOf<typeof Adjustment>;

/** Twice the connection's number, and the direction. */
const AdjustmentKey = struct('adjustment_key', { number: u32 });
/** Two for each connection that may need them, of requests and of replies; memory is taken when they are. */
export const adjustments = hashMap('adjustments', AdjustmentKey, Adjustment, {
  maxEntries: 2 * MAX_CONNECTIONS,
  noPreallocation: true,
});

/** The record of that direction; null where there was no memory for it, and all numbers stay as they are. */
export const adjustmentOf = (connection: u32, direction: u32): Adjustment | null =>
  adjustments.lookup(stack(AdjustmentKey, { number: u32(2 * connection + direction) }));

/** Nothing is changed yet: for a new connection, before its flag ADJUSTED is set. */
export function beginUnchanged(connection: u32): void {
  beginAt(connection, REQUEST, 0);
  beginAt(connection, REPLY, 0);
}

/** All numbers of that direction are `difference` more than its sender says. */
export function beginAt(connection: u32, direction: u32, difference: u32): void {
  const key = stack(AdjustmentKey, { number: u32(2 * connection + direction) });
  const fresh = stack(Adjustment, { before: difference, after: difference });
  adjustments.update(key, fresh, ANY);
}

/**
 * The connection is gone.
 * @subprog
 */
export function endAdjustments(connection: u32): void {
  const key = stack(AdjustmentKey, { number: u32(2 * connection + REQUEST) });
  adjustments.delete(key);
  key.number = u32(2 * connection + REPLY);
  adjustments.delete(key);
}

/** From `from` on there are `growth` bytes more (two's complement) than before. A change that is known is not made again. */
export function shift(a: Adjustment, from: u32, growth: u32): void {
  if (growth === 0) return;
  if (a.before !== a.after && !isBefore(a.from, from)) return;
  a.before = a.after;
  a.from = from;
  a.after = u32(a.after + growth);
}

/** What the receiver is to read where the sender wrote `sequence`. */
export const adjusted = (a: Adjustment, sequence: u32): u32 =>
  u32(sequence + (isBefore(sequence, a.from) ? a.before : a.after));

/** Half of the numbers that lie ahead; a change that lies further back is one of all numbers, as they come round again. */
const FAR = 0x4000_0000;

/** The sender is at `sequence`. */
function settle(a: Adjustment, sequence: u32): void {
  if (a.before === a.after || isBefore(sequence, a.from)) return;
  if (u32(sequence - a.from) >= FAR) a.before = a.after;
}

/** What the sender is to read where the receiver acknowledges `sequence`: never more than what the sender sent. */
export function undone(a: Adjustment, sequence: u32): u32 {
  const behind = u32(sequence - a.after);
  if (a.before === a.after || !isBefore(behind, a.from)) return behind;
  const ahead = u32(sequence - a.before);
  return isBefore(a.from, ahead) ? a.from : ahead;
}

const isBefore = (a: u32, b: u32): boolean => u32(a - b) >= 0x8000_0000;

/** Offset of the checksum in the TCP header. */
const CHECKSUM = 16;
const FLAG_ACK = 0x10;
/** No operation twice, then a timestamp: what nearly all segments bear, and the whole of their options. */
const TIMESTAMP = htonl(0x0101_080a);
const WITH_TIMESTAMP = 32;
const FirstOptions = struct('first_options', { word: be32 });

/**
 * Sequence, acknowledgement and selective acknowledgements of the packet, which goes in `direction`, and the checksum over them.
 * The packet moves.
 * @subprog alone
 */
export function mendSequences(skb: Skb, transport: u32, connection: u32, direction: u32): void {
  const at = transport & MAX_OFFSET;
  const tcp = skb.header(Tcp, at);
  const own = adjustmentOf(connection, direction & 1);
  const other = adjustmentOf(connection, REPLY - (direction & 1));
  if (tcp === null || own === null || other === null) return;
  const oldSequence = tcp.sequence;
  const oldAcknowledgement = tcp.acknowledgement;
  const acknowledges = (tcp.flags & FLAG_ACK) !== 0;
  settle(own, ntohl(oldSequence));
  const sequence = htonl(adjusted(own, ntohl(oldSequence)));
  const acknowledgement = acknowledges ? htonl(undone(other, ntohl(oldAcknowledgement))) : oldAcknowledgement;
  const length = (tcp.dataOffset >>> 4) * 4;
  const first = skb.header(FirstOptions, at + Tcp.size);
  const usual = length < WITH_TIMESTAMP || (length === WITH_TIMESTAMP && first !== null && first.word === TIMESTAMP);
  if (sequence !== oldSequence || acknowledgement !== oldAcknowledgement) {
    tcp.sequence = sequence;
    tcp.acknowledgement = acknowledgement;
    const difference = fold32(
      wordDifference(raw(oldSequence), raw(sequence)) + wordDifference(raw(oldAcknowledgement), raw(acknowledgement)),
    );
    l4CsumReplace(skb, at + CHECKSUM, 0, difference, 0);
  }
  if (usual || !acknowledges || (other.before === 0 && other.after === 0)) return;
  mendSelective(skb, at, u32(2 * connection + REPLY - (direction & 1)));
}

/** All that fits into the 40 bytes of options. */
const MOST_EDGES = 8;

/** Edges of blocks that the packet's sender has received of what `adjustment` tells of. */
function mendSelective(skb: Skb, transport: u32, adjustment: u32): void {
  const found = findOption(skb, transport, SELECTIVE);
  if (found === 0) return;
  const end = u32(found + foundLength());
  const edge = stack(FirstOptions);
  loop(MOST_EDGES, (i) => {
    const a = adjustments.lookup(stack(AdjustmentKey, { number: adjustment }));
    const at = u32(found + 2 + 4 * i) & MAX_OFFSET;
    if (a === null || u32(at + 4) > end || loadBytes(skb, at, edge) !== 0) return 1;
    const old = edge.word;
    const next = htonl(undone(a, ntohl(old)));
    if (next === old) return 0;
    edge.word = next;
    storeBytes(skb, at, edge, 0);
    mendChecksum(skb, transport, at, fold32(wordDifference(raw(old), raw(next))));
    return 0;
  });
}
