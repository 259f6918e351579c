/**
 * Slices in turn: in each round every system once, in an order drawn anew, so that what the machine does in between meets all
 * alike. Between slices only CPU counters are read.
 */
import { fileURLToPath } from 'node:url';
import type { Load, Order, Slice } from '../load/protocol.ts';
import { BULK_PORT, REQUEST_PORT } from '../load/protocol.ts';
import { shuffle } from '../report/statistics.ts';
import { Group, kernelThreadsUs, Task } from '../stage/processes.ts';
import { CLIENT, REALS, setLargePackets } from '../stage/site.ts';
import type { LeftOut, System } from './systems.ts';

/** Where things run: all on one core, where rate is the reverse of cost; or client and servers on a core each. */
export type Placement = 'one' | 'two';

export interface Experiment {
  /** In results; in tables as `title`. */
  readonly name: string;
  readonly title: string;
  readonly load: Load;
  readonly placement: Placement;
  readonly largePackets: boolean;
  readonly connections: number;
  readonly rounds: number;
  readonly ms: number;
}

/** What a slice gave. */
export interface Sample extends Slice {
  readonly perSecond: number;
  /** CPU time of the whole machine's part in it for one operation, or for a gigabyte. */
  readonly cpuUs: number;
  /** CPU time of all parts against the clock's: how much of the machine the slice had. */
  readonly cpuShare: number;
}

/** By system, then by round. */
export type Samples = ReadonlyMap<string, readonly (Sample | undefined)[]>;

const GIGABYTE = 1e9;
const WARMUP_MS = 30;

export class Bench {
  readonly #groups: readonly Group[];
  readonly #client: Task;
  readonly #servers: readonly Task[];
  #placement: Placement | undefined;

  private constructor(groups: readonly Group[], client: Task, servers: readonly Task[]) {
    this.#groups = groups;
    this.#client = client;
    this.#servers = servers;
  }

  static async open(): Promise<Bench> {
    const groups = [new Group('client'), new Group('servers')] as const;
    const script = (name: string): string => fileURLToPath(new URL(`../load/${name}.js`, import.meta.url));
    const start = (namespace: string, group: Group, name: string): Task =>
      new Task(namespace, group, '0', process.execPath, [script(name)]);
    const client = start(CLIENT, groups[0], 'generator');
    const servers = REALS.map((real) => start(real, groups[1], 'server'));
    await Promise.all([client, ...servers].map((task) => task.line()));
    return new Bench(groups, client, servers);
  }

  /** Puts everything where it is to run; proxies are started anew with as many threads as there are cores. */
  async place(placement: Placement, systems: readonly System[]): Promise<LeftOut[]> {
    if (placement === this.#placement) return [];
    this.#placement = placement;
    this.#client.pin('0');
    for (const server of this.#servers) server.pin(placement === 'one' ? '0' : '1');
    const failed: LeftOut[] = [];
    for (const system of systems) {
      try {
        await (placement === 'one' ? system.start(1, '0') : system.start(2, '0,1'));
      } catch (error) {
        failed.push({ system: system.name, reason: (error as Error).message });
      }
    }
    return failed;
  }

  /** Whether the system carries what it is asked to: a little of each load, without an error. */
  async probe(system: System): Promise<string | undefined> {
    for (const load of ['cps', 'keepalive', 'bulk'] as const) {
      const { total, errors } = await this.#order(system, { load, connections: 4, ms: 100, warmupMs: 0 });
      if (errors > 0) return `${errors} connections failed in a first try (${load})`;
      if (total === 0) return `no answer came in a first try (${load})`;
    }
    return undefined;
  }

  async run(
    experiment: Experiment,
    systems: readonly System[],
    random: () => number,
    onRound: (round: number) => void,
  ): Promise<Samples> {
    setLargePackets(experiment.largePackets);
    const samples = new Map<string, (Sample | undefined)[]>(systems.map(({ name }) => [name, []]));
    // The first round is not counted: code is compiled and caches fill.
    for (let round = -1; round < experiment.rounds; round++) {
      for (const system of shuffle(systems, random)) {
        const sample = await this.#slice(experiment, system);
        if (round >= 0) samples.get(system.name)!.push(sample);
      }
      onRound(round + 1);
    }
    setLargePackets(true);
    return samples;
  }

  async #slice(experiment: Experiment, system: System): Promise<Sample | undefined> {
    const { load, connections, ms } = experiment;
    const before = this.#cpuUs(system);
    const began = performance.now();
    const slice = await this.#order(system, { load, connections, ms, warmupMs: WARMUP_MS });
    const wallUs = (performance.now() - began) * 1000;
    const cpu = this.#cpuUs(system) - before;
    if (slice.done === 0) return undefined;
    const unit = load === 'bulk' ? GIGABYTE : 1;
    const perSecond = slice.done / slice.seconds / unit;
    return { ...slice, perSecond, cpuUs: cpu / (slice.total / unit), cpuShare: cpu / wallUs };
  }

  async #order(system: System, order: Omit<Order, 'targets'>): Promise<Slice> {
    const port = order.load === 'bulk' ? BULK_PORT : REQUEST_PORT;
    const targets = system.addresses.map((address) => ({ address, port }));
    return JSON.parse(await this.#client.ask(JSON.stringify({ ...order, targets }))) as Slice;
  }

  #cpuUs(system: System): number {
    const groups = system.group === undefined ? this.#groups : [...this.#groups, system.group];
    return groups.reduce((sum, group) => sum + group.cpuUs(), kernelThreadsUs());
  }
}
