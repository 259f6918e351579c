/** Runs IR as it says, without any of the back end: what compiled code is compared with. */
import { compare, evaluate, extend, swap } from '../compiler/back/evaluate.ts';
import { definedBy } from '../compiler/back/instruction.ts';
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
    this.#budget--;
    const result = this.#result(one, frame);
    const dst = definedBy(one);
    if (dst !== undefined && result !== undefined) frame.registers[dst] = BigInt.asUintN(64, result);
  }

  #result(one: Instruction, frame: Frame): bigint | undefined {
    const simulation = this.#simulation;
    const values = (args: readonly Operand[]): bigint[] => args.map((arg) => BigInt.asUintN(64, value(arg, frame)));
    switch (one.op) {
      case 'const':
        return one.value;
      case 'move':
        return register(one.src, frame);
      case 'binary':
        return BigInt.asUintN(one.width, evaluate(one.kind, one.width, value(one.a, frame), value(one.b, frame)));
      case 'extend':
        return extend(register(one.src, frame), one.bits, one.signed);
      case 'swap':
        return swap(register(one.src, frame), one.bits);
      case 'load': {
        const loaded = simulation.load(address(one.base, one.offset, frame), one.size);
        return one.signed === true ? BigInt.asIntN(one.size * 8, loaded) : loaded;
      }
      case 'store':
        simulation.store(address(one.base, one.offset, frame), one.size, value(one.src, frame));
        return undefined;
      case 'atomic':
        return this.#atomic(one, frame);
      case 'slotAddress':
        return frame.slots[one.slot]! + BigInt(one.offset);
      case 'mapAddress':
        return simulation.mapAddress(one.map);
      case 'mapValueAddress':
        return simulation.mapValueAddress(one.map, one.offset);
      case 'functionAddress':
        return simulation.functionAddress(one.name);
      case 'call':
        return simulation.call(one.helper, values(one.args), (name, args) => this.run(this.#function(name), args));
      case 'callFunction':
        return this.run(this.#function(one.name), values(one.args));
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
