/** The table of flows against a plain Map, with few buckets, so that many flows find no room where they belong. */
import { bytesOf, rawBe16, rawBe32, stack, World } from '@ipvsd/bpf';
import { describe, expect, test } from 'vitest';
import { type Family, IPV4, IPV6, REPLY, REQUEST } from '../family.ts';
import { IPPROTO_TCP } from '../packet/headers.ts';
import { METHOD_MASQ } from '../service/service.ts';
import { Settings, settings } from '../settings.ts';
import { Connection, connections } from './connection.ts';
import { enterFlow, findFlow, flowBuckets, flowOf, flowsBeyond, leaveFlow, NO_FLOW, redirectFlow } from './flows.ts';

const BUCKETS = 8;
const PLACES = 8;
const CONNECTIONS = 64;
const KEY = new Uint8Array(4);
const seed = Number(process.env['FLOWS_SEED'] ?? Date.now() % 1_000_000);

/** A small generator, so that a run can be repeated. */
function randomFrom(start: number): (below: number) => number {
  let state = start;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

function tableOf(flowKey: bigint, buckets = BUCKETS): World {
  const world = new World({
    now: () => 0n,
    random: () => 0,
    maxEntries: { flow_buckets: buckets, connections: CONNECTIONS },
  });
  world.store(settings).update(KEY, bytesOf(Settings.create({ flowKey, flowBuckets: buckets })));
  return world;
}

/** Connection `number` is that of the client with this number as its port. */
function fill(world: World, number: number, family: Family): void {
  const c = Connection.create({
    clientPort: rawBe16(number),
    virtualPort: rawBe16(80),
    realPort: rawBe16(8000),
    protocol: IPPROTO_TCP,
    family: family.number,
    number,
    flags: METHOD_MASQ,
  });
  c.client.a = rawBe32(1);
  c.virtual.a = rawBe32(2);
  c.real.a = rawBe32(3);
  world.store(connections).update(new Uint8Array(Uint32Array.of(number).buffer), bytesOf(c));
}

function tupleOf(family: Family, number: number, direction: number) {
  const [source, destination] = direction === REQUEST ? [1, 2] : [3, 1];
  const ports =
    direction === REQUEST
      ? { sourcePort: rawBe16(number), destinationPort: rawBe16(80) }
      : { sourcePort: rawBe16(8000), destinationPort: rawBe16(number) };
  const tuple = stack(family.Tuple, { ...ports, protocol: IPPROTO_TCP });
  tuple.source.a = rawBe32(source);
  tuple.destination.a = rawBe32(destination);
  return tuple;
}

const beyond = (): number[] => [0, 1, 2].map((step) => flowsBeyond.only.steps.at(step).flows);

describe.each([
  ['IPv4', IPV4],
  ['IPv6', IPV6],
] as const)('the flows of %s', (_, family) => {
  test(`are those that were entered and have not left, wherever they found room (seed ${seed})`, () => {
    const random = randomFrom(seed);
    const world = tableOf(BigInt(random(2 ** 32)) << 20n);
    for (let number = 0; number < CONNECTIONS; number++) fill(world, number, family);
    const expected = new Map<number, number>();
    let farthest = 0;
    world.run(() => {
      for (let i = 0; i < 4000; i++) {
        const [number, direction] = [random(CONNECTIONS), random(2)];
        const flow = flowOf(number, direction);
        const tuple = tupleOf(family, number, direction);
        // Full for some hundred steps, nearly empty for others.
        if (random(1000) < (i % 1000 < 600 ? 700 : 250)) {
          const done = random(2) === 0 ? enterFlow(family, tuple, flow) : redirectFlow(family, tuple, flow);
          if (done) expected.set(flow, flow);
        } else {
          leaveFlow(family, tuple, flow);
          expected.delete(flow);
        }
        farthest = Math.max(farthest, beyond().findLastIndex((flows) => flows > 0) + 1);
        expect(findFlow(family, tuple)).toBe(expected.get(flow) ?? NO_FLOW);
      }
      for (let number = 0; number < CONNECTIONS; number++) {
        for (const direction of [REQUEST, REPLY]) {
          const flow = flowOf(number, direction);
          expect(findFlow(family, tupleOf(family, number, direction))).toBe(expected.get(flow) ?? NO_FLOW);
          leaveFlow(family, tupleOf(family, number, direction), flow);
        }
      }
      expect(beyond()).toEqual([0, 0, 0]);
    });
    for (const [, bucket] of world.store(flowBuckets).entries()) expect(bucket.every((byte) => byte === 0)).toBe(true);
    // The test saw what it is for.
    expect(farthest).toBe(3);
  });

  test('lead to the connection that came last, where two have one tuple of replies', () => {
    const world = tableOf(1n);
    for (const number of [5, 6]) fill(world, number, family);
    world.run(() => {
      const replies = tupleOf(family, 5, REPLY);
      expect(enterFlow(family, replies, flowOf(6, REPLY))).toBe(true);
      expect(redirectFlow(family, replies, flowOf(5, REPLY))).toBe(true);
      expect(findFlow(family, replies)).toBe(flowOf(5, REPLY));
      leaveFlow(family, replies, flowOf(6, REPLY));
      expect(findFlow(family, replies)).toBe(flowOf(5, REPLY));
    });
  });

  test('are nobody else’s, even where a connection of another client lies behind the word', () => {
    const world = tableOf(1n);
    for (const number of [5, 6]) fill(world, number, family);
    world.run(() => {
      // As if the tags of both were the same.
      expect(enterFlow(family, tupleOf(family, 5, REQUEST), flowOf(6, REQUEST))).toBe(true);
      expect(findFlow(family, tupleOf(family, 5, REQUEST))).toBe(NO_FLOW);
    });
  });
});

test('no flow is refused where the table has room for twice the flows', () => {
  const most = 20_000;
  const world = tableOf(BigInt(seed), Math.ceil((most * 5) / 2 / PLACES));
  world.run(() => {
    for (let number = 0; number < most; number++) {
      const tuple = tupleOf(IPV4, number, REQUEST);
      expect(enterFlow(IPV4, tuple, flowOf(number, REQUEST))).toBe(true);
    }
  });
});
