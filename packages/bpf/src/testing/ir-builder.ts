/** Builds IR by hand, for tests of the back end without a front end. */
import type {
  Base,
  BinaryKind,
  Block,
  Condition,
  Instruction,
  IrFunction,
  IrMap,
  IrModule,
  IrProgram,
  Operand,
  Position,
  Register,
  Terminator,
} from '../compiler/ir.ts';

type Bare<T> = T extends unknown ? Omit<T, 'at'> : never;

export type Value = Register | bigint;

const operand = (value: Value): Operand => (typeof value === 'bigint' ? { imm: value } : { reg: value });

/** One function; a register is its number, a constant is a bigint. Every instruction stands on a line of its own. */
export class FunctionBuilder {
  readonly name: string;
  readonly kind: IrFunction['kind'];
  readonly params: Register[] = [];
  readonly slots: { size: number; align: 4 | 8; scratch: boolean }[] = [];
  readonly #blocks: { instructions: Instruction[]; end: Terminator | undefined }[] = [];
  #registers = 0;
  #current = 0;
  #line = 0;

  constructor(name: string, kind: IrFunction['kind'] = 'entry', params = 1) {
    this.name = name;
    this.kind = kind;
    for (let i = 0; i < params; i++) this.params.push(this.register());
    this.block();
  }

  register(): Register {
    return this.#registers++;
  }

  /** A new block; `at(block)` goes on there. */
  block(): number {
    return this.#blocks.push({ instructions: [], end: undefined }) - 1;
  }

  at(block: number): this {
    this.#current = block;
    return this;
  }

  slot(size: number, scratch = false): number {
    return this.slots.push({ size, align: 8, scratch }) - 1;
  }

  add(one: Bare<Instruction>): void {
    this.#blocks[this.#current]!.instructions.push({ ...one, at: this.#position() } as Instruction);
  }

  const(value: bigint, dst = this.register()): Register {
    this.add({ op: 'const', dst, value });
    return dst;
  }

  move(src: Register, dst = this.register()): Register {
    this.add({ op: 'move', dst, src });
    return dst;
  }

  binary(kind: BinaryKind, a: Value, b: Value, width: 32 | 64 = 64, dst = this.register()): Register {
    this.add({ op: 'binary', kind, width, dst, a: operand(a), b: operand(b) });
    return dst;
  }

  extend(src: Register, bits: 8 | 16 | 32, signed = false, dst = this.register()): Register {
    this.add({ op: 'extend', dst, src, bits, signed });
    return dst;
  }

  swap(src: Register, bits: 16 | 32 | 64, dst = this.register()): Register {
    this.add({ op: 'swap', dst, src, bits });
    return dst;
  }

  load(size: 1 | 2 | 4 | 8, base: Base, offset: number, dst = this.register(), signed = false): Register {
    this.add({ op: 'load', dst, size, base, offset, ...(signed ? { signed } : {}) });
    return dst;
  }

  store(size: 1 | 2 | 4 | 8, base: Base, offset: number, src: Value): void {
    this.add({ op: 'store', size, base, offset, src: operand(src) });
  }

  slotAddress(slot: number, offset = 0, dst = this.register()): Register {
    this.add({ op: 'slotAddress', dst, slot, offset });
    return dst;
  }

  mapAddress(map: string, dst = this.register()): Register {
    this.add({ op: 'mapAddress', dst, map });
    return dst;
  }

  mapValueAddress(map: string, offset = 0, dst = this.register()): Register {
    this.add({ op: 'mapValueAddress', dst, map, offset });
    return dst;
  }

  functionAddress(name: string, dst = this.register()): Register {
    this.add({ op: 'functionAddress', dst, name });
    return dst;
  }

  call(helper: number, args: readonly Value[], dst: Register | undefined = this.register()): Register {
    this.add({
      op: 'call',
      helper,
      name: `helper${helper}`,
      args: args.map(operand),
      ...(dst === undefined ? {} : { dst }),
    });
    return dst;
  }

  callFunction(name: string, args: readonly Value[], dst: Register = this.register()): Register {
    this.add({ op: 'callFunction', name, args: args.map(operand), dst });
    return dst;
  }

  goto(to: number): void {
    this.#end({ op: 'goto', to });
  }

  if(condition: Condition, a: Value, b: Value, then: number, otherwise: number, width: 32 | 64 = 64): void {
    this.#end({ op: 'if', condition, width, a: operand(a), b: operand(b), then, else: otherwise });
  }

  return(value: Value): void {
    this.#end({ op: 'return', value: operand(value) });
  }

  build(): IrFunction {
    const blocks = this.#blocks.map(({ instructions, end }, id): Block => {
      if (end === undefined) throw new Error(`Cannot build ${this.name}: block ${id} has no end`);
      return { id, instructions, end };
    });
    const { name, kind, params, slots } = this;
    return {
      name,
      kind,
      params,
      slots,
      blocks,
      registerCount: this.#registers,
      registerNames: new Map(),
      at: this.#position(),
    };
  }

  /** How many lines `build()` counted up to now. */
  get lines(): number {
    return this.#line;
  }

  #end(end: Bare<Terminator>): void {
    this.#blocks[this.#current]!.end = { ...end, at: this.#position() } as Terminator;
  }

  #position(): Position {
    return { file: 0, line: ++this.#line, column: 1 };
  }
}

/** A module with one program; its source text is as many lines as the function counted. */
export function moduleOf(
  functions: readonly FunctionBuilder[],
  maps: readonly IrMap[] = [],
  type: IrProgram['type'] = 'tc',
): IrModule {
  const built = functions.map((one) => one.build());
  const lines = Math.max(...functions.map((one) => one.lines));
  const text = Array.from({ length: lines }, (_, i) => `// line ${i + 1}`).join('\n');
  return {
    files: [{ path: 'test.ts', text }],
    structs: [],
    maps,
    programs: [{ name: functions[0]!.name, type, functions: built }],
  };
}

export function irMap(map: Partial<IrMap> & Pick<IrMap, 'name' | 'type'>): IrMap {
  return { maxEntries: 16, flags: 0, keySize: 4, valueSize: 8, ...map };
}
