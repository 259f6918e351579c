/** `ll` on the data plane in Node, told about loads. */
import { describe, expect, test } from 'vitest';
import {
  addressOf,
  NodeBench,
  randomFrom,
  serverSettings,
  serviceSettings,
  tcpService,
} from '../testing/node-bench.ts';

const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000);
const address = (host: number): string => `10.2.0.${host}`;

function benchOf(scheduler: string, weights: readonly number[]): NodeBench {
  const bench = new NodeBench(randomFrom(seed));
  bench.execute({ kind: 'addService', service: tcpService, settings: serviceSettings(scheduler) });
  for (const [i, weight] of weights.entries()) {
    const server = { address: address(i + 1), port: 80 };
    bench.execute({ kind: 'addServer', service: tcpService, server, settings: serverSettings(weight) });
  }
  return bench;
}

/** By host: how many of `count` new connections it gets. */
function share(bench: NodeBench, hosts: number, count: number, first: number): number[] {
  const got = Array.from({ length: hosts }, () => 0);
  for (let i = 0; i < count; i++) {
    const chosen = bench.packet(addressOf(0x0b00_0000 + first + i), 1024);
    got[Number(chosen?.split('.')[3]) - 1]!++;
  }
  return got;
}

const report = (bench: NodeBench, ...loads: readonly (number | undefined)[]): void =>
  bench.director.reportLoads(
    tcpService,
    new Map(loads.flatMap((load, i) => (load === undefined ? [] : [[address(i + 1), load] as const]))),
  );

describe('ll', () => {
  test('chooses as wlc does where nobody has reported, or all have fallen silent', () => {
    const weights = [1, 4, 2, 1];
    const [like, wlc] = [benchOf('ll', weights), benchOf('wlc', weights)];
    expect(share(like, 4, 200, 0)).toEqual(share(wlc, 4, 200, 0));
    report(like, 0.9, 0.1, 0.1, 0.1);
    expect(share(like, 4, 20, 200)).not.toEqual(share(wlc, 4, 20, 200));
    const silent = benchOf('ll', [1, 1]);
    report(silent, 0, 0.9);
    silent.pass(20);
    expect(share(silent, 2, 50, 0)).toEqual([25, 25]);
  });

  test('sends to the least loaded first, and to the others as it fills', () => {
    const bench = benchOf('ll', [1, 1, 1]);
    report(bench, 0.8, 0.2, 0.3);
    expect(bench.packet('192.0.2.1', 1024)).toBe(address(2));
    report(bench, 0.8, 0.2, 0.3);
    const got = share(bench, 3, 300, 0);
    expect(got[1]).toBeGreaterThan(got[0]!);
    expect(got[0]).toBeGreaterThan(0);
  });

  test('gives a heavier real server more of what comes between two reports', () => {
    const bench = benchOf('ll', [1, 3]);
    report(bench, 0.3, 0.3);
    const [light = 0, heavy = 0] = share(bench, 2, 400, 0);
    expect(heavy / light).toBeGreaterThan(2.5);
    expect(heavy / light).toBeLessThan(3.5);
  });

  test('takes one that is silent to be as loaded as the others together', () => {
    const bench = benchOf('ll', [1, 1, 1]);
    report(bench, 0.9, 0.1, undefined);
    expect(bench.packet('192.0.2.1', 1024)).toBe(address(2));
    share(bench, 3, 100, 0);
    report(bench, 0.9, 0.1, undefined);
    const got = share(bench, 3, 100, 100);
    expect(got[2]).toBeGreaterThan(0);
    expect(got[2]).toBeLessThan(got[1]!);
  });

  test('says what it goes by, and then goes there', () => {
    const bench = benchOf('ll', [1, 2, 1, 1]);
    const next = (): string => {
      const estimates = bench.director.loads(tcpService)!.map(({ estimate }) => estimate);
      return bench.director.service(tcpService)!.realServers[estimates.indexOf(Math.min(...estimates))]!.address;
    };
    expect(bench.director.loads(tcpService)).toBeUndefined();
    for (let i = 0; i < 100; i++) {
      if (i % 20 === 0) report(bench, (i % 7) / 10, 0.4, 0.35, undefined);
      const expected = next();
      expect(bench.packet(addressOf(0x0b00_0000 + i), 1024)).toBe(expected);
    }
    expect(bench.director.loads(tcpService)!.map(({ reported }) => reported === undefined)).toEqual([
      true,
      false,
      false,
      false,
    ]);
    bench.pass(20);
    expect(bench.director.loads(tcpService)).toBeUndefined();
  });

  test('forgets the load of one that is not reported any more', () => {
    const bench = benchOf('ll', [1, 1]);
    report(bench, 0, 0.9);
    report(bench, undefined, 0.9);
    expect(bench.director.loads(tcpService)!.map(({ reported }) => reported === undefined)).toEqual([false, true]);
    report(bench);
    expect(bench.director.loads(tcpService)).toBeUndefined();
  });

  test('never chooses one that is quiesced, however idle', () => {
    const bench = benchOf('ll', [0, 1]);
    report(bench, 0, 0.9);
    expect(share(bench, 2, 50, 0)).toEqual([0, 50]);
  });

  test('forgets the loads of a real server that leaves and comes to another service', () => {
    const bench = benchOf('ll', [1, 1]);
    report(bench, 0, 0.9);
    bench.execute({ kind: 'deleteService', service: tcpService });
    bench.execute({ kind: 'addService', service: tcpService, settings: serviceSettings('ll') });
    for (const host of [1, 2]) {
      const server = { address: address(host), port: 80 };
      bench.execute({ kind: 'addServer', service: tcpService, server, settings: serverSettings(1) });
    }
    expect(share(bench, 2, 50, 0)).toEqual([25, 25]);
  });

  // 90 connections a second; thirty of them are a load of 0.3 for a second. Reports are smoothed as the daemon's are.
  test.each([
    ['keeps work from who is busy with something else', [0.05, 0.05, 0.6], [39, 39, 12]],
    ['shares evenly where all is its own work', [0, 0, 0], [30, 30, 30]],
  ])('%s, and settles there', (_, elsewhere, wanted) => {
    const bench = benchOf('ll', [1, 1, 1]);
    let loads = [0.9, 0.1, 0.1];
    const history: number[][] = [];
    for (let second = 0; second < 30; second++) {
      report(bench, ...loads);
      const got = share(bench, 3, 90, second * 90);
      history.push(got);
      loads = got.map((count, i) => loads[i]! * 0.7 + (elsewhere[i]! + (count / 30) * 0.3) * 0.3);
      bench.pass(1);
    }
    for (const got of history.slice(20)) {
      for (const [i, count] of got.entries()) {
        expect(Math.abs(count - wanted[i]!), `seed ${seed}: ${got.join(' ')}`).toBeLessThan(8);
      }
    }
  });
});
