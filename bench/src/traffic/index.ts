/** `npm run bench`: all systems under real traffic, one table of ratios and a chart. */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';
import { renderChart } from '../report/chart.ts';
import { judgeNoise, type Noise, seeded } from '../report/statistics.ts';
import { figure, formatTable } from '../report/table.ts';
import { removeLeftovers } from '../stage/cleanup.ts';
import { installPackages } from '../stage/packages.ts';
import { layGround } from '../stage/site.ts';
import { Bench, type Experiment } from './measure.ts';
import { rowsOf, type TrafficRow, undisturbed } from './rows.ts';
import { LABELS, type LeftOut, makeSystems, SYSTEM_NAMES, type System } from './systems.ts';

export interface TrafficOptions {
  readonly quick: boolean;
  readonly systems: readonly string[] | undefined;
  readonly loads: readonly string[] | undefined;
  readonly seed: number;
  /** Where the picture goes; none by default but in a whole run. */
  readonly chart: string | undefined;
  readonly say: (text: string) => void;
}

export interface TrafficResult {
  readonly bench: 'traffic';
  readonly quick: boolean;
  readonly seed: number;
  readonly noise: Noise;
  readonly leftOut: readonly LeftOut[];
  readonly rows: readonly TrafficRow[];
}

const EXPERIMENTS: readonly Omit<Experiment, 'rounds' | 'ms'>[] = [
  { name: 'cps', title: 'New connections', load: 'cps', placement: 'one', largePackets: true, connections: 64 },
  {
    name: 'keepalive',
    title: 'Keep-alive requests',
    load: 'keepalive',
    placement: 'one',
    largePackets: true,
    connections: 64,
  },
  {
    name: 'bulk',
    title: 'Bulk, large packets (GSO)',
    load: 'bulk',
    placement: 'one',
    largePackets: true,
    connections: 8,
  },
  {
    name: 'bulk-1500',
    title: 'Bulk, 1500-byte packets',
    load: 'bulk',
    placement: 'one',
    largePackets: false,
    connections: 8,
  },
  { name: 'latency', title: 'One connection', load: 'keepalive', placement: 'one', largePackets: true, connections: 1 },
  {
    name: 'cps-two',
    title: 'New connections, two cores',
    load: 'cps',
    placement: 'two',
    largePackets: true,
    connections: 64,
  },
];

/** Rounds and length of a slice; the whole takes less than 15 minutes, the quick one less than 3. */
function sizeOf({ name, load }: Omit<Experiment, 'rounds' | 'ms'>, quick: boolean): { rounds: number; ms: number } {
  if (name === 'latency') return quick ? { rounds: 3, ms: 150 } : { rounds: 10, ms: 300 };
  if (name === 'cps-two') return quick ? { rounds: 5, ms: 200 } : { rounds: 20, ms: 300 };
  if (load === 'bulk') return quick ? { rounds: 5, ms: 300 } : { rounds: 15, ms: 1000 };
  return quick ? { rounds: 8, ms: 250 } : { rounds: 30, ms: 300 };
}

export async function traffic(options: TrafficOptions): Promise<TrafficResult> {
  const { say, quick, seed } = options;
  if (process.getuid?.() !== 0) throw new Error('Cannot run the bench: it makes network namespaces, run it as root');
  installPackages(['iproute2', 'nftables', 'haproxy', 'nginx-light', 'libnginx-mod-stream'], say);
  removeLeftovers();
  // Off the core that is measured.
  const cores = cpus().length;
  if (cores > 1) execFileSync('taskset', ['-acp', '1', String(process.pid)], { stdio: 'ignore' });
  layGround();
  const { systems, leftOut } = makeSystems(options.systems ?? SYSTEM_NAMES);
  const bench = await Bench.open();
  leftOut.push(...(await bench.place('one', systems)));
  const working = await probeAll(bench, systems, leftOut);
  for (const { system, reason } of leftOut) say(`left out: ${system}: ${reason}\n`);

  const random = seeded(seed);
  const rows: TrafficRow[] = [];
  const probes: number[] = [];
  let [slices, taken] = [0, 0];
  for (const part of EXPERIMENTS) {
    if (options.loads !== undefined && !options.loads.includes(part.name)) continue;
    if (part.placement === 'two' && cores === 1) {
      leftOut.push({ system: part.name, reason: 'it needs two cores' });
      continue;
    }
    const experiment: Experiment = { ...part, ...sizeOf(part, quick) };
    leftOut.push(...(await bench.place(experiment.placement, working)));
    const samples = await bench.run(experiment, working, random, (round) => {
      say(`\r${experiment.title}: round ${round} of ${experiment.rounds} `);
    });
    if (experiment.placement === 'one')
      for (const all of samples.values()) {
        slices += all.length;
        taken += all.length - undisturbed(all).filter((sample) => sample !== undefined).length;
      }
    for (const all of samples.values()) probes.push(...all.flatMap((sample) => (sample ? [sample.spinUs] : [])));
    const found = rowsOf(experiment.name, samples, random);
    rows.push(...found);
    say(`\r\n${tableOf(experiment, found)}\n`);
  }
  const noise = judgeNoise(probes, taken / Math.max(1, slices));
  const result: TrafficResult = { bench: 'traffic', quick, seed, noise, leftOut, rows };
  say(summary(result, working));
  if (options.chart !== undefined) writeFileSync(options.chart, chartOf(result));
  return result;
}

async function probeAll(bench: Bench, systems: readonly System[], leftOut: LeftOut[]): Promise<System[]> {
  const working: System[] = [];
  for (const system of systems) {
    if (leftOut.some((other) => other.system === system.name)) continue;
    const reason = await bench.probe(system);
    if (reason === undefined) working.push(system);
    else leftOut.push({ system: system.name, reason });
  }
  return working;
}

const UNITS = { cps: 'connections/s', keepalive: 'requests/s', bulk: 'GB/s' } as const;

function tableOf(experiment: Experiment, rows: readonly TrafficRow[]): string {
  const bulk = experiment.load === 'bulk';
  const head = [
    'system',
    'ratio',
    '±',
    UNITS[experiment.load],
    'p50 us',
    'p99 us',
    bulk ? 'CPU ms/GB' : 'CPU us',
    "director's",
    'CPU ratio',
    '±',
    'errors',
  ];
  const cpu = (us: number): string => figure(bulk ? us / 1000 : us, 1);
  const body = rows.map((row) => [
    row.system,
    figure(row.ratio, 3),
    figure(row.spread, 3),
    figure(row.rate, bulk ? 2 : 0),
    bulk ? '-' : String(row.p50Us),
    bulk ? '-' : String(row.p99Us),
    cpu(row.cpuUs),
    cpu(row.directorCost),
    figure(row.cpuRatio, 3),
    figure(row.cpuSpread, 3),
    String(row.errors),
  ]);
  return formatTable(head, body);
}

/** One table of all ratios; on a shared machine another by CPU time, which holds there too. */
function summary({ rows, noise }: TrafficResult, systems: readonly System[]): string {
  const loads = [...new Set(rows.map(({ load }) => load))];
  const table = (value: (row: TrafficRow) => readonly [number, number]): string => {
    const cell = (system: string, load: string): string => {
      const row = rows.find((candidate) => candidate.system === system && candidate.load === load);
      return row === undefined
        ? '-'
        : value(row)
            .map((n) => n.toFixed(2))
            .join(' ±');
    };
    return formatTable(
      ['system', ...loads],
      systems.map(({ name }) => [name, ...loads.map((load) => cell(name, load))]),
    );
  };
  const percent = (share: number): number => Math.round(share * 100);
  const byRate = `Plain routing = 1.00, median of rounds and half of its 95 % interval\n${table((row) => [row.ratio, row.spread])}`;
  const byCpu = `The same by CPU time\n${table((row) => [row.cpuRatio, row.cpuSpread])}`;
  const why =
    `${percent(noise.disturbed)} % of the spin probes took more than 1.5 times the calm ${Math.round(noise.calmUs)} us, ` +
    `somebody else had the core in ${percent(noise.taken)} % of the slices\n`;
  return `${byRate}\n${noise.noisy ? `${byCpu}\nNOISY RUN: ` : 'calm run: '}${why}`;
}

const PANELS = ['cps', 'keepalive', 'bulk', 'bulk-1500'];

export function chartOf({ rows, noise }: TrafficResult): string {
  const panels = EXPERIMENTS.filter(({ name }) => PANELS.includes(name)).map(({ name, title }) => ({
    title,
    bars: LABELS.flatMap((label) => {
      const row = rows.find((candidate) => candidate.load === name && candidate.system === label.name);
      return row === undefined ? [] : [{ label: label.title, own: label.own, ...barOf(row, noise.noisy) }];
    }),
  }));
  const measure = noise.noisy ? 'by CPU time per operation, as the machine was shared' : 'by rate';
  return renderChart({
    title: 'A director beside what users would pick instead',
    note: `Client, director and real servers on one core; plain routing = 1.00, ${measure}; lines are 95 % intervals`,
    panels: panels.filter(({ bars }) => bars.length > 0),
  });
}

function barOf(row: TrafficRow, byCpu: boolean): { ratio: number; low: number; high: number } {
  if (!byCpu) return row;
  const { cpuRatio: ratio, cpuSpread: spread } = row;
  return { ratio, low: ratio - spread, high: ratio + spread };
}

export const CHART = fileURLToPath(new URL('../../chart.svg', import.meta.url));
