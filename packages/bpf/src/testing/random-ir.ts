/**
 * Random IR that the verifier accepts: arithmetic of all widths, branches, loops, stack slots, map values, packet bytes,
 * helper calls and subprograms in between, with more values alive than there are registers.
 */
import type { BinaryKind, Condition, IrModule, Register } from '../compiler/ir.ts';
import { FunctionBuilder, irMap, moduleOf, type Value } from './ir-builder.ts';
import { Random } from './random.ts';

export const PACKET_BYTES = 64;
export const RESULTS = 16;
export const RANDOM_MAPS = [
  irMap({ name: 'results', type: 'array', maxEntries: 1, valueSize: RESULTS * 8 }),
  irMap({ name: 'cells', type: 'array', maxEntries: 4, valueSize: 16 }),
  irMap({ name: 'hash', type: 'hash', maxEntries: 8, keySize: 8, valueSize: 16 }),
];

type Type = 'u32' | 'i32' | 'u64';
interface Variable {
  readonly reg: Register;
  readonly type: Type;
}

const KINDS: readonly BinaryKind[] = ['add', 'sub', 'mul', 'div', 'mod', 'and', 'or', 'xor', 'shl', 'shr', 'sar'];
const EQUALITY: readonly Condition[] = ['eq', 'ne'];
const UNSIGNED: readonly Condition[] = ['lt', 'le', 'gt', 'ge', 'set'];
const SIGNED: readonly Condition[] = ['slt', 'sle', 'sgt', 'sge'];
const INTERESTING = [0n, 1n, 2n, 3n, 4n, 7n, 8n, 255n, 256n, 0xffffn, 0x7fff_ffffn, 0x8000_0000n, 0xffff_ffffn];

export function randomModule(seed: number, size = 40): IrModule {
  const random = new Random(seed);
  const subprograms = random.chance(40) ? [scalarFunction(random, 'helper_a'), scalarFunction(random, 'helper_b')] : [];
  const entry = new Generator(random, new FunctionBuilder('entry'), subprograms).program(size);
  return moduleOf([entry, ...subprograms], RANDOM_MAPS);
}

function scalarFunction(random: Random, name: string): FunctionBuilder {
  const f = new FunctionBuilder(name, 'subprogram', 1 + random.below(5));
  const generator = new Generator(random, f, []);
  for (const reg of f.params) generator.variables.push({ reg, type: 'u64' });
  generator.statements(3 + random.below(10), 1);
  f.return(generator.any('u64'));
  return f;
}

class Generator {
  readonly variables: Variable[] = [];
  readonly #random: Random;
  readonly #f: FunctionBuilder;
  readonly #subprograms: readonly FunctionBuilder[];
  readonly #slots: number[] = [];
  readonly #frozen = new Set<Register>();
  #packet: Register | undefined;
  #results: Register | undefined;
  #loops = 0;
  /** A pointer into the hash is in use: an update would put another element in its place. */
  #held = false;

  constructor(random: Random, f: FunctionBuilder, subprograms: readonly FunctionBuilder[]) {
    this.#random = random;
    this.#f = f;
    this.#subprograms = subprograms;
  }

  program(size: number): FunctionBuilder {
    const f = this.#f;
    const random = this.#random;
    const context = f.params[0]!;
    const [short, enough] = [f.block(), f.block()];
    const data = f.load(4, { reg: context }, 76);
    const end = f.load(4, { reg: context }, 80);
    f.if('gt', f.binary('add', data, BigInt(PACKET_BYTES)), end, short, enough);
    f.at(short).return(99n);
    f.at(enough);
    this.#packet = f.binary('add', data, BigInt(random.below(8)));
    this.#results = f.mapValueAddress('results', 0);
    for (let i = 0; i < 3; i++) {
      const slot = f.slot(16, false);
      for (const offset of [0, 8]) f.store(8, { slot }, offset, random.u64());
      this.#slots.push(slot);
    }
    const inputs = 2 + random.below(14);
    for (let i = 0; i < inputs; i++) this.#load();
    this.statements(size, 3);
    for (let i = 0; i < RESULTS && i < this.variables.length; i++) {
      f.store(8, { reg: this.#results }, i * 8, this.variables[this.variables.length - 1 - i]!.reg);
    }
    f.return(this.any('u32'));
    return f;
  }

  statements(count: number, depth: number): void {
    for (let i = 0; i < count; i++) this.#statement(depth);
  }

  /** A variable or a constant of a type. */
  any(type: Type): Value {
    const random = this.#random;
    const fitting = this.variables.filter((v) => v.type === type || (type === 'u64' && v.type === 'u32'));
    if (fitting.length > 0 && random.chance(75)) return random.pick(fitting).reg;
    const value = random.chance(60)
      ? random.pick(INTERESTING)
      : random.chance(50)
        ? BigInt(random.u32())
        : random.u64();
    if (type === 'u32') return BigInt.asUintN(32, value);
    return type === 'i32' ? BigInt.asIntN(32, value) : BigInt.asIntN(64, value);
  }

  #statement(depth: number): void {
    const random = this.#random;
    const choice = random.below(100);
    if (choice < 45) this.#arithmetic();
    else if (choice < 55) this.#load();
    else if (choice < 62) this.#store();
    else if (choice < 72) this.#assign();
    else if (choice < 78) this.#call();
    else if (depth === 0) this.#arithmetic();
    else if (choice < 88) this.#branch(depth);
    else if (choice < 93) this.#boolean(depth);
    else if (choice < 96) this.#loop(depth);
    else this.#lookup(depth);
  }

  /** A new register, or sometimes one that exists and has the type. */
  #target(type: Type): Register {
    const random = this.#random;
    const existing = this.variables.filter((v) => v.type === type && !this.#frozen.has(v.reg));
    if (existing.length > 0 && random.chance(30)) return random.pick(existing).reg;
    return this.#f.register();
  }

  #define(reg: Register, type: Type): void {
    if (!this.variables.some((v) => v.reg === reg)) this.variables.push({ reg, type });
  }

  #arithmetic(): void {
    const random = this.#random;
    const f = this.#f;
    const choice = random.below(10);
    if (choice < 7 || this.variables.length === 0) {
      const width = random.chance(50) ? 32 : 64;
      const type = width === 32 ? 'u32' : 'u64';
      const from = random.chance(20) ? 'i32' : type;
      const kind = random.pick(KINDS);
      let b = this.any(from);
      // A constant shift beyond the width is no instruction.
      if (typeof b === 'bigint' && kind.startsWith('sh')) b &= BigInt(width - 1);
      if (typeof b === 'bigint' && kind === 'sar') b &= BigInt(width - 1);
      const a = this.any(from);
      const dst = this.#target(type);
      f.binary(kind, a, b, width, dst);
      this.#define(dst, type);
      return;
    }
    const src = random.pick(this.variables).reg;
    if (choice < 9) {
      const bits = random.pick([8, 16, 32] as const);
      const signed = random.chance(40);
      const type = signed ? 'i32' : 'u32';
      const dst = this.#target(type);
      f.extend(src, bits, signed, dst);
      this.#define(dst, type);
      return;
    }
    const bits = random.pick([16, 32, 64] as const);
    const type = bits === 64 ? 'u64' : 'u32';
    const dst = this.#target(type);
    f.swap(src, bits, dst);
    this.#define(dst, type);
  }

  #load(): void {
    const random = this.#random;
    const f = this.#f;
    const size = random.pick([1, 2, 4, 8] as const);
    const signed = size < 8 && random.chance(25);
    const type = signed ? 'i32' : size === 8 ? 'u64' : 'u32';
    const dst = this.#target(type);
    if (this.#packet !== undefined && random.chance(60)) {
      f.load(size, { reg: this.#packet }, random.below(48), dst, signed);
    } else if (this.#slots.length > 0) {
      f.load(size, { slot: random.pick(this.#slots) }, size * random.below(16 / size), dst, signed);
    } else {
      f.const(random.u64(), dst);
      if (type !== 'u64') f.extend(dst, 32, type === 'i32', dst);
    }
    this.#define(dst, type);
  }

  #store(): void {
    const random = this.#random;
    const f = this.#f;
    const size = random.pick([1, 2, 4, 8] as const);
    const src = this.any(random.pick(['u32', 'u64', 'i32'] as const));
    if (this.#packet !== undefined && random.chance(30)) f.store(size, { reg: this.#packet }, random.below(48), src);
    else if (this.#slots.length > 0)
      f.store(size, { slot: random.pick(this.#slots) }, size * random.below(16 / size), src);
    else this.#arithmetic();
  }

  #assign(): void {
    const random = this.#random;
    if (this.variables.length < 2) {
      this.#arithmetic();
      return;
    }
    const { reg, type } = random.pick(this.variables);
    const dst = this.#target(type);
    if (random.chance(70)) {
      if (dst !== reg) this.#f.move(reg, dst);
      else this.#f.const(type === 'i32' ? -1n : 1n, dst);
    } else {
      this.#f.const(type === 'i32' ? -5n : 77n, dst);
    }
    this.#define(dst, type);
  }

  #call(): void {
    const random = this.#random;
    const f = this.#f;
    if (this.#subprograms.length > 0 && random.chance(50)) {
      const callee = random.pick(this.#subprograms);
      const args = callee.params.map(() => this.any('u64'));
      const dst = this.#target('u64');
      f.callFunction(callee.name, args, dst);
      this.#define(dst, 'u64');
      return;
    }
    if (this.#slots.length === 0 || this.#held || random.chance(40)) {
      // Time is not the same everywhere: only what the call destroys counts.
      f.call(5, []);
      return;
    }
    const dst = this.#target('u64');
    const key = f.slot(8, true);
    f.store(8, { slot: key }, 0, f.binary('and', this.any('u64'), 7n));
    const [map, from] = [f.mapAddress('hash'), f.slotAddress(random.pick(this.#slots))];
    f.call(2, [map, f.slotAddress(key), from, BigInt(random.below(3))], dst);
    this.#define(dst, 'u64');
  }

  #condition(then: number, otherwise: number): void {
    const random = this.#random;
    const type = random.pick(['u32', 'i32', 'u64'] as const);
    const a = this.any(type);
    const b = this.any(type);
    const conditions =
      type === 'i32' ? [...EQUALITY, ...SIGNED] : [...EQUALITY, ...UNSIGNED, ...(type === 'u64' ? SIGNED : [])];
    const width = type === 'u64' || random.chance(30) ? 64 : 32;
    this.#f.if(random.pick(conditions), a, b, then, otherwise, width);
  }

  #branch(depth: number): void {
    const random = this.#random;
    const f = this.#f;
    const [yes, no, after] = [f.block(), f.block(), f.block()];
    this.#condition(yes, no);
    const known = this.variables.length;
    for (const block of [yes, no]) {
      f.at(block);
      this.statements(1 + random.below(4), depth - 1);
      // What only one way defines is not known afterwards.
      this.variables.length = known;
      if (random.chance(8)) f.return(this.any('u32'));
      else f.goto(after);
    }
    f.at(after);
  }

  /** A condition kept in a register and tested later, as inlined functions leave them. */
  #boolean(depth: number): void {
    const random = this.#random;
    const f = this.#f;
    const flag = f.register();
    const [yes, no, join, then, otherwise, after] = [f.block(), f.block(), f.block(), f.block(), f.block(), f.block()];
    this.#condition(yes, no);
    const known = this.variables.length;
    f.at(yes).const(1n, flag);
    if (random.chance(30)) this.statements(1, depth - 1);
    this.variables.length = known;
    f.goto(join);
    f.at(no).const(0n, flag);
    f.goto(join);
    f.at(join);
    const copy = random.chance(50) ? f.move(flag) : flag;
    f.if(random.pick(['eq', 'ne'] as const), copy, 0n, then, otherwise, random.pick([32, 64] as const));
    for (const block of [then, otherwise]) {
      f.at(block);
      this.statements(1 + random.below(3), depth - 1);
      this.variables.length = known;
      f.goto(after);
    }
    f.at(after);
    this.#define(flag, 'u32');
  }

  #loop(depth: number): void {
    const random = this.#random;
    const f = this.#f;
    // The verifier walks each round of each loop, nested ones again and again.
    if (this.#loops >= 3) {
      this.#arithmetic();
      return;
    }
    this.#loops++;
    const counter = f.const(0n);
    const [head, body, after] = [f.block(), f.block(), f.block()];
    f.goto(head);
    f.at(head).if('lt', counter, BigInt(1 + random.below(4)), body, after, 32);
    f.at(body);
    const known = this.variables.length;
    this.variables.push({ reg: counter, type: 'u32' });
    this.#frozen.add(counter);
    this.statements(1 + random.below(4), Math.min(depth - 1, 1));
    this.variables.length = known;
    f.binary('add', counter, 1n, 32, counter);
    f.goto(head);
    f.at(after);
  }

  #lookup(depth: number): void {
    const random = this.#random;
    const f = this.#f;
    if (this.#slots.length === 0) {
      this.#arithmetic();
      return;
    }
    const hash = random.chance(40);
    const key = f.slot(8, true);
    f.store(8, { slot: key }, 0, 0n);
    f.store(4, { slot: key }, 0, random.chance(70) ? BigInt(random.below(6)) : this.any('u32'));
    const map = f.mapAddress(hash ? 'hash' : 'cells');
    const found = f.call(1, [map, f.slotAddress(key)]);
    const [yes, no, after] = [f.block(), f.block(), f.block()];
    f.if('ne', found, 0n, yes, no);
    const known = this.variables.length;
    f.at(yes);
    const held = this.#held;
    this.#held = true;
    const value = f.load(8, { reg: found }, 0);
    this.#define(value, 'u64');
    this.statements(1 + random.below(3), depth - 1);
    f.store(8, { reg: found }, 8, this.any('u64'));
    this.#atomic(found);
    this.#held = held;
    this.variables.length = known;
    f.goto(after);
    f.at(no);
    this.statements(1, depth - 1);
    this.variables.length = known;
    f.goto(after);
    f.at(after);
  }

  #atomic(pointer: Register): void {
    const random = this.#random;
    const f = this.#f;
    const kind = random.pick(['add', 'and', 'or', 'xor', 'exchange', 'compareExchange'] as const);
    const size = random.pick([4, 8] as const);
    const operand = (value: Value) => (typeof value === 'bigint' ? { imm: value } : { reg: value });
    const type = size === 4 ? 'u32' : 'u64';
    const wantsOld = kind === 'exchange' || kind === 'compareExchange' || random.chance(50);
    const old = wantsOld ? f.register() : undefined;
    f.add({
      op: 'atomic',
      kind,
      size,
      base: { reg: pointer },
      offset: 8,
      src: operand(this.any(type)),
      ...(kind === 'compareExchange' ? { expected: operand(this.any(type)) } : {}),
      ...(old === undefined ? {} : { old }),
    });
    if (old !== undefined) this.variables.push({ reg: old, type });
  }
}
