/**
 * Random IR three times over: as it says, compiled and interpreted, compiled and run by the kernel.
 *
 * `SEED=n` repeats one case, `COUNT=n` runs that many.
 */
import { expect, test } from 'vitest';
import { disassemble } from '../../assembler/disassembler.ts';
import { loadCollection } from '../../kernel/index.ts';
import { NodeSkb } from '../../language/skb.ts';
import type { CollectionSpec } from '../../spec.ts';
import { interpret, simulate } from '../../testing/interpreter.ts';
import { interpretIr } from '../../testing/ir-interpreter.ts';
import { describeKernel } from '../../testing/kernel.ts';
import { Random } from '../../testing/random.ts';
import { PACKET_BYTES, randomModule } from '../../testing/random-ir.ts';
import type { Simulation } from '../../testing/simulation.ts';
import type { IrModule } from '../ir.ts';
import { emit } from './index.ts';

const SEED = process.env['SEED'];
const COUNT = Number(process.env['COUNT'] ?? 60);
const FIRST = SEED === undefined ? Math.floor(Math.random() * 1e6) : Number(SEED);
const SEEDS = Array.from({ length: SEED === undefined ? COUNT : 1 }, (_, i) => FIRST + i);

/** All that a program leaves behind. */
interface Outcome {
  readonly verdict: number;
  readonly packet: string;
  readonly maps: Readonly<Record<string, readonly string[]>>;
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

function prepare(seed: number): {
  module: IrModule;
  spec: CollectionSpec;
  packet: Uint8Array;
  cells: Uint8Array[];
  entries: Uint8Array[];
} {
  const module = randomModule(seed, 10 + (seed % 60));
  const random = new Random(seed ^ 0x5eed);
  const packet = random.bytes(PACKET_BYTES + random.below(16));
  packet.set([0x08, 0x00], 12);
  return {
    module,
    spec: emit(module),
    packet,
    cells: Array.from({ length: 4 }, () => random.bytes(16)),
    entries: Array.from({ length: 4 }, () => random.bytes(16)),
  };
}

type Prepared = ReturnType<typeof prepare>;

const key = (index: number, size: number): Uint8Array => {
  const bytes = new Uint8Array(size);
  bytes[0] = index;
  return bytes;
};

function inNode(
  { spec, packet, cells, entries }: Prepared,
  run: (simulation: Simulation, skb: NodeSkb) => bigint,
): Outcome {
  const simulation = simulate(spec);
  for (const [i, cell] of cells.entries()) simulation.map('cells').update(key(i, 4), cell);
  for (const [i, entry] of entries.entries()) simulation.map('hash').update(key(i, 8), entry);
  const skb = new NodeSkb(packet);
  const verdict = Number(BigInt.asUintN(32, run(simulation, skb)));
  const maps = spec.maps.map(({ name }) => [
    name,
    [...simulation.map(name).entries()].map(([k, v]) => hex(k) + hex(v)).sort(),
  ]);
  return { verdict, packet: hex(skb.bytes), maps: Object.fromEntries(maps) };
}

function inKernel({ spec, packet, cells, entries }: Prepared): Outcome {
  const collection = loadCollection(spec);
  try {
    for (const [i, cell] of cells.entries()) collection.map('cells').update(key(i, 4), cell);
    for (const [i, entry] of entries.entries()) collection.map('hash').update(key(i, 8), entry);
    const { retval, data } = collection.program('entry').testRun({ data: packet });
    const maps = spec.maps.map(({ name }) => [
      name,
      [...collection.map(name).entries()].map(([k, v]) => hex(k) + hex(v)).sort(),
    ]);
    return { verdict: retval >>> 0, packet: hex(data), maps: Object.fromEntries(maps) };
  } finally {
    collection.close();
  }
}

const listing = ({ spec }: Prepared): string => disassemble(Buffer.from(spec.programs[0]!.instructions, 'base64'));

test(`compiled code does what the IR says (seeds from ${FIRST})`, () => {
  for (const seed of SEEDS) {
    const prepared = prepare(seed);
    const said = inNode(prepared, (simulation, skb) => interpretIr(prepared.module.programs[0]!, simulation, skb));
    const done = inNode(prepared, (simulation, skb) => interpret(prepared.spec.programs[0]!, simulation, skb).result);
    expect(done, `SEED=${seed}\n${SEED === undefined ? '' : listing(prepared)}`).toEqual(said);
  }
});

describeKernel('in the kernel', () => {
  test(`the verifier accepts it and the kernel does the same (seeds from ${FIRST})`, () => {
    for (const seed of SEEDS) {
      const prepared = prepare(seed);
      const said = inNode(prepared, (simulation, skb) => interpretIr(prepared.module.programs[0]!, simulation, skb));
      let done: Outcome;
      try {
        done = inKernel(prepared);
      } catch (error) {
        throw new Error(`SEED=${seed}: ${(error as Error).message}`, { cause: error });
      }
      expect(done, `SEED=${seed}`).toEqual(said);
    }
  });
});
