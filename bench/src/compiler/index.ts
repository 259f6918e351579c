/**
 * `npm run bench -- compiler`: kernel TypeScript by our compiler beside the same logic in C by clang: bytes, instructions, what the
 * verifier does with them, and nanoseconds, both on the same maps and the same packets in turn.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';
import type { CollectionSpec } from '@ipvsd/bpf';
import { compile, formatDiagnostic } from '@ipvsd/bpf/compiler';
import { type KernelProgram, loadCollection, skbContext, type TestResult } from '@ipvsd/bpf/kernel';
import { udpFrame } from '@ipvsd/ipvs';
import { Driver, empty, type Flows, type Packet } from '../packet/driver.ts';
import { type Ends, fragment, segment, unreachable } from '../packet/frames.ts';
import { Wires } from '../packet/ground.ts';
import type { Row } from '../report/compare.ts';
import { type Estimate, estimate, seeded } from '../report/statistics.ts';
import { figure, formatTable } from '../report/table.ts';
import { MINE, removeLeftovers, undoAtEnd } from '../stage/cleanup.ts';
import { installPackages } from '../stage/packages.ts';
import { readObject } from './elf.ts';
import { furnish } from './furnish.ts';
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
const FOLDER = `${tmpdir()}/${MINE}-c`;
const DIRECTOR = fileURLToPath(new URL('../../src/compiler/director.ts', import.meta.url));
const MANY = 8192;
const REAL_PORT = 8080;
const SIZES = { connections: 131_072, free_slots: 131_072, flows4: 262_144, flows6: 262_144 };
const SERVICES = [
  { family: 'ipv4', address: '10.9.0.1', real: '10.3.0.1', client: '10.64.0.0', otherClient: '10.96.0.0' },
  { family: 'ipv6', address: 'fd09::1', real: 'fd03::1', client: 'fd64::', otherClient: 'fd64::1:0:0' },
].map((service) => ({ ...service, port: 80, realPort: REAL_PORT }));

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
    const spec = compiled(`${EXAMPLES}${name}.ts`);
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

  /** A whole journey, director.ts and director.c, on the same maps. */
  director(): void {
    const wires = new Wires('compiler');
    const spec = compiled(DIRECTOR);
    const twin = compileTwin('director', spec);
    const withPair = (work: (pair: Pair) => void): void => {
      const ours = loadCollection(spec, { maxEntries: SIZES });
      const theirs = loadCollection(twin, { reuseMaps: ours.maps });
      furnish(ours, SERVICES);
      wires.inside(() => work({ ours: ours.program('director'), theirs: [...theirs.programs.values()][0]! }));
      theirs.close();
      ours.close();
    };
    withPair((pair) => this.#size('director', pair));
    for (const { family, address, real, client, otherClient } of SERVICES) {
      const request: Ends = { source: client, destination: address, sourcePort: 1024, destinationPort: 80 };
      const answer: Ends = { source: real, destination: client, sourcePort: REAL_PORT, destinationPort: 1024 };
      const told: TestResult[][] = [];
      withPair(({ ours }) => told.push(tell(wires, ours, request, answer)));
      withPair(({ theirs }) => told.push(tell(wires, theirs, request, answer)));
      for (const [i, [name]] of life(request, answer).entries()) {
        this.#same(`${family} ${name}`, told[0]![i]!, told[1]![i]!);
      }

      const clients = (count: number): Flows => ({ varying: 'source', base: client, count, address, port: 80 });
      const of = (side: 'client' | 'real', frame: Uint8Array, flows: Flows): Packet => ({
        ...wires.arriving(side, frame),
        flows,
      });
      for (const [name, count] of [
        ['', 1],
        [`, ${MANY} connections`, MANY],
      ] as const) {
        withPair((pair) => {
          for (const flags of ['S', 'A']) {
            const driver = new Driver(of('client', segment(request, flags), clients(count)), pair.ours);
            driver.run(count);
            driver.close();
          }
          this.#timePackets(`${family} request${name}`, of('client', segment(request, 'A'), clients(count)), pair);
          const replies: Flows = { varying: 'destination', base: client, count, address: real, port: REAL_PORT };
          this.#timePackets(`${family} reply${name}`, of('real', segment(answer, 'A'), replies), pair);
        });
      }
      withPair((pair) => {
        // Each has clients of its own, and both together must fit the tables.
        const fresh = (base: string): Packet => of('client', segment(request, 'S'), { ...clients(1 << 24), base });
        this.#timePackets(`${family} new`, fresh(client), pair, 2048, 14, fresh(otherClient));
        const miss = of('client', segment({ ...request, destination: real }, 'A'), { ...clients(MANY), address: real });
        this.#timePackets(`${family} of no virtual service`, miss, pair);
      });
    }
    wires.remove();
  }

  #same(what: string, a: { retval: number; data: Uint8Array }, b: { retval: number; data: Uint8Array }): void {
    if (a.retval !== b.retval) this.differences.push(`${what}: verdict ${a.retval}, clang's ${b.retval}`);
    else if (Buffer.compare(a.data, b.data) !== 0) this.differences.push(`${what}: the packets differ`);
  }

  #timePackets(
    what: string,
    packet: Packet,
    { ours, theirs }: Pair,
    repeat = 16_384,
    batches = this.#batches,
    others = packet,
  ): void {
    const [a, b, idle] = [new Driver(packet, ours), new Driver(others, theirs), new Driver(packet, empty())] as const;
    this.#time('director', what, () => [a.run(repeat).ns, b.run(repeat).ns, idle.run(repeat).ns], batches);
    for (const driver of [a, b, idle]) driver.close();
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

function compiled(file: string): CollectionSpec {
  const { spec, diagnostics } = compile(file);
  if (spec === undefined) throw new Error(diagnostics.map((diagnostic) => formatDiagnostic(diagnostic)).join('\n'));
  return spec;
}

/** A connection's life, and some strangers. */
function life(request: Ends, answer: Ends): readonly (readonly [string, 'client' | 'real', Uint8Array])[] {
  return [
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
}

function tell(wires: Wires, program: KernelProgram, request: Ends, answer: Ends): TestResult[] {
  return life(request, answer).map(([, side, frame]) => {
    const { frame: data, context } = wires.arriving(side, frame);
    return program.testRun({ data, context });
  });
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
