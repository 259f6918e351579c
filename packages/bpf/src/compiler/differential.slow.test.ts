/** Random programs mean the same in V8, as IR, as instructions and in the kernel. The seed in the name replays a failure. */
import { describe, expect, test } from 'vitest';
import { loadCollection } from '../kernel/index.ts';
import { type MapDefinition, NodeSkb, type Skb, World } from '../language/index.ts';
import type { MapStore } from '../map-store.ts';
import { interpret, simulate } from '../testing/interpreter.ts';
import { interpretIr } from '../testing/ir-interpreter.ts';
import { itKernel } from '../testing/kernel.ts';
import { Random } from '../testing/random.ts';
import { BODY_LINE, moduleOf, PACKET_BYTES, RandomSource } from '../testing/random-source.ts';
import { type CompileResult, compile, formatDiagnostic } from './index.ts';

const SEED = Number(process.env['SEED'] ?? 20_250_611);
const MODULES = Number(process.env['MODULES'] ?? 5);
const STATEMENTS = 60;
const PACKETS = 100;
const FILE = '/random/program.ts';

/** The module of as many of the lines as the compiler accepts. */
function compileRandom(random: Random): { source: string; result: CompileResult } {
  let lines = new RandomSource(random).body(STATEMENTS);
  for (;;) {
    const source = moduleOf(lines);
    const result = compile(FILE, { files: { [FILE]: source } });
    if (result.diagnostics.length === 0) return { source, result };
    const refused = new Set(result.diagnostics.map(({ line }) => line - BODY_LINE));
    const odd = result.diagnostics.find(({ code, line }) => code === 'BPF1011' || line < BODY_LINE);
    if (odd !== undefined) throw new Error(`${formatDiagnostic(odd)}\n${source}`);
    lines = lines.filter((_, index) => !refused.has(index));
  }
}

interface Outcome {
  readonly result: number;
  readonly packet: string;
  /** Maps live from packet to packet. */
  readonly state: string;
  readonly cells: readonly string[];
}

/** A map by name, in any of the worlds. */
type Maps = (name: 'state' | 'cells') => MapStore;

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

function outcome(result: number | bigint, packet: Uint8Array, maps: Maps): Outcome {
  return {
    result: Number(BigInt.asIntN(32, BigInt(result))),
    packet: hex(packet),
    state: hex(maps('state').lookup(new Uint8Array(4))!),
    cells: [...maps('cells').entries()].map(([key, value]) => `${hex(key)}: ${hex(value)}`).sort(),
  };
}

function packets(random: Random): Uint8Array[] {
  const edges = [0, 1, 0x7f, 0x80, 0xff];
  return Array.from({ length: PACKETS }, (_, i) => {
    const bytes = random.bytes(PACKET_BYTES);
    // Half of them have fields at the ends of their ranges.
    if (i % 2 === 0) for (let at = 14; at < PACKET_BYTES; at++) if (random.chance(60)) bytes[at] = random.pick(edges);
    return bytes;
  });
}

/** What V8 makes of each packet. */
function inNode({ exports }: CompileResult, inputs: readonly Uint8Array[]): Outcome[] {
  const world = new World({ now: () => 0n, random: () => 0 });
  const program = exports?.['program'] as { readonly run: (skb: Skb) => number };
  const maps: Maps = (name) => world.map(exports?.[name] as MapDefinition);
  return inputs.map((input) => {
    const skb = new NodeSkb(input);
    return outcome(world.runTc(program, skb), skb.bytes, maps);
  });
}

describe.each(Array.from({ length: MODULES }, (_, i) => SEED + i))('random programs, seed %i', (seed) => {
  const random = new Random(seed);
  const { source, result } = compileRandom(random);
  const inputs = packets(random);
  const wanted = inNode(result, inputs);

  test('V8 and IR agree', () => {
    const simulation = simulate(result.spec!);
    const maps: Maps = (name) => simulation.map(name);
    inputs.forEach((input, i) => {
      const skb = new NodeSkb(input);
      const verdict = interpretIr(result.ir!.programs[0]!, simulation, skb);
      expect(outcome(verdict, skb.bytes, maps), source).toEqual(wanted[i]);
    });
  });

  test('V8 and instructions agree', () => {
    const simulation = simulate(result.spec!);
    const maps: Maps = (name) => simulation.map(name);
    inputs.forEach((input, i) => {
      const skb = new NodeSkb(input);
      const verdict = interpret(result.spec!.programs[0]!, simulation, skb).result;
      expect(outcome(verdict, skb.bytes, maps), source).toEqual(wanted[i]);
    });
  });

  itKernel('V8 and the kernel agree', () => {
    const collection = loadCollection(result.spec!);
    const maps: Maps = (name) => collection.map(name);
    try {
      inputs.forEach((input, i) => {
        const { retval, data } = collection.program('random').testRun({ data: input });
        expect(outcome(retval, data, maps), source).toEqual(wanted[i]);
      });
    } finally {
      collection.close();
    }
  });
});
