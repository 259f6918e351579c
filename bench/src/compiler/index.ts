/**
 * `npm run bench -- compiler`: kernel TypeScript by our compiler beside the same logic in C by clang: bytes, instructions, what the
 * verifier does with them, and nanoseconds, both on the same maps and the same packets in turn.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { CollectionSpec } from '@ipvsd/bpf';
import { compile, formatDiagnostic } from '@ipvsd/bpf/compiler';
import { KernelMap, type KernelProgram, loadCollection, skbContext } from '@ipvsd/bpf/kernel';
import { compiledPrograms, ingress, udpFrame } from '@ipvsd/ipvs';
import { Driver, empty, type Flows, type Packet } from '../packet/driver.ts';
import { type Ends, fragment, segment, unreachable } from '../packet/frames.ts';
import { Ground, serviceCommands } from '../packet/ground.ts';
import type { Row } from '../report/compare.ts';
import { type Estimate, estimate, seeded } from '../report/statistics.ts';
import { figure, formatTable } from '../report/table.ts';
import { MINE, removeLeftovers, undoAtEnd } from '../stage/cleanup.ts';
import { installPackages } from '../stage/packages.ts';
import { readObject } from './elf.ts';
import { layoutHeader } from './layout.ts';

export interface CompilerOptions {
  readonly quick: boolean;
  readonly seed: number;
  readonly say: (text: string) => void;
}

export interface CompilerResult {
  readonly bench: 'compiler';
  readonly seed: number;
  readonly clang: string;
  /** Packets that the two did not treat alike: then they are not the same logic, and their times say less. */
  readonly differences: readonly string[];
  readonly rows: readonly Row[];
}

const TWINS = fileURLToPath(new URL('../../c/', import.meta.url));
const EXAMPLES = fileURLToPath(new URL('../../../packages/bpf/examples/', import.meta.url));
const FOLDER = `/tmp/${MINE}-c`;
const MANY = 8192;

export async function compiler({ quick, seed, say }: CompilerOptions): Promise<CompilerResult> {
  removeLeftovers();
  installPackages(['clang'], say);
  const clang = execFileSync('clang', ['--version'], { encoding: 'utf8' }).split('\n')[0]!;
  mkdirSync(FOLDER, { recursive: true });
  undoAtEnd(() => rmSync(FOLDER, { recursive: true, force: true }));
  writeFileSync(`${FOLDER}/layout.h`, layoutHeader());
  const bench = new CompilerBench(quick ? 15 : 61, seeded(seed), say);
  say(`${clang}\n\n`);
  for (const name of ['count', 'deny', 'ttl']) bench.example(name);
  bench.director();
  bench.report();
  return { bench: 'compiler', seed, clang, differences: bench.differences, rows: bench.rows };
}

interface Pair {
  readonly ours: KernelProgram;
  readonly theirs: KernelProgram;
}

class CompilerBench {
  readonly rows: Row[] = [];
  readonly differences: string[] = [];
  readonly #sizes: string[][] = [];
  readonly #times: string[][] = [];
  readonly #batches: number;
  readonly #random: () => number;
  readonly #say: (text: string) => void;

  constructor(batches: number, random: () => number, say: (text: string) => void) {
    this.#batches = batches;
    this.#random = random;
    this.#say = say;
  }

  /** One of the compiler's own examples: small, and the same for as long as they are. */
  example(name: string): void {
    const { spec, diagnostics } = compile(`${EXAMPLES}${name}.ts`);
    if (spec === undefined) throw new Error(diagnostics.map((diagnostic) => formatDiagnostic(diagnostic)).join('\n'));
    const ours = loadCollection(spec);
    const theirs = loadCollection(compileTwin(name, spec), { reuseMaps: ours.maps });
    const pair = { ours: ours.program(name), theirs: [...theirs.programs.values()][0]! };
    if (name === 'deny') ours.map('denied').update(Uint8Array.of(0, 9), new Uint8Array(8));
    this.#size(name, pair);
    const data = udpFrame({ source: '10.0.0.1', destination: '10.0.0.2', sourcePort: 5000, destinationPort: 9 });
    const run = (program: KernelProgram) =>
      program.testRun({ data, context: skbContext({}), repeat: 65_536 }).durationNs;
    const [a, b] = [pair.ours, pair.theirs].map((program) => program.testRun({ data, context: skbContext({}) }));
    this.#same(name, a!, b!);
    this.#time(name, 'one packet again', () => [run(pair.ours), run(pair.theirs), run(empty())]);
    theirs.close();
    ours.close();
  }

  /** The whole packet path, on one director's maps. */
  director(): void {
    const ground = new Ground('compiler', 262_144);
    const spec = compiledPrograms();
    const pins = readdirSync(ground.plane.folder);
    const maps = new Map(
      spec.maps
        .filter(({ name }) => pins.includes(name))
        .map(({ name }) => [name, KernelMap.fromPin(`${ground.plane.folder}/${name}`)]),
    );
    const theirs = loadCollection(compileTwin('director', spec), { reuseMaps: maps });
    const pair = { ours: ground.plane.program(ingress.name), theirs: [...theirs.programs.values()][0]! };
    this.#size('director', pair);

    for (const [family, vip, real, client, otherClient] of [
      ['ipv4', '10.9.0.1', '10.3.0.1', '10.64.0.0', '10.96.0.0'],
      ['ipv6', 'fd09::1', 'fd03::1', 'fd64::', 'fd64::1:0:0'],
    ] as const) {
      ground.execute(serviceCommands({ address: vip, port: 80, realServers: [{ address: real, port: 8080 }] }));
      const request: Ends = { source: client, destination: vip, sourcePort: 1024, destinationPort: 80 };
      const answer: Ends = { source: real, destination: client, sourcePort: 8080, destinationPort: 1024 };
      this.#treatAlike(ground, pair, family, request, answer);
      ground.forget();

      const clients = (count: number): Flows => ({ varying: 'source', base: client, count, address: vip, port: 80 });
      const of = (side: 'client' | 'real', frame: Uint8Array, flows: Flows): Packet => ({
        ...ground.arriving(side, frame),
        flows,
      });
      const time = (what: string, packet: Packet, repeat = 16_384, batches = this.#batches, other = packet): void =>
        ground.inside(() => this.#timePackets(`${family} ${what}`, [packet, other, packet], pair, repeat, batches));
      for (const [name, count] of [
        ['', 1],
        [`, ${MANY} connections`, MANY],
      ] as const) {
        ground.inside(() => {
          for (const flags of ['S', 'A']) {
            const driver = new Driver(of('client', segment(request, flags), clients(count)), pair.ours);
            driver.run(count);
            driver.close();
          }
        });
        time(`request${name}`, of('client', segment(request, 'A'), clients(count)));
        const replies: Flows = { varying: 'destination', base: client, count, address: real, port: 8080 };
        time(`reply${name}`, of('real', segment(answer, 'A'), replies));
      }
      ground.forget();
      // Each has clients of its own, and both together must fit the smaller table.
      const fresh = (base: string): Packet => of('client', segment(request, 'S'), { ...clients(1 << 24), base });
      time('new', fresh(client), 2048, 14, fresh(otherClient));
      ground.forget();
      const miss = { ...request, destination: real };
      time('of no virtual service', of('client', segment(miss, 'A'), { ...clients(MANY), address: real }));
    }
    theirs.close();
    for (const map of maps.values()) map.close();
    ground.remove();
  }

  /** A connection's life and some strangers, told to each in turn: verdicts and packets must agree. */
  #treatAlike(ground: Ground, pair: Pair, family: string, request: Ends, answer: Ends): void {
    const frames: readonly (readonly [string, 'client' | 'real', Uint8Array])[] = [
      ['SYN', 'client', segment(request, 'S')],
      ['SYN ACK', 'real', segment(answer, 'SA')],
      ['ACK', 'client', segment(request, 'A')],
      ['data', 'client', segment(request, 'PA')],
      ['FIN', 'real', segment(answer, 'FA')],
      ['FIN of the client', 'client', segment(request, 'FA')],
      ['RST', 'client', segment(request, 'R')],
      ['SYN again', 'client', segment(request, 'S')],
      ['ACK of no connection', 'client', segment({ ...request, sourcePort: 9 }, 'A')],
      ['no virtual service', 'client', segment({ ...request, destinationPort: 9 }, 'S')],
      ['fragment', 'client', fragment(request)],
      ['ICMP error', 'client', unreachable(request.source, answer)],
    ];
    const tell = (program: KernelProgram) => {
      const results = frames.map(([, side, frame]) => {
        const { frame: data, context } = ground.arriving(side, frame);
        return ground.inside(() => program.testRun({ data, context }));
      });
      ground.forget();
      return results;
    };
    const [ours, theirs] = [tell(pair.ours), tell(pair.theirs)];
    for (const [i, [name]] of frames.entries()) this.#same(`${family} ${name}`, ours[i]!, theirs[i]!);
  }

  #same(what: string, a: { retval: number; data: Uint8Array }, b: { retval: number; data: Uint8Array }): void {
    if (a.retval !== b.retval) this.differences.push(`${what}: verdict ${a.retval}, clang's ${b.retval}`);
    else if (Buffer.compare(a.data, b.data) !== 0) this.differences.push(`${what}: the packets differ`);
  }

  #timePackets(
    what: string,
    packets: readonly Packet[],
    { ours, theirs }: Pair,
    repeat: number,
    batches: number,
  ): void {
    const drivers = [ours, theirs, empty()].map((target, i) => new Driver(packets[i]!, target));
    this.#time(
      'director',
      what,
      () => drivers.map((driver) => driver.run(repeat).ns) as [number, number, number],
      batches,
    );
    for (const driver of drivers) driver.close();
  }

  /** `batch` times ours, clang's and the empty program, one after the other. */
  #time(program: string, what: string, batch: () => readonly [number, number, number], batches = this.#batches): void {
    const measured = Array.from({ length: batches }, batch);
    const of = (value: (ours: number, theirs: number, idle: number) => number): Estimate =>
      estimate(
        measured.map((times) => value(...times)),
        this.#random,
      );
    const [ours, theirs] = [of((a, _, idle) => a - idle), of((_, b, idle) => b - idle)];
    const ratio = of((a, b, idle) => (a - idle) / (b - idle));
    // Time against clang's: less is better, so it is no ratio to routing.
    this.#add(program, `${what}, against clang`, ratio, '');
    this.#add(program, `${what}, ours`, ours, 'ns');
    this.#add(program, `${what}, clang`, theirs, 'ns');
    this.#times.push([
      `${program}: ${what}`,
      figure(ours.median, 1),
      figure(theirs.median, 1),
      figure(ratio.median, 3),
      figure(ratio.spread, 3),
    ]);
  }

  #size(name: string, { ours, theirs }: Pair): void {
    const [a, b] = [ours.info(), theirs.info()];
    for (const [what, field] of [
      ['instructions', (info: typeof a) => info.xlatedBytes / 8],
      ['bytes of machine code', (info: typeof a) => info.jitedBytes],
      ['verifier steps', (info: typeof a) => info.verifiedInstructions],
    ] as const) {
      const [x, y] = [field(a), field(b)];
      this.rows.push({ load: name, system: what, value: x, unit: '', spread: 0 });
      this.#sizes.push([`${name}: ${what}`, String(x), String(y), figure(x / y, 3)]);
    }
  }

  #add(load: string, system: string, { median, spread }: Estimate, unit: string): void {
    this.rows.push({ load, system, value: Number(median.toFixed(3)), spread: Number(spread.toFixed(3)), unit });
  }

  report(): void {
    this.#say(`${formatTable(['size', 'ours', 'clang', 'ratio'], this.#sizes)}\n`);
    this.#say(`${formatTable(['nanoseconds', 'ours', 'clang', 'ratio', '±'], this.#times)}\n`);
    for (const difference of this.differences) this.#say(`not the same logic: ${difference}\n`);
  }
}

/** The C file of that name, for maps as `spec` has them. */
function compileTwin(name: string, spec: CollectionSpec): CollectionSpec {
  const output = `${FOLDER}/${name}.o`;
  execFileSync('clang', [
    '--target=bpf',
    '-mcpu=v3',
    '-O2',
    '-Wall',
    '-Werror',
    `-I${FOLDER}`,
    '-c',
    `${TWINS}${name}.c`,
    '-o',
    output,
  ]);
  return readObject(readFileSync(output), spec.maps);
}
