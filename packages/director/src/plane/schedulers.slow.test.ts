/** One contract for all schedulers, whatever their taste. */
import { SCHEDULERS } from '@ipvsd/ipvs';
import { describe, expect, test } from 'vitest';
import {
  addressOf,
  NodeBench,
  randomFrom,
  serverSettings,
  tcpService as service,
  serviceSettings,
  VIP,
} from '../testing/node-bench.ts';

const ALL = SCHEDULERS.map(({ name }) => name).sort();
const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000);
const server = (host: number) => ({ address: `10.2.0.${host}`, port: 80 });

function benchOf(scheduler: string, weights: readonly number[], schedulerFlags = 0): NodeBench {
  const bench = new NodeBench(randomFrom(seed));
  bench.execute({ kind: 'addService', service, settings: serviceSettings(scheduler, { schedulerFlags }) });
  for (const [i, weight] of weights.entries()) {
    bench.execute({ kind: 'addServer', service, server: server(i + 1), settings: serverSettings(weight) });
  }
  return bench;
}

test('every scheduler of the kernel is there, and ours', () => {
  expect(ALL).toEqual('dh fo lblc lblcr lc ll mh nq ovf rr sed sh twos wlc wrr'.split(' '));
});

describe.each(ALL)('%s', (name) => {
  test('never chooses a quiesced real server', () => {
    const bench = benchOf(name, [0, 3, 0, 1]);
    const random = randomFrom(seed);
    for (let i = 0; i < 300; i++) {
      const chosen = bench.packet(addressOf(random()), 1024 + (random() % 60_000));
      if (chosen !== undefined) expect(['10.2.0.2', '10.2.0.4'], `seed ${seed}`).toContain(chosen);
    }
  });

  test('never chooses an overloaded real server', () => {
    const bench = benchOf(name, []);
    for (const host of [1, 2, 3]) {
      const settings = serverSettings(1, { upperThreshold: 5 });
      bench.execute({ kind: 'addServer', service, server: server(host), settings });
    }
    const random = randomFrom(seed);
    // The locality schedulers ask no threshold of a real server that they know (as the kernel's), so each client is new.
    if (name === 'lblc') return;
    for (let i = 0; i < 100; i++) bench.packet(addressOf(random()), 1024 + i);
    for (const { activeConnections, inactiveConnections } of bench.director.service(service)!.realServers) {
      expect(activeConnections + inactiveConnections, `seed ${seed}`).toBeLessThanOrEqual(5);
    }
  });

  test('has nobody to choose from an empty list', () => {
    expect(benchOf(name, []).packet('192.0.2.1', 1024)).toBeUndefined();
  });

  test('is foretold, and foretelling changes nothing', () => {
    const bench = benchOf(name, [1, 3, 0, 2]);
    const random = randomFrom(seed);
    for (let i = 0; i < 60; i++) {
      const client = { address: addressOf(random()), port: 1024 + (random() % 60_000) };
      const foretold = bench.director.choice(service, client, { address: VIP, port: 80 });
      const chosen = bench.packet(client.address, client.port);
      // Two are drawn for each client.
      if (name === 'twos') expect(['10.2.0.1', '10.2.0.2', '10.2.0.4']).toContain(foretold?.address);
      else expect(chosen, `seed ${seed}`).toBe(foretold?.address);
    }
  });

  test('goes on whatever is added, edited and removed between connections', () => {
    const random = randomFrom(seed);
    const bench = benchOf(name, [1], random() % 4);
    const weights = new Map([[1, 1]]);
    for (let i = 0; i < 400; i++) {
      const host = 1 + (random() % 8);
      const weight = random() % 5;
      const kind = weights.has(host) ? (random() % 3 === 0 ? 'deleteServer' : 'editServer') : 'addServer';
      if (random() % 3 === 0) {
        bench.execute({ kind, service, server: server(host), settings: serverSettings(weight) });
        if (kind === 'deleteServer') weights.delete(host);
        else weights.set(host, weight);
      }
      const chosen = bench.packet(addressOf(random()), 1024 + (i % 60_000));
      if (chosen === undefined) continue;
      expect(weights.get(Number(chosen.split('.')[3])), `seed ${seed}, round ${i}`).toBeGreaterThan(0);
    }
  });

  test('chooses among 1,024 real servers', () => {
    const bench = new NodeBench(randomFrom(seed));
    bench.execute({ kind: 'addService', service, settings: serviceSettings(name) });
    const commands = Array.from({ length: 1024 }, (_, i) => ({
      kind: 'addServer' as const,
      service,
      server: { address: addressOf(0x0a03_0000 + i + 1), port: 80 },
      settings: serverSettings(1),
    }));
    bench.director.executeAll(commands, { atomic: true });
    expect(bench.packet('192.0.2.1', 1024)).toBeDefined();
  });
});

/** What 99.9 % of fair draws stay below, by degrees of freedom. */
const CRITICAL = [0, 10.83, 13.82, 16.27, 18.47];

function chiSquared(counts: readonly number[], weights: readonly number[]): number {
  const total = counts.reduce((a, b) => a + b, 0);
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.reduce((x, weight, i) => {
    const expected = (total * weight) / sum;
    return x + (counts[i]! - expected) ** 2 / expected;
  }, 0);
}

const BY_WEIGHT = [5, 3, 2];

/** Each scheduler's promise: whose share, of those with these weights, is what, as long as no connection ends. */
const SHARES: Readonly<Record<string, readonly number[]>> = {
  ...Object.fromEntries(['wrr', 'wlc', 'sed', 'nq', 'sh', 'mh', 'twos'].map((name) => [name, BY_WEIGHT])),
  ...Object.fromEntries(['rr', 'lc'].map((name) => [name, [1, 1, 1]])),
  // The heaviest alone. What dh chooses hangs on the destination (hashing.slow.test.ts).
  fo: [1, 0, 0],
};

describe.each(Object.entries(SHARES))('%s in the long run', (name, shares) => {
  test(`gives ${shares.join(':')} of those with weights ${BY_WEIGHT.join(':')}`, () => {
    const bench = benchOf(name, BY_WEIGHT);
    const random = randomFrom(seed);
    const counts = [0, 0, 0];
    for (let i = 0; i < 3000; i++) {
      const chosen = bench.packet(addressOf(random()), 1024 + (random() % 60_000));
      counts[Number(chosen!.split('.')[3]) - 1]!++;
    }
    const parts = shares.flatMap((share, i) => (share > 0 ? [{ share, count: counts[i]! }] : []));
    expect(
      counts.filter((_, i) => shares[i] === 0),
      `seed ${seed}: ${counts}`,
    ).toEqual(shares.filter((share) => share === 0));
    const chi = chiSquared(
      parts.map(({ count }) => count),
      parts.map(({ share }) => share),
    );
    expect(chi, `seed ${seed}: ${counts}`).toBeLessThan(CRITICAL[parts.length - 1]! * 2 + 1e-9);
  });
});

test.each(['lblc', 'lblcr'])('%s shares a destination that is too much for one by weight', (name) => {
  const bench = benchOf(name, BY_WEIGHT);
  const random = randomFrom(seed);
  const counts = [0, 0, 0];
  for (let i = 0; i < 600; i++) {
    const client = addressOf(random());
    const chosen = bench.packet(client, 1024 + i)!;
    bench.reply(chosen, 80, client, 1024 + i, 'SA');
    bench.packet(client, 1024 + i, service, 'A');
    counts[Number(chosen.split('.')[3]) - 1]!++;
  }
  // As long as none is idle the first goes on; none is left out.
  expect(Math.min(...counts), `seed ${seed}: ${counts}`).toBeGreaterThan(0);
});

test('lblcr spreads a destination over more real servers than a set holds', () => {
  const bench = benchOf('lblcr', new Array<number>(40).fill(1));
  const random = randomFrom(seed);
  const chosen = new Set<string>();
  for (let i = 0; i < 200; i++) {
    const client = addressOf(random());
    const real = bench.packet(client, 1024 + i)!;
    bench.reply(real, 80, client, 1024 + i, 'SA');
    bench.packet(client, 1024 + i, service, 'A');
    chosen.add(real);
  }
  expect(chosen.size, `seed ${seed}`).toBe(40);
});

test('ovf fills the heaviest, then the next', () => {
  const bench = benchOf('ovf', BY_WEIGHT);
  const chosen = Array.from({ length: 14 }, (_, i) => {
    const real = bench.packet('192.0.2.1', 1024 + i);
    if (real !== undefined) bench.reply(real, 80, '192.0.2.1', 1024 + i, 'SA');
    return Number(real?.split('.')[3] ?? 0);
  });
  // One more than its weight each, then nobody.
  expect(chosen).toEqual([1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 0]);
});
