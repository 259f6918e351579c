/**
 * The table of flows: which connection a packet's own addresses and ports lead to, and in which direction. A connection has two
 * entries, or one where no replies come through us.
 *
 * It is a hash table of our own in a plain array. The kernel's costs as much as all else that is done for an established packet: a
 * call that hashes, walks a list and compares, and 88 bytes an entry. Here a bucket is one cache line of eight words, and a word is
 * half of the hash (the *tag*) with a connection's number and the direction. The connection that a tag leads to is then asked
 * itself, so no packet is taken for another's. What finds no room in its bucket goes to a second one, or to one of the two behind
 * that. The hash begins with a key that nobody knows: nobody can choose addresses that meet in one bucket.
 *
 * There are no locks: a word is claimed, exchanged and given up by compare-and-exchange. Two CPUs that enter one tuple at once see
 * each other's word afterwards, and both give up: their packets are dropped, and come again.
 */
import {
  arrayMap,
  array as arrayOf,
  atomicAdd,
  atomicCompareExchange,
  type be16,
  raw,
  single,
  struct,
  u32,
  u64,
  type ViewOf,
} from '@ipvsd/bpf';
import { type Family, OF_TEMPLATE, REQUEST, sourceOf } from '../family.ts';
import type { Address6 } from '../packet/address.ts';
import { METHOD_FULLNAT, METHOD_MASQ } from '../service/service.ts';
import { settings } from '../settings.ts';
import { type Connection, connections, MAX_CONNECTIONS, METHOD_MASK, reservedFor, TEMPLATE } from './connection.ts';
import { localEnds } from './local-end.ts';

const PLACES = [0, 1, 2, 3, 4, 5, 6, 7];
const Slot = struct('flow_slot', { word: u64 });
const FlowBucket = struct('flow_bucket', { slots: arrayOf(Slot, PLACES.length) });
type FlowBucket = ViewOf<typeof FlowBucket>;

/**
 * Buckets for so many connections: when the table is full and each has two flows, two words of five are in use. Then one flow in
 * 500 is not in its first bucket, and one in ten million finds no room.
 */
export const bucketsFor = (connections: number): number => Math.ceil((connections * 5) / PLACES.length);
export const flowBuckets = arrayMap('flow_buckets', FlowBucket, {
  maxEntries: bucketsFor(MAX_CONNECTIONS + reservedFor(MAX_CONNECTIONS)),
});

/** How far from the second bucket a flow may lie. */
const STEPS = [0, 1, 2];
const Step = struct('flow_step', { flows: u32 });
/** How many flows lie there. Where there are none, nobody looks. */
const Beyond = struct('flows_beyond', { steps: arrayOf(Step, STEPS.length) });
export const flowsBeyond = single('flows_beyond', Beyond);

type Tuple = ViewOf<Family['Tuple']>;

/** What a tuple is found to lead to: twice the number of a connection, plus the direction. */
export const NO_FLOW = 0xffff_ffff;
export const flowOf = (connection: u32, direction: u32): u32 => u32(2 * connection + direction);
export const numberOf = (flow: u32): u32 => flow >>> 1;
export const directionOf = (flow: u32): u32 => flow & 1;

const EMPTY = 0n;
const LOW = 0xffff_ffffn;
const FACTOR = 0xbf58_476d_1ce4_e5b9n;
const LAST_FACTOR = 0x94d0_49bb_1331_11ebn;
const GOLDEN_RATIO = 0x9e37_79b1n;

/** 64 bits, of which the high half chooses the bucket and the low half is the tag. */
function hashOf(family: Family, tuple: Tuple): u64 {
  const ports = u64(raw(tuple.sourcePort)) + u64(raw(tuple.destinationPort)) * 0x1_0000n;
  const rest = ports + u64(tuple.protocol) * 0x1_0000_0000n + u64(tuple.kind) * 0x100_0000_0000n;
  const product = u64((family.stir(settings.only.flowKey, tuple) ^ rest) * FACTOR);
  return u64((product ^ (product >> 32n)) * LAST_FACTOR);
}

/** The tag in its place. The highest bit tells it from an empty word. */
const tagOf = (hash: u64): u64 => u64(hash << 32n) | 0x8000_0000_0000_0000n;
const bears = (word: u64, tag: u64): boolean => (word ^ tag) >> 32n === 0n;

/** A fraction of 2^32 of the buckets. */
const among = (fraction: u64): u32 => u32((fraction * u64(settings.only.flowBuckets)) >> 32n);
const firstBucket = (hash: u64): u32 => among(hash >> 32n);
/** The second, and those behind it. */
const bucketBeyond = (hash: u64, step: number): u32 =>
  u32((among(u64((hash & LOW) * GOLDEN_RATIO) & LOW) + step) % Math.max(settings.only.flowBuckets, 1));

/** The word in the bucket that bears the tag and is not `own`, or EMPTY. */
function wordIn(bucket: FlowBucket, tag: u64, own: u64): u64 {
  for (const place of PLACES) {
    const word = bucket.slots.at(place).word;
    if (bears(word, tag) && word !== own) return word;
  }
  return EMPTY;
}

/** @subprog alone */
function wordBeyond(hash: u64, own: u64): u64 {
  for (const step of STEPS) {
    if (flowsBeyond.only.steps.at(step).flows === 0) continue;
    const bucket = flowBuckets.at(bucketBeyond(hash, step));
    const word = bucket === null ? EMPTY : wordIn(bucket, tagOf(hash), own);
    if (word !== EMPTY) return word;
  }
  return EMPTY;
}

function wordOf(hash: u64, own: u64): u64 {
  const first = flowBuckets.at(firstBucket(hash));
  const word = first === null ? EMPTY : wordIn(first, tagOf(hash), own);
  return word === EMPTY ? wordBeyond(hash, own) : word;
}

/** @subprog alone */
function calledWordOf(hash: u64): u64 {
  return wordOf(hash, EMPTY);
}

/** The flow that the tuple leads to, or NO_FLOW. */
export const findFlow = (family: Family, tuple: Tuple): u32 => ifOf(family, tuple, calledWordOf(hashOf(family, tuple)));

/** The same without a call: for packets of connections that are established. */
export const findFlowFast = (family: Family, tuple: Tuple): u32 =>
  ifOf(family, tuple, wordOf(hashOf(family, tuple), EMPTY));

function ifOf(family: Family, tuple: Tuple, word: u64): u32 {
  if (word === EMPTY) return NO_FLOW;
  const flow = u32(word & LOW);
  const c = connections.at(numberOf(flow));
  return c !== null && isOf(family, tuple, c, directionOf(flow)) ? flow : NO_FLOW;
}

/** Whether that is what packets of the connection bear in this direction. */
function isOf(family: Family, tuple: Tuple, c: Connection, direction: u32): boolean {
  if (tuple.protocol !== c.protocol || c.family !== family.number) return false;
  if (direction === REQUEST) {
    const template = (c.flags & TEMPLATE) !== 0;
    if (template !== (tuple.kind === OF_TEMPLATE)) return false;
    return (
      (family.apart(tuple.source, c.client) |
        family.apart(tuple.destination, c.virtual) |
        (raw(tuple.sourcePort) ^ raw(sourceOf(c.protocol, c.clientPort))) |
        (raw(tuple.destinationPort) ^ raw(c.virtualPort))) ===
      0
    );
  }
  const method = c.flags & METHOD_MASK;
  if (method === METHOD_MASQ) {
    return isFrom(family, tuple, c.real, c.realPort) && isTo(family, tuple, c.client, c.clientPort);
  }
  if (method !== METHOD_FULLNAT) {
    return isFrom(family, tuple, c.virtual, c.virtualPort) && isTo(family, tuple, c.client, c.clientPort);
  }
  const end = localEnds.at(c.number);
  return end !== null && isFrom(family, tuple, c.real, c.realPort) && isTo(family, tuple, end.address, end.port);
}

const isFrom = (family: Family, { source, sourcePort, protocol }: Tuple, address: Address6, port: be16): boolean =>
  (family.apart(source, address) | (raw(sourcePort) ^ raw(sourceOf(protocol, port)))) === 0;
const isTo = (family: Family, { destination, destinationPort }: Tuple, address: Address6, port: be16): boolean =>
  (family.apart(destination, address) | (raw(destinationPort) ^ raw(port))) === 0;

/** The tuple leads to `flow` from now on. False where it leads somewhere already, or there is no room. */
export const enterFlow = (family: Family, tuple: Tuple, flow: u32): boolean => enter(hashOf(family, tuple), flow);

/** @subprog alone */
function enter(hash: u64, flow: u32): boolean {
  if (wordOf(hash, EMPTY) !== EMPTY) return false;
  const word = tagOf(hash) | u64(flow);
  if (!claim(hash, word)) return false;
  if (wordOf(hash, word) === EMPTY) return true;
  exchange(hash, word, EMPTY);
  return false;
}

/** The same, wherever it led before. False where there is no room. */
export const redirectFlow = (family: Family, tuple: Tuple, flow: u32): boolean => redirect(hashOf(family, tuple), flow);

/** @subprog alone */
function redirect(hash: u64, flow: u32): boolean {
  const word = tagOf(hash) | u64(flow);
  const old = wordOf(hash, EMPTY);
  return old === EMPTY ? claim(hash, word) : exchange(hash, old, word);
}

/** The tuple does not lead to `flow` any more; it may lead to another by now. */
export const leaveFlow = (family: Family, tuple: Tuple, flow: u32): void => leave(hashOf(family, tuple), flow);

/** @subprog alone */
function leave(hash: u64, flow: u32): void {
  exchange(hash, tagOf(hash) | u64(flow), EMPTY);
}

/** An empty slot takes the word. */
function claim(hash: u64, word: u64): boolean {
  const first = flowBuckets.at(firstBucket(hash));
  return (first !== null && claimIn(first, word)) || claimBeyond(hash, word);
}

/** @subprog alone */
function claimBeyond(hash: u64, word: u64): boolean {
  for (const step of STEPS) {
    const bucket = flowBuckets.at(bucketBeyond(hash, step));
    // Said before it is there, so that nobody misses it.
    atomicAdd(flowsBeyond.only.steps.at(step), 'flows', 1);
    if (bucket !== null && claimIn(bucket, word)) return true;
    atomicAdd(flowsBeyond.only.steps.at(step), 'flows', -1);
  }
  return false;
}

function claimIn(bucket: FlowBucket, word: u64): boolean {
  for (const place of PLACES) {
    const slot = bucket.slots.at(place);
    if (slot.word === EMPTY && atomicCompareExchange(slot, 'word', EMPTY, word) === EMPTY) return true;
  }
  return false;
}

/** The slot with the word `from` has `to` instead. */
function exchange(hash: u64, from: u64, to: u64): boolean {
  const first = flowBuckets.at(firstBucket(hash));
  return (first !== null && exchangeIn(first, from, to)) || exchangeBeyond(hash, from, to);
}

/** @subprog alone */
function exchangeBeyond(hash: u64, from: u64, to: u64): boolean {
  for (const step of STEPS) {
    if (flowsBeyond.only.steps.at(step).flows === 0) continue;
    const bucket = flowBuckets.at(bucketBeyond(hash, step));
    if (bucket === null || !exchangeIn(bucket, from, to)) continue;
    if (to === EMPTY) atomicAdd(flowsBeyond.only.steps.at(step), 'flows', -1);
    return true;
  }
  return false;
}

function exchangeIn(bucket: FlowBucket, from: u64, to: u64): boolean {
  for (const place of PLACES) {
    const slot = bucket.slots.at(place);
    if (slot.word === from) return atomicCompareExchange(slot, 'word', from, to) === from;
  }
  return false;
}
