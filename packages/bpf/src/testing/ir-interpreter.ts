/** Runs IR as it says, without any of the back end: what compiled code is compared with. */
import { compare, evaluate, extend, swap } from '../compiler/back/evaluate.ts';
import type { Base, Instruction, IrFunction, IrProgram, Operand } from '../compiler/ir.ts';
import type { NodeSkb } from '../language/skb.ts';
import type { Simulation } from './simulation.ts';

/** What the program returns, as 64 bits. */
export function interpretIr(program: IrProgram, simulation: Simulation, skb: NodeSkb, maxInstructions = 1e6): bigint {
  return new IrInterpreter(program, simulation, maxInstructions).run(program.functions[0]!, [simulation.enter(skb)]);
}

interface Frame {
  readonly registers: (bigint | undefined)[];
  readonly slots: readonly bigint[];
}

class IrInterpreter {
  readonly #program: IrProgram;
  readonly #simulation: Simulation;
  #budget: number;

  constructor(program: IrProgram, simulation: Simulation, budget: number) {
    this.#program = program;
    this.#simulation = simulation;
    this.#budget = budget;
  }

  run(fn: IrFunction, args: readonly bigint[]): bigint {
    const slots = fn.slots.map(({ size }) => {
      const bytes = new Uint8Array(size).fill(0x5a);
      return this.#simulation.region(() => bytes);
    });
    const frame: Frame = { registers: [], slots };
    fn.params.forEach((param, i) => {
      frame.registers[param] = args[i] ?? 0n;
    });
    let block = fn.blocks[0]!;
    for (;;) {
      for (const one of block.instructions) this.#step(one, frame);
      const { end } = block;
      if (--this.#budget < 0) throw new Error('Cannot go on: the IR runs too long');
      if (end.op === 'return') return BigInt.asUintN(64, value(end.value, frame));
      if (end.op === 'goto') block = fn.blocks[end.to]!;
      else
        block =
          fn.blocks[compare(end.condition, end.width, value(end.a, frame), value(end.b, frame)) ? end.then : end.else]!;
    }
  }

  #function(name: string): IrFunction {
    const fn = this.#program.functions.find((one) => one.name === name);
    if (fn === undefined) throw new Error(`Cannot call ${name}: the program has no such function`);
    return fn;
  }

  #step(one: Instruction, frame: Frame): void {
    const set = (dst: number | undefined, result: bigint): void => {
      if (dst !== undefined) frame.registers[dst] = BigInt.asUintN(64, result);
    };
    const simulation = this.#simulation;
    this.#budget--;
    switch (one.op) {
      case 'const':
        return set(one.dst, one.value);
      case 'move':
        return set(one.dst, register(one.src, frame));
      case 'binary': {
        const result = evaluate(one.kind, one.width, value(one.a, frame), value(one.b, frame));
        return set(one.dst, BigInt.asUintN(one.width, result));
      }
      case 'extend':
        return set(one.dst, extend(register(one.src, frame), one.bits, one.signed));
      case 'swap':
        return set(one.dst, swap(register(one.src, frame), one.bits));
      case 'load': {
        const loaded = simulation.load(address(one.base, one.offset, frame), one.size);
        return set(one.dst, one.signed === true ? BigInt.asIntN(one.size * 8, loaded) : loaded);
      }
      case 'store':
        return simulation.store(address(one.base, one.offset, frame), one.size, value(one.src, frame));
      case 'atomic':
        return set(one.old, this.#atomic(one, frame));
      case 'slotAddress':
        return set(one.dst, frame.slots[one.slot]! + BigInt(one.offset));
      case 'mapAddress':
        return set(one.dst, simulation.mapAddress(one.map));
      case 'mapValueAddress':
        return set(one.dst, simulation.mapValueAddress(one.map, one.offset));
      case 'functionAddress':
        return set(one.dst, simulation.functionAddress(one.name));
      case 'call': {
        const args = one.args.map((arg) => BigInt.asUintN(64, value(arg, frame)));
        return set(
          one.dst,
          simulation.call(one.helper, args, (name, rest) => this.run(this.#function(name), rest)),
        );
      }
      case 'callFunction': {
        const args = one.args.map((arg) => BigInt.asUintN(64, value(arg, frame)));
        return set(one.dst, this.run(this.#function(one.name), args));
      }
    }
  }

  #atomic(one: Extract<Instruction, { op: 'atomic' }>, frame: Frame): bigint {
    const at = address(one.base, one.offset, frame);
    const old = this.#simulation.load(at, one.size);
    const src = value(one.src, frame);
    if (one.kind === 'compareExchange') {
      if (old === BigInt.asUintN(one.size * 8, value(one.expected!, frame))) this.#simulation.store(at, one.size, src);
    } else {
      this.#simulation.store(at, one.size, one.kind === 'exchange' ? src : evaluate(one.kind, 64, old, src));
    }
    return old;
  }
}

function register(reg: number, frame: Frame): bigint {
  const held = frame.registers[reg];
  if (held === undefined) throw new Error(`Register ${reg} is read before it is written`);
  return held;
}

function value(operand: Operand, frame: Frame): bigint {
  return 'reg' in operand ? register(operand.reg, frame) : operand.imm;
}

function address(base: Base, offset: number, frame: Frame): bigint {
  const start = 'reg' in base ? register(base.reg, frame) : frame.slots[base.slot]!;
  return BigInt.asUintN(64, start + BigInt(offset));
}
