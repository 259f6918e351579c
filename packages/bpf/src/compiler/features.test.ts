/** What only the kernel can tell: that timers fire, that long loops run, and that it takes every helper as the table calls it. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, expect, test } from 'vitest';
import { type Collection, loadCollection } from '../kernel/index.ts';
import { HELPERS } from '../language/index.ts';
import { describeKernel } from '../testing/kernel.ts';
import { compile, formatDiagnostic } from './index.ts';

const FILE = '/features.ts';

const SOURCE = `
import * as bpf from '@ipvsd/bpf';
import { array, arrayMap, hashMap, htons, i32, loop, queue, ringBuffer, single, type Skb, stack, struct, syscallProgram, tcProgram, timer, u16, u32, u64, u8, type ViewOf } from '@ipvsd/bpf';

const Timed = struct('timed', { timer, fired: u32, key: u32 });
export const timed = hashMap('timed', u32, Timed, { maxEntries: 4 });
function onTimer(_map: unknown, key: u32, value: ViewOf<typeof Timed>): number {
  value.fired = u32(value.fired + 1);
  value.key = key;
  if (value.fired < 3) bpf.timerStart(value.timer, 1_000_000n, 0);
  return 0;
}
const Arm = struct('arm', { key: u32 });
export const arm = syscallProgram('arm', Arm, (order) => {
  timed.update(order.key, stack(Timed), 0);
  const value = timed.lookup(order.key);
  if (value === null) return -1;
  if (bpf.timerInit(value.timer, timed, bpf.CLOCK_MONOTONIC) !== 0) return -2;
  if (bpf.timerSetCallback(value.timer, onTimer) !== 0) return -3;
  return bpf.timerStart(value.timer, 1_000_000n, 0);
});
export const disarm = syscallProgram('disarm', Arm, (order) => {
  const value = timed.lookup(order.key);
  return value === null ? -1 : bpf.timerCancel(value.timer);
});

const Sum = struct('sum', { count: u32, reserved: u32, total: u64, pairs: u32, last: u32 });
export const sum = syscallProgram('sum', Sum, (s) => {
  let total: u64 = 0n;
  let pairs: u32 = 0;
  loop(s.count, (i) => {
    total = u64(total + u64(i));
    loop(3, (j) => {
      pairs = u32(pairs + (i & j));
      return j === 1 ? 1 : 0;
    });
    s.last = i;
    return i >= 99_999 ? 1 : 0;
  });
  s.total = total;
  s.pairs = pairs;
  return 0;
});

const Item = struct('item', { a: u32, b: u16, list: array(u8, 6) });
export const waiting = queue('waiting', Item, { maxEntries: 4 });
const records = ringBuffer('records', { maxEntries: 4096 });
const Nested = struct('nested', { before: u32, item: Item, found: u32, wrote: i32 });
export const pass = syscallProgram('pass', Nested, (order) => {
  order.item.list.set(2, 7);
  if (waiting.push(order.item, 0) !== 0) return -1;
  if (records.output(order, 0) !== 0) return -2;
  const taken = stack(Item);
  if (waiting.pop(taken) !== 0) return -3;
  order.found = u32(taken.a + taken.list.get(2));
  order.wrote = waiting.pop(taken);
  return 0;
});

const next = bpf.programTable('next', { maxEntries: 4 });
export const further = next.set(1, tcProgram('further', (skb) => i32(skb.len & 0xff) + 1));
const four = stack_(4);
function stack_(n: number) { return struct('four' + n, { words: array(u32, n) }); }
export const helpers = tcProgram('helpers', (skb) => {
  const bytes = stack(four);

  skb.mark = u32(bpf.ktimeNs() ^ bpf.ktimeCoarseNs());
  skb.priority = u32(bpf.randomU32() + bpf.cpuId() + bpf.hashRecalculate(skb));
  if (skb.len === 2000) return bpf.tailCall(skb, next, 1);
  if (skb.len > 5000) {
    if (bpf.storeBytes(skb, 30, bytes, 0) < 0) return 2;
    if (bpf.loadBytes(skb, 30, bytes) < 0) return 2;
    if (bpf.pullData(skb, 100) < 0) return 2;
    if (bpf.l3CsumReplace(skb, 24, 1, 2, 2) < 0) return 2;
    if (bpf.l4CsumReplace(skb, 36, htons(1), htons(2), 2 | bpf.BPF_F_PSEUDO_HDR) < 0) return 2;
    if (bpf.l4CsumReplace(skb, 36, 0, bpf.csumDiff(bytes, null, bpf.csumDiff(null, bytes, 0)), bpf.BPF_F_PSEUDO_HDR) < 0) return 2;
    if (bpf.adjustRoom(skb, 20, bpf.BPF_ADJ_ROOM_MAC, bpf.BPF_F_ADJ_ROOM_ENCAP_L3_IPV4) < 0) return 2;
    if (bpf.adjustRoom(skb, -20, bpf.BPF_ADJ_ROOM_MAC, 0) < 0) return 2;
    if (bpf.changeTail(skb, 200, 0) < 0) return 2;
    if (bpf.changeProtocol(skb, htons(0x86dd), 0) < 0) return 2;
    if (bpf.cloneRedirect(skb, 1, 0) < 0) return 2;
    const route = stack(bpf.FibLookup, { family: 2, ifindex: skb.ifindex });
    if (bpf.fibLookup(skb, route, bpf.BPF_FIB_LOOKUP_OUTPUT) === 0) {
      const next = stack(bpf.RedirectNeighbour, { family: 2 });
      next.address.set(0, route.destination.get(0));
      return skb.mark === 1 ? bpf.redirectNeigh(route.ifindex, next, 0) : bpf.redirectNeigh(route.ifindex, null, 0);
    }
    return skb.mark === 2 ? bpf.redirect(1, bpf.BPF_F_INGRESS) : bpf.redirectPeer(1, 0);
  }
  return 0;
});
`;

/** Twenty calls of a function with ten branches. */
const manyCalls = (tag: string): string => `
import { i32, tcProgram, u32 } from '@ipvsd/bpf';
const BITS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
const CALLS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20];
/** ${tag} */
function highest(n: u32): u32 {
  let found: u32 = 0;
  for (const bit of BITS) if ((n & (1 << bit)) !== 0) found = 1 << bit;
  return found;
}
export const calls = tcProgram('calls', (skb) => {
  let found: u32 = 0;
  for (const call of CALLS) found = u32(found | highest(u32(skb.len + (call >>> 5))));
  return i32(found & 0xff);
});
`;

const view = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
const words = (...numbers: number[]): Uint8Array => new Uint8Array(Uint32Array.from(numbers).buffer);

describeKernel('in the kernel', () => {
  const { spec, diagnostics } = compile(FILE, { files: { [FILE]: SOURCE } });
  if (spec === undefined) throw new Error(diagnostics.map((d) => formatDiagnostic(d)).join('\n'));
  const collection: Collection = loadCollection(spec);
  afterAll(() => collection.close());
  const run = (name: string, context: Uint8Array) => collection.program(name).testRun({ context });

  test('a timer fires, again and again, with its key and value', async () => {
    expect(run('arm', words(7)).retval).toBe(0);
    await sleep(100);
    const value = view(collection.map('timed').lookup(words(7))!);
    expect([value.getUint32(16, true), value.getUint32(20, true)]).toEqual([3, 7]);
    expect(run('disarm', words(7)).retval).toBe(0);
  });

  test('a loop of 100,000 rounds ends where its body says, and gives its variables back', () => {
    const { context } = run('sum', words(1_000_000, 0, 0, 0, 0, 0));
    const result = view(context);
    expect(result.getBigUint64(8, true)).toBe((99_999n * 100_000n) / 2n);
    // Only odd rounds have a bit in common with j = 1.
    expect([result.getUint32(16, true), result.getUint32(20, true)]).toEqual([50_000, 99_999]);
  });

  test('parts of a context go through maps', () => {
    const order = new Uint8Array(24);
    view(order).setUint32(4, 40, true);
    const { retval, context } = run('pass', order);
    expect(retval).toBe(0);
    expect([view(context).getUint32(16, true), view(context).getInt32(20, true)]).toEqual([47, -2]);
  });

  test('a subprogram that is verified alone is looked at once, however often it is called', () => {
    const walked = ['@subprog', '@subprog alone'].map((tag) => {
      const { spec: one } = compile(FILE, { files: { [FILE]: manyCalls(tag) } });
      const loaded = loadCollection(one!);
      try {
        const program = loaded.program('calls');
        expect(program.testRun({ data: new Uint8Array(64) }).retval).toBe(64);
        return program.info().verifiedInstructions;
      } finally {
        loaded.close();
      }
    });
    expect(walked[1]).toBeLessThan(walked[0]! / 4);
  });

  test('every helper of the table is called above, and the verifier took it', () => {
    const missing = Object.keys(HELPERS).filter((name) => !SOURCE.includes(`bpf.${name}(`));
    expect(missing).toEqual([]);
    expect(collection.program('helpers').testRun({ data: new Uint8Array(100) }).retval).toBe(0);
    expect(collection.program('helpers').testRun({ data: new Uint8Array(2000) }).retval).toBe((2000 & 0xff) + 1);
  });
});
