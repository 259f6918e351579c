/** A client that uses the port of its finished connection anew: the new connection has the old one's entry. */

import { TC_ACT_REDIRECT } from '@ipvsd/bpf';
import {
  Connection,
  connections,
  directionOf,
  flowBuckets,
  METHOD_MASK,
  NONE,
  numberOf,
  Population,
  PROTOCOLS,
  population,
  Standings,
  standings,
  tcpFrame,
} from '@ipvsd/ipvs';
import { beforeEach, describe, expect, test } from 'vitest';
import type { Command } from '../command.ts';
import { NodeBench, randomFrom, serverSettings, serviceSettings, tcpService, VIP } from '../testing/node-bench.ts';

const CLIENT = '192.0.2.1';
const LOCAL = '10.2.0.250';

let bench: NodeBench;
beforeEach(() => {
  bench = new NodeBench();
});

const real = (host: number): string => `10.2.0.${host}`;
const add = (host: number, more = {}, weight = 1): Command => ({
  kind: 'addServer',
  service: tcpService,
  server: { address: real(host), port: 80 },
  settings: serverSettings(weight, more),
});
const serve = (...commands: Command[]): void =>
  bench.execute({ kind: 'addService', service: tcpService, settings: serviceSettings('rr') }, ...commands);
const send = (port: number, flags: string) =>
  bench.receive(tcpFrame({ source: CLIENT, destination: VIP, sourcePort: port, destinationPort: 80, flags }));
const answer = (host: number, port: number, to = CLIENT) =>
  bench.receive(tcpFrame({ source: real(host), destination: to, sourcePort: 80, destinationPort: port, flags: 'SA' }));
function close(port: number): void {
  send(port, 'A');
  send(port, 'R');
}
/** Where a connection of that port goes; it is over at once. */
function visit(port: number): string {
  const { frame } = send(port, 'S');
  close(port);
  return frame.destination;
}
const places = (): number => Population.on(bench.plane.store(population).lookup(new Uint8Array(4))!).highest;
const counts = () =>
  bench.director
    .service(tcpService)!
    .realServers.map(({ activeConnections, inactiveConnections }) => activeConnections + inactiveConnections);

describe('a port used anew', () => {
  test('takes no place in the table but the one it had, and each turn is counted', () => {
    serve(add(1), add(2));
    expect(Array.from({ length: 6 }, () => visit(1000))).toEqual([2, 1, 2, 1, 2, 1].map(real));
    expect(places()).toBe(1);
    expect(counts()).toEqual([0, 1]);
    bench.pass(2);
    expect(bench.director.service(tcpService)!.stats.connections).toBe(6n);
  });

  test('at another real server has its replies from there, and none from the one before', () => {
    serve(add(1), add(2));
    visit(1000);
    expect(send(1000, 'S').frame.destination).toBe(real(1));
    expect(answer(2, 1000).verdict).not.toBe(TC_ACT_REDIRECT);
    expect(answer(1, 1000).frame).toMatchObject({ source: VIP, destination: CLIENT, valid: true });
  });

  test('lets the old entry go where no real server is left for it', () => {
    serve(add(1));
    visit(1000);
    bench.execute({ ...add(1, {}, 0), kind: 'editServer' } as Command);
    send(1000, 'S');
    expect(bench.count('noServer')).toBe(1);
    bench.pass(1);
    expect([...bench.director.connections()]).toEqual([]);
    expect(counts()).toEqual([0]);
  });

  test('counts twice for a moment at its real server, as with IPVS, and may overload it', () => {
    serve(add(1, { upperThreshold: 5 }));
    for (const port of [1, 2, 3]) send(port, 'S');
    visit(1000);
    expect(send(1000, 'S').frame.destination).toBe(real(1));
    expect(counts()).toEqual([4]);
    expect(bench.packet(CLIENT, 1001)).toBeUndefined();
  });

  test('is no matter for conn_reuse_mode 0: the old connection goes on', () => {
    serve(add(1), add(2));
    bench.execute({ kind: 'setSysctl', name: 'conn_reuse_mode', value: '0' });
    expect([visit(1000), visit(1000)]).toEqual([real(2), real(2)]);
  });
});

describe('a port used anew under FULLNAT', () => {
  const setUp = (...hosts: number[]): void => {
    serve(...hosts.map((host) => add(host, { forwarding: 'fullnat' })));
    bench.execute({ kind: 'addLocalAddress', service: tcpService, address: LOCAL });
  };

  test('keeps its local port, at the same real server and at another', () => {
    setUp(1, 2);
    for (const host of [2, 1, 2]) {
      const { frame } = send(1000, 'S');
      expect(frame).toMatchObject({ source: LOCAL, sourcePort: 1024, destination: real(host) });
      expect(answer(host, 1024, LOCAL).frame).toMatchObject({ destination: CLIENT, destinationPort: 1000 });
      close(1000);
    }
  });

  test('has another local port where its own is taken at the new real server', () => {
    setUp(1, 2);
    // Of each local port of the pool one connection at each real server.
    bench.execute({ kind: 'setSysctl', name: 'local_port_range', value: '2000 2001' });
    expect(send(1000, 'S').frame).toMatchObject({ sourcePort: 2000, destination: real(2) });
    expect(send(1001, 'S').frame).toMatchObject({ sourcePort: 2001, destination: real(1) });
    expect(send(1002, 'S').frame).toMatchObject({ sourcePort: 2001, destination: real(2) });
    close(1002);
    // Now at the other real server, where the other client has that port.
    expect(send(1002, 'S').frame).toMatchObject({ sourcePort: 2000, destination: real(1) });
    expect(answer(1, 2000, LOCAL).frame).toMatchObject({ destinationPort: 1002 });
    expect(answer(2, 2001, LOCAL).verdict).not.toBe(TC_ACT_REDIRECT);
  });

  test('has another local address where its own is no more the service’s', () => {
    setUp(1);
    send(1000, 'S');
    close(1000);
    bench.execute(
      { kind: 'addLocalAddress', service: tcpService, address: '10.2.0.251' },
      { kind: 'deleteLocalAddress', service: tcpService, address: LOCAL },
    );
    expect(send(1000, 'S').frame).toMatchObject({ source: '10.2.0.251' });
    expect(answer(1, 1024, LOCAL).verdict).not.toBe(TC_ACT_REDIRECT);
  });
});

const seed = Number(process.env['REUSE_SEED'] ?? Date.now() % 2 ** 31);

test(`whatever comes, entries, flows and counts agree (seed ${seed})`, () => {
  const random = randomFrom(seed);
  const below = (limit: number): number => random() % limit;
  const pick = <T>(list: readonly T[]): T => list[below(list.length)]!;
  const methods = ['masq', 'masq', 'fullnat', 'route', 'tunnel'] as const;
  serve();
  for (const address of [LOCAL, '10.2.0.251']) bench.execute({ kind: 'addLocalAddress', service: tcpService, address });
  bench.execute({ kind: 'setSysctl', name: 'local_port_range', value: '2000 2015' });
  const change = (): void => {
    const host = 1 + below(3);
    const added = add(host, { forwarding: pick(methods), upperThreshold: pick([0, 0, 3]) }, below(3));
    const known = bench.director.service(tcpService)!.realServers.some(({ address }) => address === real(host));
    if (!known) bench.execute(added);
    else if (below(2) === 0) bench.execute({ ...added, kind: 'editServer' } as Command);
    else bench.execute({ kind: 'deleteServer', service: tcpService, server: { address: real(host), port: 80 } });
  };
  for (let step = 0; step < 4000; step++) {
    if (below(20) === 0) change();
    if (below(200) === 0) bench.execute({ kind: 'setSysctl', name: 'conn_reuse_mode', value: String(below(4)) });
    if (below(200) === 0) bench.execute({ kind: 'setSysctl', name: 'expire_nodest_conn', value: String(below(2)) });
    if (below(100) === 0) bench.pass(pick([1, 11, 70]));
    if (below(4) === 0) answer(1 + below(3), 1000 + below(12));
    else send(1000 + below(12), pick(['S', 'S', 'S', 'A', 'FA', 'R', 'R']));
    if (step % 800 === 799) agree(`step ${step}, seed ${seed}`);
  }
});

/** All that the buckets hold. */
function flows(): number[] {
  const store = bench.plane.store(flowBuckets);
  return store.values(0, store.maxEntries).flatMap((bytes) => {
    const words = new BigUint64Array(bytes.slice().buffer);
    return [...words].filter((word) => word !== 0n).map((word) => Number(word & 0xffff_ffffn));
  });
}

function agree(story: string): void {
  const given = Population.on(bench.plane.store(population).lookup(new Uint8Array(4))!);
  const entries = bench.plane
    .store(connections)
    .values(0, given.highest)
    .map((bytes) => Connection.on(bytes));
  const alive = entries.filter((c) => c.alive === 1);
  expect(alive.length, story).toBe(given.alive);
  const found = new Map<number, number>();
  for (const flow of flows()) {
    const [connection, direction] = [numberOf(flow), directionOf(flow)];
    expect(entries[connection]!.alive, `a flow of entry ${connection}, ${story}`).toBe(1);
    found.set(connection, (found.get(connection) ?? 0) + 1 + direction * 10);
  }
  for (const c of alive) {
    // No packet finds one that leaves with the next walk; and one reply is one connection's.
    const flows = found.get(c.number) ?? 0;
    expect([0, 1, 12], `flows of entry ${c.number}, method ${c.flags & METHOD_MASK}, ${story}`).toContain(flows);
  }
  const numbers = new Set(alive.map(({ server }) => server));
  for (const number of numbers) {
    if (number === NONE) continue;
    const own = alive.filter(({ server }) => server === number);
    const active = own.filter(isActive).length;
    const standing = Standings.on(bench.plane.store(standings).memory()).of.at(number);
    expect([standing.active, standing.inactive], `real server ${number}, ${story}`).toEqual([
      active,
      own.length - active,
    ]);
  }
}

function isActive({ protocol, state }: { readonly protocol: number; readonly state: number }): boolean {
  const known = PROTOCOLS.find(({ number }) => number === protocol)!;
  return ((known.activeStates >>> state) & 1) !== 0;
}
