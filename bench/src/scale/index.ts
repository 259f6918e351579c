/**
 * `npm run bench -- scale`: how cost grows as work grows. Connections: memory, a new one and a packet of a random one among so
 * many, a walk over all, forgetting all. Services: restoring all, one command, a new connection to one of so many.
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { ingress, sweep } from '@ipvsd/ipvs';
import { inNamespace } from '@ipvsd/linux';
import { Driver, empty, type Flows, type Packet, timeProgram } from '../packet/driver.ts';
import { segment } from '../packet/frames.ts';
import { Ground, serviceCommands } from '../packet/ground.ts';
import type { Row } from '../report/compare.ts';
import { estimate, median, seeded } from '../report/statistics.ts';
import { figure, formatTable } from '../report/table.ts';
import { removeLeftovers } from '../stage/cleanup.ts';

export interface ScaleOptions {
  readonly quick: boolean;
  readonly seed: number;
  readonly say: (text: string) => void;
}

export interface ScaleResult {
  readonly bench: 'scale';
  readonly seed: number;
  readonly rows: readonly Row[];
}

/** More clients than the largest table has connections. */
const CLIENTS = 1 << 24;
const CHUNK = 4096;
const SERVERS_PER_SERVICE = 10;
const VIP = '10.9.0.1';
const REQUEST = { source: '10.64.0.0', destination: VIP, sourcePort: 1024, destinationPort: 80 };
const COMMANDS = fileURLToPath(new URL('../../../packages/ipvsd/bundle/', import.meta.url));

export async function scale({ quick, seed, say }: ScaleOptions): Promise<ScaleResult> {
  removeLeftovers();
  const bench = new ScaleBench(seeded(seed));
  const connections = (quick ? [10_000, 1_000_000] : [10_000, 1_000_000, 10_000_000]).map((count) => {
    say(`\rconnections: ${count} `);
    return bench.connections(count);
  });
  const head = [
    'connections',
    'made ms',
    'MB',
    'B each',
    'new ns',
    '±',
    'request ns',
    '±',
    'walk ms',
    'forget ns each',
  ];
  say(`\r${formatTable(head, connections)}\n`);
  const services = (quick ? [10, 1000] : [10, 100, 1000, 10_000]).map((count) => {
    say(`\rservices: ${count} `);
    return bench.services(count);
  });
  const columns = [
    'services',
    'restore ms',
    'ipvsadm-restore ms',
    'ipvsadm -a ms',
    'ipvsadm -ln ms',
    'read table ms',
    'new ns',
    '±',
  ];
  say(`\r${formatTable(columns, services)}\n`);
  return { bench: 'scale', seed, rows: bench.rows };
}

class ScaleBench {
  readonly rows: Row[] = [];
  readonly #random: () => number;

  constructor(random: () => number) {
    this.#random = random;
  }

  connections(count: number): string[] {
    const small = new Ground('none', 1);
    const base = small.mapBytes();
    small.remove();
    const began = performance.now();
    const ground = new Ground('scale', count);
    const madeMs = performance.now() - began;
    const bytes = ground.mapBytes();
    const each = (bytes - base) / count;
    const realServers = [1, 2].map((n) => ({ address: `10.3.0.${n}`, port: 80 }));
    ground.execute(serviceCommands({ address: VIP, port: 80, realServers }));

    const fresh = this.#fill(ground, packetsTo(ground, 'S', { count: CLIENTS }), count);
    const among = 2 ** Math.floor(Math.log2(count));
    const visits = packetsTo(ground, 'A', { count: CLIENTS, among });
    // First each once, so that all are established.
    this.#visit(ground, packetsTo(ground, 'A', { count: CLIENTS }), count);
    const timing = { repeat: 65_536, batches: 15 };
    const request = ground.inside(() => timeProgram(visits, ground.plane.program(ingress.name), timing, this.#random));
    const walkMs = ground.inside(() => timed(() => ground.plane.call(sweep, sweep.context.create())));
    const forgetMs = timed(() => ground.forget());
    ground.remove();

    const name = `${count} connections`;
    this.#add(name, 'made', madeMs, 'ms');
    this.#add(name, 'memory each', each, 'bytes');
    this.#add(name, 'new', fresh.median, 'ns', fresh.spread);
    this.#add(name, 'request', request.median, 'ns', request.spread);
    this.#add(name, 'walk', walkMs, 'ms');
    this.#add(name, 'forget each', (forgetMs * 1e6) / count, 'ns');
    return [
      String(count),
      figure(madeMs, 0),
      figure(bytes / 1e6, 1),
      figure(each, 0),
      figure(fresh.median, 0),
      figure(fresh.spread, 0),
      figure(request.median, 0),
      figure(request.spread, 0),
      figure(walkMs, 1),
      figure((forgetMs * 1e6) / count, 0),
    ];
  }

  /** New connections until there are so many; the time of one is that of the last tenth. */
  #fill(ground: Ground, packet: Packet, count: number) {
    return ground.inside(() => {
      const driver = new Driver(packet, ground.plane.program(ingress.name));
      const idle = new Driver(packet, empty());
      idle.run(CHUNK);
      const harness = median(Array.from({ length: 9 }, () => idle.run(CHUNK).ns));
      const times: number[] = [];
      for (let made = 0; made < count; ) {
        const repeat = Math.min(made < count * 0.9 ? 65_536 : CHUNK, count - made);
        const { ns } = driver.run(repeat);
        made += repeat;
        if (made >= count * 0.9) times.push(ns - harness);
      }
      driver.close();
      idle.close();
      return estimate(times, this.#random);
    });
  }

  #visit(ground: Ground, packet: Packet, count: number): void {
    ground.inside(() => {
      const driver = new Driver(packet, ground.plane.program(ingress.name));
      for (let seen = 0; seen < count; seen += 65_536) driver.run(Math.min(65_536, count - seen));
      driver.close();
    });
  }

  services(count: number): string[] {
    const ground = new Ground('scale', 262_144);
    const addressOf = (n: number): string => `10.9.${n >> 8}.${n & 255}`;
    const list = Array.from({ length: count }, (_, n) => ({
      address: addressOf(n),
      port: 80,
      realServers: Array.from({ length: SERVERS_PER_SERVICE }, (_, s) => ({
        address: `10.3.${n & 255}.${s + 1}`,
        port: 80,
      })),
    }));
    const commands = list.flatMap(serviceCommands);
    const restoreMs = timed(() => ground.execute(commands));
    const tableMs = timed(() => ground.inside(() => ground.director.table()));
    const service = { address: addressOf(count >> 1), port: 80 };
    const packet = packetsTo(ground, 'S', { count: CLIENTS }, service.address);
    const timing = { repeat: CHUNK, batches: 31 };
    const fresh = ground.inside(() => timeProgram(packet, ground.plane.program(ingress.name), timing, this.#random));
    ground.forget();

    const run = (command: string, args: readonly string[], input = ''): number =>
      timed(() => {
        const program = `${COMMANDS}${command}.js`;
        const { status, stderr } = inNamespace(ground.namespace, () =>
          spawnSync(process.execPath, [program, ...args], { input, encoding: 'utf8', maxBuffer: 1 << 28 }),
        );
        if (status !== 0) throw new Error(`Cannot run ${command}: ${stderr.trim()}`);
      });
    const several = (command: string, args: (i: number) => readonly string[]): number =>
      median(Array.from({ length: 5 }, (_, i) => run(command, args(i))));
    const addMs = several('ipvsadm', (i) => ['-a', '-t', `${service.address}:80`, '-r', `10.3.99.${i + 100}:80`, '-m']);
    const listMs = several('ipvsadm', () => ['-ln']);
    run('ipvsadm', ['-C']);
    const lines = list.flatMap(({ address, port, realServers }) => [
      `-A -t ${address}:${port} -s rr`,
      ...realServers.map((real) => `-a -t ${address}:${port} -r ${real.address}:${real.port} -m -w 1`),
    ]);
    const restoreProcessMs = run('ipvsadm-restore', [], `${lines.join('\n')}\n`);
    ground.remove();

    const name = `${count} services`;
    this.#add(name, 'restore', restoreMs, 'ms');
    this.#add(name, 'ipvsadm-restore', restoreProcessMs, 'ms');
    this.#add(name, 'ipvsadm -a', addMs, 'ms');
    this.#add(name, 'ipvsadm -ln', listMs, 'ms');
    this.#add(name, 'read table', tableMs, 'ms');
    this.#add(name, 'new', fresh.median, 'ns', fresh.spread);
    const cells = [restoreMs, restoreProcessMs, addMs, listMs, tableMs, fresh.median, fresh.spread];
    return [String(count), ...cells.map((value) => figure(value, 0))];
  }

  /** What is measured once is taken to be uncertain by a tenth. */
  #add(load: string, system: string, value: number, unit: string, spread = value / 10): void {
    const [rounded, uncertain] = [value, spread].map((n) => Number(n.toFixed(2)));
    this.rows.push({ load, system, value: rounded!, spread: uncertain!, unit });
  }
}

function packetsTo(ground: Ground, flags: string, flows: Pick<Flows, 'count' | 'among'>, address = VIP): Packet {
  const frame = segment({ ...REQUEST, destination: address }, flags);
  return {
    ...ground.arriving('client', frame),
    flows: { varying: 'source', base: REQUEST.source, address, port: 80, ...flows },
  };
}

function timed(work: () => unknown): number {
  const began = performance.now();
  work();
  return performance.now() - began;
}
