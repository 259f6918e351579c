/**
 * Instruction selection: three-address IR becomes two-address eBPF on virtual registers.
 *
 * Copies are made freely here (`dst = a; dst += b`, arguments into r1 to r5): the allocator makes most of them vanish.
 */
import type { Size } from '../../assembler/assembler.ts';
import type { Base, Instruction, Operand, Position, Register, Terminator } from '../ir.ts';
import { type Body, singleDefinitions } from './body.ts';
import { frequencies, successors } from './control-flow.ts';
import { fitsImmediate, signed, unsigned } from './evaluate.ts';
import { definedBy, isRegister, usedBy, usedByEnd } from './instruction.ts';
import { flowBlock, liveOut } from './liveness.ts';
import {
  type MachineBlock,
  type MachineEnd,
  type MachineFunction,
  type MachineInstruction,
  type Source,
  VIRTUAL,
} from './machine.ts';
import { zeroExtended } from './zero-extended.ts';

type Binary = Extract<Instruction, { op: 'binary' }>;

export function select(body: Body): MachineFunction {
  const selection = new Selection(body);
  const often = frequencies(body.blocks);
  const live = liveOut(
    body.blocks.map(({ instructions, end }) =>
      flowBlock(
        [
          ...instructions.map((one) => ({ uses: usedBy(one), defines: [definedBy(one) ?? []].flat() })),
          { uses: usedByEnd(end), defines: [] },
        ],
        successors(end),
        body.registerCount,
      ),
    ),
    body.registerCount,
  );
  const blocks = body.blocks.map(({ id, instructions, end }): MachineBlock => {
    // Who is read again, at each instruction.
    const later = live[id]!.clone();
    for (const reg of usedByEnd(end)) later.add(reg);
    const dying: (ReadonlySet<Register> | undefined)[] = [];
    for (let i = instructions.length - 1; i >= 0; i--) {
      const used = usedBy(instructions[i]!);
      dying[i] = new Set(used.filter((reg) => !later.has(reg)));
      const dst = definedBy(instructions[i]!);
      if (dst !== undefined) later.delete(dst);
      for (const reg of used) later.add(reg);
    }
    const code: MachineInstruction[] = id === 0 ? selection.parameters() : [];
    instructions.forEach((one, i) => {
      selection.instruction(one, code, dying[i]!);
    });
    return { code, end: selection.end(end, code), frequency: often[id]! };
  });
  return { source: body.source, registerCount: selection.registerCount, blocks };
}

class Selection {
  registerCount: number;
  readonly #body: Body;
  readonly #definitions: readonly (Instruction | undefined)[];
  /** Addresses that are only passed to calls are made in the argument register itself. */
  readonly #onlyArguments: ReadonlySet<Register>;
  readonly #zeroExtended: (operand: Operand) => boolean;

  constructor(body: Body) {
    this.#body = body;
    this.registerCount = VIRTUAL + body.registerCount;
    this.#definitions = singleDefinitions(body);
    this.#onlyArguments = onlyArguments(body);
    this.#zeroExtended = zeroExtended(body);
  }

  parameters(): MachineInstruction[] {
    return this.#body.source.params.map((param, i) => move(VIRTUAL + param, 1 + i, this.#body.source.at));
  }

  instruction(one: Instruction, code: MachineInstruction[], dying: ReadonlySet<Register>): void {
    const { at } = one;
    switch (one.op) {
      case 'const':
        code.push(constant(VIRTUAL + one.dst, one.value, at));
        return;
      case 'move':
        code.push(move(VIRTUAL + one.dst, VIRTUAL + one.src, at));
        return;
      case 'binary':
        this.#binary(one, code, dying);
        return;
      case 'extend':
        if (one.bits === 32 && !one.signed) {
          code.push({ op: 'alu', kind: 'mov', width: 32, dst: VIRTUAL + one.dst, src: { reg: VIRTUAL + one.src }, at });
          return;
        }
        code.push(
          move(VIRTUAL + one.dst, VIRTUAL + one.src, at),
          ...extension(VIRTUAL + one.dst, one.bits, one.signed, at),
        );
        return;
      case 'swap':
        code.push(move(VIRTUAL + one.dst, VIRTUAL + one.src, at), {
          op: 'swap',
          dst: VIRTUAL + one.dst,
          bits: one.bits,
          at,
        });
        return;
      case 'load':
        code.push({
          op: 'load',
          dst: VIRTUAL + one.dst,
          size: one.size,
          base: place(one.base),
          offset: one.offset,
          at,
        });
        if (one.signed === true && one.size !== 8) {
          code.push(...extension(VIRTUAL + one.dst, (one.size * 8) as 8 | 16 | 32, true, at));
        }
        return;
      case 'store':
        this.#store(one, code);
        return;
      case 'atomic':
        this.#atomic(one, code);
        return;
      case 'call':
      case 'callFunction':
        this.#call(one, code);
        return;
      default:
        if (!this.#onlyArguments.has(one.dst)) code.push(address(one, VIRTUAL + one.dst));
    }
  }

  end(end: Terminator, code: MachineInstruction[]): MachineEnd {
    const { at } = end;
    if (end.op === 'goto') return { op: 'goto', to: end.to, at };
    if (end.op === 'return') {
      code.push(this.#copy(0, end.value, at));
      return { op: 'exit', at };
    }
    const a = this.#register(end.a, code, at);
    const { width, b } = this.#comparison(end, code);
    const { condition, then } = end;
    return { op: 'if', condition, width, a, b, then, else: end.else, at };
  }

  #binary(one: Binary, code: MachineInstruction[], dying: ReadonlySet<Register>): void {
    const { kind, width, dst, at } = one;
    let { a, b } = one;
    const commutes = kind === 'add' || kind === 'mul' || kind === 'and' || kind === 'or' || kind === 'xor';
    // The left side is overwritten: better one that nobody reads any more.
    if (commutes && isRegister(a) && isRegister(b)) {
      const better = b.reg === dst || (a.reg !== dst && !dying.has(a.reg) && dying.has(b.reg));
      if (better) [a, b] = [b, a];
    }
    const right = this.#source(b, width, code, at);
    const blocked = isRegister(b) && b.reg === dst && !(isRegister(a) && a.reg === dst);
    const into = blocked ? this.#fresh() : VIRTUAL + dst;
    code.push(this.#copy(into, a, at), { op: 'alu', kind, width, dst: into, src: right, at });
    if (blocked) code.push(move(VIRTUAL + dst, into, at));
  }

  #store(one: Extract<Instruction, { op: 'store' }>, code: MachineInstruction[]): void {
    const { size, offset, at } = one;
    const base = place(one.base);
    // Kernels before 6.3 take no immediate store to the context.
    const toContext =
      this.#body.source.kind === 'entry' && 'reg' in one.base && one.base.reg === this.#body.source.params[0];
    const src =
      isRegister(one.src) || toContext
        ? { reg: this.#register(one.src, code, at) }
        : this.#source(one.src, size === 8 ? 64 : 32, code, at);
    code.push({ op: 'store', size: size as Size, base, offset, src, at });
  }

  #atomic(one: Extract<Instruction, { op: 'atomic' }>, code: MachineInstruction[]): void {
    const { kind, size, offset, at } = one;
    const base = place(one.base);
    if (kind === 'compareExchange') {
      const src = this.#register(one.src, code, at);
      code.push(this.#copy(0, one.expected ?? { imm: 0n }, at));
      code.push({ op: 'atomic', kind, size, base, offset, src, fetch: true, at });
      if (one.old !== undefined) code.push(move(VIRTUAL + one.old, 0, at));
      return;
    }
    const fetch = one.old !== undefined || kind === 'exchange';
    if (!fetch) {
      code.push({ op: 'atomic', kind, size, base, offset, src: this.#register(one.src, code, at), fetch, at });
      return;
    }
    // The old value lands where the operand was.
    const both = this.#fresh();
    code.push(this.#copy(both, one.src, at), { op: 'atomic', kind, size, base, offset, src: both, fetch, at });
    if (one.old !== undefined) code.push(move(VIRTUAL + one.old, both, at));
  }

  #call(one: Extract<Instruction, { op: 'call' | 'callFunction' }>, code: MachineInstruction[]): void {
    const { at } = one;
    one.args.forEach((arg, i) => {
      const definition = isRegister(arg) ? this.#definitions[arg.reg] : undefined;
      if (definition !== undefined && isAddress(definition)) code.push(address({ ...definition, at }, 1 + i));
      else code.push(this.#copy(1 + i, arg, at));
    });
    const args = one.args.length;
    code.push(
      one.op === 'call'
        ? { op: 'call', helper: one.helper, args, at }
        : { op: 'callFunction', name: one.name, args, at },
    );
    if (one.dst !== undefined) code.push(move(VIRTUAL + one.dst, 0, at));
  }

  /** How wide to compare, and the right side. */
  #comparison(end: Extract<Terminator, { op: 'if' }>, code: MachineInstruction[]): { width: 32 | 64; b: Source } {
    const isSigned = end.condition.length === 3 && end.condition !== 'set';
    const halves = !isSigned && this.#zeroExtended(end.a) && this.#zeroExtended(end.b);
    if (isRegister(end.b)) return { width: halves ? 64 : end.width, b: { reg: VIRTUAL + end.b.reg } };
    const imm = unsigned(end.b.imm, end.width);
    // The verifier learns more from a whole comparison; an immediate from 2^31 up would be sign-extended by it, though.
    if (halves)
      return imm < 2n ** 31n
        ? { width: 64, b: { imm: Number(imm) } }
        : { width: 32, b: { imm: Number(signed(imm, 32)) } };
    return { width: end.width, b: this.#source(end.b, end.width, code, end.at) };
  }

  /** An immediate where the machine can hold it, else a register. */
  #source(operand: Operand, width: 32 | 64, code: MachineInstruction[], at: Position): Source {
    if (isRegister(operand)) return { reg: VIRTUAL + operand.reg };
    if (width === 32 || fitsImmediate(operand.imm)) return { imm: Number(signed(operand.imm, 32)) };
    return { reg: this.#register(operand, code, at) };
  }

  #register(operand: Operand, code: MachineInstruction[], at: Position): number {
    if (isRegister(operand)) return VIRTUAL + operand.reg;
    const fresh = this.#fresh();
    code.push(constant(fresh, operand.imm, at));
    return fresh;
  }

  #copy(dst: number, operand: Operand, at: Position): MachineInstruction {
    return isRegister(operand) ? move(dst, VIRTUAL + operand.reg, at) : constant(dst, operand.imm, at);
  }

  #fresh(): number {
    return this.registerCount++;
  }
}

function move(dst: number, src: number, at: Position): MachineInstruction {
  return { op: 'alu', kind: 'mov', width: 64, dst, src: { reg: src }, at };
}

function constant(dst: number, value: bigint, at: Position): MachineInstruction {
  if (fitsImmediate(value)) return { op: 'alu', kind: 'mov', width: 64, dst, src: { imm: Number(signed(value)) }, at };
  if (unsigned(value) < 2n ** 32n)
    return { op: 'alu', kind: 'mov', width: 32, dst, src: { imm: Number(signed(value, 32)) }, at };
  return { op: 'constant', dst, value: signed(value), at };
}

function extension(dst: number, bits: 8 | 16 | 32, isSigned: boolean, at: Position): MachineInstruction[] {
  if (!isSigned) {
    if (bits === 32) return [{ op: 'alu', kind: 'mov', width: 32, dst, src: { reg: dst }, at }];
    return [{ op: 'alu', kind: 'and', width: 64, dst, src: { imm: 2 ** bits - 1 }, at }];
  }
  const shift = { imm: 64 - bits };
  return [
    { op: 'alu', kind: 'shl', width: 64, dst, src: shift, at },
    { op: 'alu', kind: 'sar', width: 64, dst, src: shift, at },
  ];
}

type Address = Extract<Instruction, { op: 'slotAddress' | 'mapAddress' | 'mapValueAddress' | 'functionAddress' }>;

function isAddress(one: Instruction): one is Address {
  return (
    one.op === 'slotAddress' || one.op === 'mapAddress' || one.op === 'mapValueAddress' || one.op === 'functionAddress'
  );
}

function address(one: Address, dst: number): MachineInstruction {
  return { ...one, dst };
}

function place(base: Base): { readonly reg: number } | { readonly slot: number } {
  return 'reg' in base ? { reg: VIRTUAL + base.reg } : base;
}

function onlyArguments(body: Body): Set<Register> {
  const found = new Set<Register>();
  for (const [reg, one] of singleDefinitions(body).entries()) if (one !== undefined && isAddress(one)) found.add(reg);
  for (const { instructions, end } of body.blocks) {
    for (const one of instructions) {
      if (one.op !== 'call' && one.op !== 'callFunction') for (const reg of usedBy(one)) found.delete(reg);
    }
    for (const reg of usedByEnd(end)) found.delete(reg);
  }
  return found;
}
