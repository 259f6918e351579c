/**
 * Runs compiled programs in Node, instruction by instruction, so that what the compiler made is tested without root.
 *
 * Stricter than a processor: reading a register that a call has left behind, or memory that is not there, is an exception.
 */
import {
  ALU,
  ATOMIC,
  CLASS,
  decode,
  FETCH,
  FROM_REGISTER,
  type Insn,
  JUMP,
  MODE,
  PSEUDO,
} from '../assembler/assembler.ts';
import { describe } from '../assembler/disassembler.ts';
import { compare, evaluate, swap } from '../compiler/back/evaluate.ts';
import type { BinaryKind, Condition } from '../compiler/ir.ts';
import type { NodeSkb } from '../language/skb.ts';
import type { CollectionSpec, ProgramSpec } from '../spec.ts';
import { type Simulated, Simulation } from './simulation.ts';

const STACK_BYTES = 512;
const MAX_FRAMES = 8;

const ALU_KINDS = new Map<number, BinaryKind>(
  (['add', 'sub', 'mul', 'div', 'or', 'and', 'shl', 'shr', 'mod', 'xor', 'sar'] as const).map((kind) => [
    ALU[kind],
    kind,
  ]),
);
const CONDITIONS = new Map<number, Condition>(
  (['eq', 'ne', 'lt', 'le', 'gt', 'ge', 'slt', 'sle', 'sgt', 'sge', 'set'] as const).map((kind) => [JUMP[kind], kind]),
);
const SIZES: Readonly<Record<number, 1 | 2 | 4 | 8>> = { 0: 4, 8: 2, 16: 1, 24: 8 };

export interface Interpreted {
  /** r0 at the end, as 64 bits. */
  readonly result: bigint;
  readonly instructions: number;
}

/** A simulation with the collection's maps. */
export function simulate(spec: CollectionSpec, options: Omit<Simulated, 'maps'> = {}): Simulation {
  return new Simulation({ ...options, maps: spec.maps });
}

export function interpret(
  program: ProgramSpec,
  simulation: Simulation,
  skb: NodeSkb,
  maxInstructions = 1e6,
): Interpreted {
  const interpreter = new Interpreter(program, simulation, maxInstructions);
  const result = interpreter.run(0, [simulation.enter(skb)]);
  return { result, instructions: interpreter.executed };
}

type Registers = (bigint | undefined)[];

class Interpreter {
  executed = 0;
  readonly #insns: readonly Insn[];
  readonly #program: ProgramSpec;
  readonly #simulation: Simulation;
  readonly #limit: number;
  #depth = 0;

  constructor(program: ProgramSpec, simulation: Simulation, limit: number) {
    this.#insns = decode(Buffer.from(program.instructions, 'base64'));
    this.#program = program;
    this.#simulation = simulation;
    this.#limit = limit;
  }

  /** Runs the function that starts at `slot`. */
  run(slot: number, args: readonly bigint[]): bigint {
    if (++this.#depth > MAX_FRAMES) throw new Error(`Cannot nest more than ${MAX_FRAMES} calls`);
    // Not zeros: what reads the stack before writing it shall not get away with it.
    const stack = new Uint8Array(STACK_BYTES).fill(0xa5);
    const registers: Registers = [undefined, ...args];
    registers[10] = this.#simulation.region(() => stack) + BigInt(STACK_BYTES);
    let pc = slot;
    for (;;) {
      const one = this.#insns[pc];
      if (one === undefined) throw new Error(`Control leaves the program at ${pc}`);
      if (++this.executed > this.#limit) throw new Error(`Cannot run more than ${this.#limit} instructions`);
      try {
        if (one.opcode === (CLASS.jmp | JUMP.exit)) break;
        pc = this.#step(one, pc, registers);
      } catch (error) {
        if (!(error instanceof Error) || error.message.startsWith('At ')) throw error;
        throw new Error(`At ${pc}: ${describe(one, this.#insns[pc + 1])}: ${error.message}`);
      }
    }
    this.#depth--;
    return read(registers, 0);
  }

  /** The next slot. */
  #step(one: Insn, pc: number, registers: Registers): number {
    switch (one.opcode & 7) {
      case CLASS.alu64:
      case CLASS.alu:
        registers[one.dst] = alu(one, registers);
        return pc + 1;
      case CLASS.jmp:
      case CLASS.jmp32:
        return this.#jump(one, pc, registers);
      case CLASS.ldx: {
        const address = read(registers, one.src) + BigInt(one.offset);
        registers[one.dst] = this.#simulation.load(BigInt.asUintN(64, address), SIZES[one.opcode & 0x18]!);
        return pc + 1;
      }
      case CLASS.st:
      case CLASS.stx:
        this.#store(one, registers);
        return pc + 1;
      default:
        registers[one.dst] = this.#constant(one, pc);
        return pc + 2;
    }
  }

  #jump(one: Insn, pc: number, registers: Registers): number {
    const op = one.opcode & 0xf0;
    if (op === JUMP.always) return pc + 1 + ((one.opcode & 7) === CLASS.jmp32 ? one.imm : one.offset);
    if (op === JUMP.call) {
      registers[0] = this.#call(one, pc, registers);
      registers.fill(undefined, 1, 6);
      return pc + 1;
    }
    const width = (one.opcode & 7) === CLASS.jmp ? 64 : 32;
    const right = one.opcode & FROM_REGISTER ? read(registers, one.src) : BigInt(one.imm);
    return pc + 1 + (compare(CONDITIONS.get(op)!, width, read(registers, one.dst), right) ? one.offset : 0);
  }

  #call(one: Insn, pc: number, registers: Registers): bigint {
    const args = registers.slice(1, 6).map((value) => value ?? 0n);
    if (one.src === 1) return this.run(pc + 1 + one.imm, args);
    return this.#simulation.call(one.imm, args, (name, callbackArgs) => {
      const start = this.#program.functions.find((fn) => fn.name === name)!.instruction;
      return this.run(start, callbackArgs);
    });
  }

  #store(one: Insn, registers: Registers): void {
    const address = BigInt.asUintN(64, read(registers, one.dst) + BigInt(one.offset));
    const size = SIZES[one.opcode & 0x18]!;
    if ((one.opcode & 7) === CLASS.st) {
      this.#simulation.store(address, size, BigInt(one.imm));
      return;
    }
    if ((one.opcode & 0xe0) !== MODE.atomic) {
      this.#simulation.store(address, size, read(registers, one.src));
      return;
    }
    this.#atomic(one, address, size as 4 | 8, registers);
  }

  #atomic(one: Insn, address: bigint, size: 4 | 8, registers: Registers): void {
    const old = this.#simulation.load(address, size);
    const src = read(registers, one.src);
    if (one.imm === ATOMIC.compareExchange) {
      const expected = BigInt.asUintN(size * 8, read(registers, 0));
      if (old === expected) this.#simulation.store(address, size, src);
      registers[0] = old;
      return;
    }
    const kind = ALU_KINDS.get(one.imm & 0xf0);
    const next = one.imm === ATOMIC.exchange ? src : evaluate(kind!, 64, old, src);
    this.#simulation.store(address, size, next);
    if (one.imm & FETCH) registers[one.src] = old;
  }

  #constant(one: Insn, pc: number): bigint {
    const high = this.#insns[pc + 1]!.imm;
    const relocation = this.#program.relocations.find(({ instruction }) => instruction === pc);
    if (one.src === PSEUDO.mapFd) return this.#simulation.mapAddress(relocation!.map);
    if (one.src === PSEUDO.mapValue) {
      const offset = relocation?.kind === 'mapValue' ? relocation.offset : 0;
      return this.#simulation.mapValueAddress(relocation!.map, offset);
    }
    if (one.src === PSEUDO.function) {
      const start = pc + 1 + one.imm;
      const target = this.#program.functions.find(({ instruction }) => instruction === start);
      if (target === undefined) throw new Error(`No function starts at ${start}`);
      return this.#simulation.functionAddress(target.name);
    }
    return BigInt.asUintN(64, (BigInt(high) << 32n) | BigInt(one.imm >>> 0));
  }
}

function alu(one: Insn, registers: Registers): bigint {
  const op = one.opcode & 0xf0;
  const width = (one.opcode & 7) === CLASS.alu64 ? 64 : 32;
  const src = (): bigint => (one.opcode & FROM_REGISTER ? read(registers, one.src) : BigInt(one.imm));
  const cut = (value: bigint): bigint => BigInt.asUintN(64, value);
  if (op === ALU.mov) return BigInt.asUintN(width, src());
  if (op === ALU.end) return cut(swap(read(registers, one.dst), one.imm as 16 | 32 | 64));
  if (op === ALU.neg) return BigInt.asUintN(width, -read(registers, one.dst));
  return cut(evaluate(ALU_KINDS.get(op)!, width, read(registers, one.dst), src()));
}

function read(registers: Registers, reg: number): bigint {
  const value = registers[reg];
  if (value === undefined) throw new Error(`r${reg} holds nothing`);
  return value;
}
