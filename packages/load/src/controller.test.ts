import { describe, expect, test } from 'vitest';
import { Controller } from './controller.ts';

const three = ['a', 'b', 'c'].map((key) => ({ key, configuredWeight: 1 }));

/** Weights as shares of their sum. */
function shares(controller: Controller): number[] {
  const weights = three.map(({ key, configuredWeight }) => controller.explain(key)?.weight ?? configuredWeight);
  const sum = weights.reduce((all, weight) => all + weight, 0);
  return weights.map((weight) => weight / sum);
}

interface Cluster {
  /** Requests per second that saturate each. */
  readonly capacities: readonly number[];
  /** What each does besides, as a share of itself. */
  readonly busy: (second: number) => readonly number[];
  readonly requests: number;
  /** Reports are this old when they arrive. */
  readonly delaySeconds: number;
}

/** The closed loop: weights share the requests, requests make loads, loads make weights. */
function simulate({ capacities, busy, requests, delaySeconds }: Cluster, seconds: number) {
  const controller = new Controller();
  controller.setServers(three);
  const history: { loads: number[]; shares: number[] }[] = [];
  for (let second = 0; second < seconds; second++) {
    const now = shares(controller);
    const loads = capacities.map((capacity, i) => busy(second)[i]! + (requests * now[i]!) / capacity);
    history.push({ loads, shares: now });
    const seen = history[Math.max(0, second - delaySeconds)]!.loads;
    for (const [i, { key }] of three.entries()) controller.report(key, { load: seen[i]! }, second * 1000);
    controller.step(second * 1000);
  }
  return history;
}

describe('the controller', () => {
  test('evens out the loads when one of three is busy with something else', () => {
    const busy = () => [0.5, 0, 0];
    const history = simulate({ capacities: [100, 100, 100], busy, requests: 120, delaySeconds: 1 }, 60);
    const before = history[0]!.loads;
    const after = history.at(-1)!.loads;
    expect(Math.max(...before)).toBeCloseTo(0.9);
    expect(Math.max(...after) - Math.min(...after)).toBeLessThan(0.12);
    expect(Math.max(...after)).toBeLessThan(0.65);
  });

  test('finds out that one is half as strong, whatever its configured weight', () => {
    const history = simulate({ capacities: [100, 100, 50], busy: () => [0, 0, 0], requests: 150, delaySeconds: 1 }, 90);
    const { shares: last } = history.at(-1)!;
    expect(last[2]).toBeGreaterThan(0.15);
    expect(last[2]).toBeLessThan(0.25);
  });

  test('does not run in a herd: with reports three seconds old the shares settle', () => {
    const busy = () => [0.4, 0, 0];
    const history = simulate({ capacities: [100, 100, 100], busy, requests: 180, delaySeconds: 3 }, 240);
    const tail = history.slice(-60).map(({ shares: now }) => now[0]!);
    expect(Math.max(...tail) - Math.min(...tail)).toBeLessThan(0.06);
  });

  test('comes back when the other work ends', () => {
    const busy = (second: number) => (second < 60 ? [0.5, 0, 0] : [0, 0, 0]);
    const history = simulate({ capacities: [100, 100, 100], busy, requests: 120, delaySeconds: 1 }, 180);
    for (const share of history.at(-1)!.shares) expect(share).toBeCloseTo(1 / 3, 1);
  });

  test('never gives all to one, and starves none, however loud the reports', () => {
    const controller = new Controller();
    controller.setServers(three);
    for (let second = 0; second < 300; second++) {
      controller.report('a', { load: 0 }, second * 1000);
      controller.report('b', { load: 5 }, second * 1000);
      controller.report('c', { load: 5 }, second * 1000);
      controller.step(second * 1000);
    }
    const [a, b, c] = shares(controller) as [number, number, number];
    expect(a).toBeLessThan(0.95);
    expect(b).toBeGreaterThan(0.02);
    expect(c).toBeGreaterThan(0.02);
  });

  test('moves no faster than a bounded share per second', () => {
    const controller = new Controller();
    controller.setServers(three);
    let before = 1 / 3;
    for (let second = 0; second < 20; second++) {
      controller.report('a', { load: 3 }, second * 1000);
      controller.report('b', { load: 0 }, second * 1000);
      controller.report('c', { load: 0 }, second * 1000);
      controller.step(second * 1000);
      const now = shares(controller)[0]!;
      expect(now).toBeGreaterThan(before * 0.7);
      before = now;
    }
  });

  test('one that falls silent goes back to its configured weight; when all are silent the weights are left alone', () => {
    const controller = new Controller();
    controller.setServers(three);
    for (let second = 0; second < 120; second++) {
      if (second < 30) controller.report('a', { load: 0.9 }, second * 1000);
      if (second < 30) for (const key of ['b', 'c']) controller.report(key, { load: 0.2 }, second * 1000);
      controller.step(second * 1000);
      if (second === 29) expect(shares(controller)[0]).toBeLessThan(0.25);
    }
    expect(controller.explain('a')).toMatchObject({ weight: undefined, stale: true });
    expect(controller.explain('a')?.because).toContain('silent');
  });

  test('what an agent says outright is done: drain, a percentage, a weight', () => {
    const controller = new Controller();
    controller.setServers(three);
    for (let second = 0; second < 60; second++) {
      controller.report('a', { state: 'drain' }, second * 1000);
      controller.report('b', { weightPercent: 50 }, second * 1000);
      controller.report('c', { weight: 2 }, second * 1000);
      controller.step(second * 1000);
    }
    expect(three.map(({ key }) => controller.explain(key)?.weight)).toEqual([0, 50, 200]);
  });

  test('a server configured with weight 0 stays out, whatever its load', () => {
    const controller = new Controller();
    controller.setServers([...three.slice(0, 2), { key: 'c', configuredWeight: 0 }]);
    for (let second = 0; second < 30; second++) {
      for (const { key } of three) controller.report(key, { load: key === 'c' ? 0 : 0.9 }, second * 1000);
      controller.step(second * 1000);
    }
    expect(controller.explain('c')?.weight).toBe(0);
  });

  test('where the scheduler goes by load, weights stay as configured but for what an agent asks for', () => {
    const controller = new Controller({ movesWeights: false });
    controller.setServers(three);
    const tell = (more: object): void => {
      for (let second = 0; second < 30; second++) {
        controller.report('a', { load: 0.9, ...more }, second * 1000);
        for (const key of ['b', 'c']) controller.report(key, { load: 0.1 }, second * 1000);
        controller.step(second * 1000);
      }
    };
    tell({});
    expect(three.map(({ key }) => controller.explain(key)?.weight)).toEqual([undefined, undefined, undefined]);
    expect(controller.explain('a')).toMatchObject({ because: 'its scheduler goes by the load itself', stale: false });
    expect(controller.explain('a')?.smoothedLoad).toBeCloseTo(0.9, 1);
    tell({ state: 'drain' });
    expect(controller.explain('a')?.weight).toBe(0);
  });

  test('other settings after a reload count at once, and what is known of the loads stays', () => {
    const controller = new Controller();
    controller.setServers(three);
    const busy = (from: number, to: number): void => {
      for (let second = from; second < to; second++) {
        controller.report('a', { load: 3 }, second * 1000);
        for (const key of ['b', 'c']) controller.report(key, { load: 0.1 }, second * 1000);
        controller.step(second * 1000);
      }
    };
    busy(0, 60);
    expect(controller.explain('a')?.weight).toBeLessThan(15);
    controller.changeSettings({ minimumFactor: 0.5 });
    busy(60, 62);
    expect(controller.explain('a')?.weight).toBeGreaterThanOrEqual(45);
  });
});
