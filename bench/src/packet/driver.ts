/**
 * How a program is timed packet by packet.
 *
 * The kernel's test run repeats a program on one packet, and each run sees the packet as the one before left it: rewritten,
 * one hop less, and never a new connection. So a small program goes first: it makes the packet the next client's, as if it
 * had just arrived, and jumps into the program to be timed (a tail call). The same before an empty program is what the
 * harness itself costs, and is taken off.
 *
 *     n   = counter++ * odd, the low bits          every client once, in no order that a cache likes
 *     varying side  = base + (n >> 15), port 1024 + (n & 0x7fff)
 *     fixed side    = what the program may have rewritten, put back; time to live 64
 */
import type { MapSpec, ProgramSpec, Relocation } from '@ipvsd/bpf';
import { KernelMap, KernelProgram } from '@ipvsd/bpf/kernel';
import { parseIp } from '@ipvsd/linux';
import { type Estimate, estimate } from '../report/statistics.ts';

export interface Flows {
  /** The side that is a client's, of which there are many. */
  readonly varying: 'source' | 'destination';
  readonly base: string;
  /** How many; a power of two. */
  readonly count: number;
  /** Only so many of those that came first, in another order than they came; a power of two. */
  readonly among?: number;
  /** The other side. */
  readonly address: string;
  readonly port: number;
}

/** A frame that the driver makes one of many, and what it arrives on. */
export interface Packet {
  readonly frame: Uint8Array;
  readonly context: Uint8Array;
  readonly flows: Flows;
}

const FAMILIES = {
  4: { source: 14 + 12, destination: 14 + 16, ttl: 14 + 8, ports: 14 + 20, bytes: 4 },
  6: { source: 14 + 8, destination: 14 + 24, ttl: 14 + 7, ports: 14 + 40, bytes: 16 },
} as const;

const PORTS_PER_ADDRESS_BITS = 15;
const ODD = 0x9e3779b1 | 0;
const OTHER_ODD = 0x85ebca6b | 0;
const TAIL_CALL = 12;
const CONTEXT_DATA = 76;
const CONTEXT_DATA_END = 80;

export class Driver {
  readonly #maps: readonly KernelMap[];
  readonly #program: KernelProgram;
  readonly #packet: Packet;

  constructor(packet: Packet, target: { readonly fd: number }) {
    const state = KernelMap.create(mapSpec('bench_state', 'array', 8));
    const targets = KernelMap.create(mapSpec('bench_target', 'progArray', 4));
    targets.setProgram(0, target);
    this.#maps = [state, targets];
    const maps = new Map(this.#maps.map((map) => [map.name, map]));
    this.#program = KernelProgram.load(driverSpec(packet.flows), { maps });
    this.#packet = packet;
  }

  /** Mean nanoseconds of a run, and what the last one answered. */
  run(repeat: number): { ns: number; verdict: number; frame: Uint8Array } {
    const { frame, context } = this.#packet;
    const { durationNs, retval, data } = this.#program.testRun({ data: frame, context, repeat });
    return { ns: durationNs, verdict: retval, frame: data };
  }

  close(): void {
    this.#program.close();
    for (const map of this.#maps) map.close();
  }
}

export interface Timing {
  readonly repeat: number;
  readonly batches: number;
}

/** Nanoseconds of `target` for such packets, the harness taken off. */
export function timeProgram(
  packet: Packet,
  target: KernelProgram,
  { repeat, batches }: Timing,
  random: () => number,
): Estimate & { verdict: number } {
  const driver = new Driver(packet, target);
  const idle = new Driver(packet, empty());
  try {
    idle.run(repeat);
    let verdict = 0;
    const differences = Array.from({ length: batches }, () => {
      const before = idle.run(repeat).ns;
      const run = driver.run(repeat);
      verdict = run.verdict;
      return run.ns - (before + idle.run(repeat).ns) / 2;
    });
    return { ...estimate(differences, random), verdict };
  } finally {
    driver.close();
    idle.close();
  }
}

let emptyProgram: KernelProgram | undefined;

/** A program that only says "pass". */
export function empty(): KernelProgram {
  emptyProgram ??= KernelProgram.load(specOf('bench_empty', [mov(0, 0), exit()], []), { maps: new Map() });
  return emptyProgram;
}

function driverSpec(flows: Flows): ProgramSpec {
  const varying = parseIp(flows.base);
  const fixed = parseIp(flows.address);
  const at = FAMILIES[varying.length === 4 ? 4 : 6];
  const [varyingAt, fixedAt] = flows.varying === 'source' ? [at.source, at.destination] : [at.destination, at.source];
  const [varyingPort, fixedPort] = flows.varying === 'source' ? [at.ports, at.ports + 2] : [at.ports + 2, at.ports];
  const code: Instruction[] = [
    copy(6, 1),
    load(7, 1, CONTEXT_DATA),
    load(8, 1, CONTEXT_DATA_END),
    copy(2, 7),
    op(0x07, 2, 0, 0, at.ports + 4),
    // Too short: to the exit. Patched below, when it is known how far that is.
    op(0x2d, 2, 8, 0, 0),
  ];
  const jumpFrom = code.length - 1;
  const relocations: Relocation[] = [{ kind: 'mapValue', instruction: code.length, map: 'bench_state', offset: 0 }];
  code.push(op(0x18, 9, 2, 0, 0), op(0, 0, 0, 0, 0));
  code.push(load(1, 9, 0), copy(2, 1), op(0x07, 2, 0, 0, 1), op(0x63, 9, 2, 0, 0));
  if (flows.among !== undefined) code.push(op(0x24, 1, 0, 0, OTHER_ODD), op(0x54, 1, 0, 0, flows.among - 1));
  // n, then its two halves as they lie on the wire.
  code.push(op(0x24, 1, 0, 0, ODD), op(0x54, 1, 0, 0, flows.count - 1), copy(2, 1));
  code.push(op(0x74, 1, 0, 0, PORTS_PER_ADDRESS_BITS), op(0x54, 2, 0, 0, (1 << PORTS_PER_ADDRESS_BITS) - 1));
  const last = new DataView(varying.buffer, varying.byteOffset).getInt32(varying.length - 4);
  code.push(op(0x04, 1, 0, 0, last), op(0x04, 2, 0, 0, 1024), op(0xdc, 1, 0, 0, 32), op(0xdc, 2, 0, 0, 16));
  for (const [offset, word] of words(varying.subarray(0, -4))) code.push(op(0x62, 7, 0, varyingAt + offset, word));
  code.push(op(0x63, 7, 1, varyingAt + at.bytes - 4, 0), op(0x6b, 7, 2, varyingPort, 0));
  for (const [offset, word] of words(fixed)) code.push(op(0x62, 7, 0, fixedAt + offset, word));
  code.push(op(0x6a, 7, 0, fixedPort, (flows.port >> 8) | ((flows.port & 255) << 8)), op(0x72, 7, 0, at.ttl, 64));
  code.push(copy(1, 6));
  relocations.push({ kind: 'map', instruction: code.length, map: 'bench_target' });
  code.push(op(0x18, 2, 1, 0, 0), op(0, 0, 0, 0, 0), mov(3, 0), op(0x85, 0, 0, 0, TAIL_CALL));
  code[jumpFrom] = op(0x2d, 2, 8, code.length - jumpFrom - 1, 0);
  code.push(mov(0, -1), exit());
  return specOf('bench_driver', code, relocations);
}

function* words(bytes: Uint8Array): Generator<[number, number]> {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  for (let at = 0; at < bytes.length; at += 4) yield [at, view.getInt32(at, true)];
}

// A dozen instructions need no compiler: opcode, registers, offset, constant ---------------------------------------------

type Instruction = Uint8Array;

function op(opcode: number, to: number, from: number, offset: number, constant: number): Instruction {
  const bytes = new Uint8Array(8);
  const view = new DataView(bytes.buffer);
  bytes[0] = opcode;
  bytes[1] = to | (from << 4);
  view.setInt16(2, offset, true);
  view.setInt32(4, constant, true);
  return bytes;
}
const mov = (to: number, constant: number): Instruction => op(0xb7, to, 0, 0, constant);
const copy = (to: number, from: number): Instruction => op(0xbf, to, from, 0, 0);
const load = (to: number, from: number, offset: number): Instruction => op(0x61, to, from, offset, 0);
const exit = (): Instruction => op(0x95, 0, 0, 0, 0);

function specOf(name: string, code: readonly Instruction[], relocations: readonly Relocation[]): ProgramSpec {
  const instructions = Buffer.concat(code).toString('base64');
  return { name, type: 'tc', instructions, relocations, functions: [], lines: [], stackBytes: 0 };
}

function mapSpec(name: string, type: MapSpec['type'], valueSize: number): MapSpec {
  return { name, type, keySize: 4, valueSize, maxEntries: 1, flags: 0, keyTypeId: 0, valueTypeId: 0 };
}
