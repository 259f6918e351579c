/**
 * Random programs, as data planes are written, on random packets and map contents: in V8, in the interpreter of compiled
 * code, and in the kernel. After each packet the verdict, the packet's bytes, its marks and all maps must be equal.
 *
 * The seed is printed; `SEED=n` repeats one program, `COUNT=n` tries that many, `SHOW=1` prints the source.
 */
import { expect, test } from 'vitest';
import { type Collection, loadCollection, readSkbContext, skbContext, VerifierError } from '../kernel/index.ts';
import type { MapDefinition } from '../language/map.ts';
import { NodeSkb, type Skb } from '../language/skb.ts';
import { World } from '../language/world.ts';
import type { MapStore } from '../map-store.ts';
import { interpret, simulate } from '../testing/interpreter.ts';
import { describeKernel } from '../testing/kernel.ts';
import { Random } from '../testing/random.ts';
import { RandomProgram } from '../testing/random-program.ts';
import { type CompileResult, compile, formatDiagnostic } from './index.ts';

const SEED = process.env['SEED'];
const COUNT = Number(process.env['COUNT'] ?? 4);
const FIRST = SEED === undefined ? Math.floor(Math.random() * 1e6) : Number(SEED);
const SEEDS = Array.from({ length: SEED === undefined ? COUNT : 1 }, (_, i) => FIRST + i);
const FILE = '/fuzz/program.ts';
const PACKETS = 30;
const COMPARED = ['table', 'cells', 'settings'] as const;

interface Input {
  readonly packet: Uint8Array;
  readonly mark: number;
  readonly priority: number;
}

interface Case {
  readonly source: string;
  readonly compiled: CompileResult;
  readonly inputs: readonly Input[];
  /** What user space put there before: map, key, value. */
  readonly contents: readonly (readonly [map: string, key: Uint8Array, value: Uint8Array])[];
}

/** All that one packet leaves behind. */
interface Outcome {
  readonly verdict: number;
  readonly packet: string;
  readonly marks: string;
  readonly maps: Readonly<Record<string, readonly string[]>>;
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/**
 * What the compiler may say of a valid program: it needs more stack than there is; a loop that can be proved to run no
 * round counts beyond its bound.
 */
const REFUSALS: ReadonlySet<string> = new Set(['BPF4030', 'BPF3004']);

/** Undefined where the compiler may refuse the program. */
function caseOf(seed: number): Case | undefined {
  const random = new Random(seed);
  const source = new RandomProgram(random).module(4 + random.below(14));
  if (process.env['SHOW'] !== undefined) process.stdout.write(source);
  const compiled = compile(FILE, { files: { [FILE]: source } });
  if (compiled.diagnostics.some(({ code }) => REFUSALS.has(code))) return undefined;
  if (compiled.spec === undefined) {
    throw new Error(`SEED=${seed}\n${compiled.diagnostics.map((one) => formatDiagnostic(one)).join('\n')}\n${source}`);
  }
  const size = (name: string): number => compiled.spec!.maps.find((map) => map.name === name)!.valueSize;
  const contents = [0, 1, 2, 3].flatMap((i): (readonly [string, Uint8Array, Uint8Array])[] => {
    const key = Uint8Array.of(0, 0, 0, i & 1, 0, i >> 1, 1, 0);
    return [
      ['cells', Uint8Array.of(i, 0, 0, 0), random.bytes(size('cells'))],
      ['table', key, random.bytes(size('table'))],
    ];
  });
  return { source, compiled, inputs: Array.from({ length: PACKETS }, () => inputOf(random)), contents };
}

function inputOf(random: Random): Input {
  const packet = random.bytes(random.chance(80) ? 64 + random.below(40) : 15 + random.below(50));
  // To this host; what the kernel makes of the link header is not what is tested. It refuses IPv4 with no room for it.
  packet.fill(0, 0, 6);
  packet.set(packet.length < 34 ? [0x88, 0xb5] : [0x08, 0x00], 12);
  for (let i = 14; i < packet.length; i++) if (random.chance(40)) packet[i] = random.pick([0, 1, 2, 0x45, 0x80, 0xff]);
  return { packet, mark: random.chance(50) ? random.u32() : random.below(4), priority: random.below(8) };
}

function outcome(
  verdict: number,
  packet: Uint8Array,
  mark: number,
  priority: number,
  map: (name: string) => MapStore,
): Outcome {
  const maps = COMPARED.map((name) => [name, [...map(name).entries()].map(([k, v]) => `${hex(k)} ${hex(v)}`).sort()]);
  return {
    verdict: verdict >>> 0,
    packet: hex(packet),
    marks: `${mark >>> 0} ${priority >>> 0}`,
    maps: Object.fromEntries(maps),
  };
}

/** Runs the packets one after the other in a world, by whatever `run` does with each. */
function inNode({ inputs, contents }: Case, map: (name: string) => MapStore, run: (skb: NodeSkb) => number): Outcome[] {
  for (const [name, key, value] of contents) map(name).update(key, value);
  return inputs.map(({ packet, mark, priority }) => {
    const skb = new NodeSkb(packet, { mark, priority });
    const verdict = run(skb);
    return outcome(verdict, skb.bytes, skb.mark, skb.priority, map);
  });
}

function inV8(one: Case): Outcome[] {
  const exports = one.compiled.exports!;
  const program = exports['program'] as { readonly run: (skb: Skb) => number };
  const world = new World({ now: () => 0n, random: () => 0 });
  return inNode(
    one,
    (name) => world.map(exports[name] as MapDefinition),
    (skb) => world.runTc(program, skb),
  );
}

function inInterpreter(one: Case): Outcome[] {
  const spec = one.compiled.spec!;
  const simulation = simulate(spec);
  return inNode(
    one,
    (name) => simulation.map(name),
    (skb) => {
      return Number(BigInt.asUintN(32, interpret(spec.programs[0]!, simulation, skb).result));
    },
  );
}

function inKernel({ inputs, contents }: Case, collection: Collection): Outcome[] {
  for (const [name, key, value] of contents) collection.map(name).update(key, value);
  return inputs.map(({ packet, mark, priority }) => {
    const { retval, data, context } = collection
      .program('fuzz')
      .testRun({ data: packet, context: skbContext({ mark, priority }) });
    const after = readSkbContext(context);
    return outcome(retval, data, after.mark, after.priority, (name) => collection.map(name));
  });
}

function compareEach(seed: number, one: Case, wanted: readonly Outcome[], found: readonly Outcome[]): void {
  wanted.forEach((outcome, i) => {
    expect(found[i], `SEED=${seed}, packet ${i}: ${hex(one.inputs[i]!.packet)}\n${one.source}`).toEqual(outcome);
  });
}

test(`compiled programs do in the interpreter what they do in V8 (seeds from ${FIRST})`, () => {
  for (const seed of SEEDS) {
    const one = caseOf(seed);
    if (one !== undefined) compareEach(seed, one, inV8(one), inInterpreter(one));
  }
});

describeKernel('in the kernel', () => {
  test(`programs do what they do in V8 (seeds from ${FIRST})`, () => {
    const tooLong: number[] = [];
    for (const seed of SEEDS) {
      const one = caseOf(seed);
      if (one === undefined) continue;
      let collection: Collection;
      try {
        collection = loadCollection(one.compiled.spec!);
      } catch (error) {
        // Nested loops over unknown data may take more steps than the verifier makes: its limit, no fault of the code.
        if (error instanceof VerifierError && error.code === 'E2BIG') {
          tooLong.push(seed);
          continue;
        }
        throw new Error(`SEED=${seed}: ${(error as Error).message}\n${one.source}`, { cause: error });
      }
      try {
        compareEach(seed, one, inV8(one), inKernel(one, collection));
      } finally {
        collection.close();
      }
    }
    expect(tooLong.length, `too long for the verifier: seeds ${tooLong}`).toBeLessThan(2 + SEEDS.length / 100);
  });
});
