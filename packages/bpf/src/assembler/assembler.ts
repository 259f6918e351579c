/**
 * The eBPF instruction set: constants, one constructor per instruction form, and the encoding.
 *
 *      opcode   regs      offset          immediate
 *     |--------|----|----|---------------|-------------------------------|
 *       8 bit   dst  src   16 bit signed   32 bit signed                     little-endian
 *
 * A program is a flat `Insn[]` in which the index is the slot: a 64-bit constant takes two. Jump offsets count slots
 * from the instruction after the jump. See Documentation/bpf/standardization/instruction-set.rst in Linux.
 */

/** One 8-byte slot. */
export interface Insn {
  readonly opcode: number;
  readonly dst: number;
  readonly src: number;
  /** Signed, 16 bits. */
  readonly offset: number;
  /** Signed, 32 bits. */
  readonly imm: number;
}

/** Bytes of a memory access. */
export type Size = 1 | 2 | 4 | 8;

/** A register `{ reg }` or a constant that fits 32 bits; the machine sign-extends it to 64. */
export type Source = { readonly reg: number } | number;

export const CLASS = { ld: 0, ldx: 1, st: 2, stx: 3, alu: 4, jmp: 5, jmp32: 6, alu64: 7 } as const;

export const MODE = { imm: 0x00, abs: 0x20, ind: 0x40, mem: 0x60, memSigned: 0x80, atomic: 0xc0 } as const;

export const SIZE: Readonly<Record<Size, number>> = { 4: 0x00, 2: 0x08, 1: 0x10, 8: 0x18 };

export const ALU = {
  add: 0x00,
  sub: 0x10,
  mul: 0x20,
  div: 0x30,
  or: 0x40,
  and: 0x50,
  shl: 0x60,
  shr: 0x70,
  neg: 0x80,
  mod: 0x90,
  xor: 0xa0,
  mov: 0xb0,
  sar: 0xc0,
  end: 0xd0,
} as const;
/** Two-operand arithmetic; `div` and `mod` are unsigned, `shr` logical and `sar` arithmetic. */
export type AluOp = Exclude<keyof typeof ALU, 'neg' | 'end'>;

export const JUMP = {
  always: 0x00,
  eq: 0x10,
  gt: 0x20,
  ge: 0x30,
  set: 0x40,
  ne: 0x50,
  sgt: 0x60,
  sge: 0x70,
  call: 0x80,
  exit: 0x90,
  lt: 0xa0,
  le: 0xb0,
  slt: 0xc0,
  sle: 0xd0,
} as const;
/** Unsigned lt le gt ge, signed slt sle sgt sge, `set`: (a & b) != 0. */
export type JumpOp = Exclude<keyof typeof JUMP, 'always' | 'call' | 'exit'>;

/** `BPF_FETCH` in the immediate of an atomic: the source register receives the value before. */
export const FETCH = 0x01;
export const ATOMIC = { add: 0x00, or: 0x40, and: 0x50, xor: 0xa0, exchange: 0xe1, compareExchange: 0xf1 } as const;
export type AtomicOp = keyof typeof ATOMIC;

/** The source register as a flag: `BPF_X`. */
export const FROM_REGISTER = 0x08;

/** What the source register of a 64-bit constant says about it. */
export const PSEUDO = { none: 0, mapFd: 1, mapValue: 2, function: 4 } as const;
export type Pseudo = keyof typeof PSEUDO;
/** The source register of a call: a helper by number, or a function of this program by distance. */
export const CALL_HELPER = 0;
export const CALL_FUNCTION = 1;

export const FRAME_POINTER = 10;

export function alu64(op: AluOp, dst: number, src: Source): Insn {
  return withSource(CLASS.alu64 | ALU[op], dst, src);
}

/** On the low halves; the result is zero-extended. */
export function alu32(op: AluOp, dst: number, src: Source): Insn {
  return withSource(CLASS.alu | ALU[op], dst, src);
}

export function mov64(dst: number, src: Source): Insn {
  return alu64('mov', dst, src);
}

export function mov32(dst: number, src: Source): Insn {
  return alu32('mov', dst, src);
}

export function neg64(dst: number): Insn {
  return insn(CLASS.alu64 | ALU.neg, dst, 0, 0, 0);
}

export function neg32(dst: number): Insn {
  return insn(CLASS.alu | ALU.neg, dst, 0, 0, 0);
}

/** Network order <-> host order on little-endian machines (and a plain truncation on big-endian ones). */
export function toBigEndian(dst: number, bits: 16 | 32 | 64): Insn {
  return insn(CLASS.alu | ALU.end | FROM_REGISTER, dst, 0, 0, bits);
}

export function toLittleEndian(dst: number, bits: 16 | 32 | 64): Insn {
  return insn(CLASS.alu | ALU.end, dst, 0, 0, bits);
}

export function jump64(op: JumpOp, dst: number, src: Source, offset: number): Insn {
  return { ...withSource(CLASS.jmp | JUMP[op], dst, src), offset };
}

/** Compares the low halves. */
export function jump32(op: JumpOp, dst: number, src: Source, offset: number): Insn {
  return { ...withSource(CLASS.jmp32 | JUMP[op], dst, src), offset };
}

export function jump(offset: number): Insn {
  return insn(CLASS.jmp | JUMP.always, 0, 0, offset, 0);
}

/** Zero-extending load. */
export function ldx(size: Size, dst: number, base: number, offset: number): Insn {
  return insn(CLASS.ldx | MODE.mem | SIZE[size], dst, base, offset, 0);
}

/** Sign-extending load; needs Linux 6.6. */
export function ldxSigned(size: 1 | 2 | 4, dst: number, base: number, offset: number): Insn {
  return insn(CLASS.ldx | MODE.memSigned | SIZE[size], dst, base, offset, 0);
}

/** Stores a constant; 8-byte stores sign-extend it. */
export function st(size: Size, base: number, offset: number, imm: number): Insn {
  return insn(CLASS.st | MODE.mem | SIZE[size], base, 0, offset, imm);
}

export function stx(size: Size, base: number, offset: number, src: number): Insn {
  return insn(CLASS.stx | MODE.mem | SIZE[size], base, src, offset, 0);
}

/**
 * Atomic operation on memory. With `fetch` the source register receives the value before; `exchange` always does that,
 * and `compareExchange` compares with r0 and leaves the value before in r0.
 */
export function atomic(op: AtomicOp, size: 4 | 8, base: number, offset: number, src: number, fetch = false): Insn {
  return insn(CLASS.stx | MODE.atomic | SIZE[size], base, src, offset, ATOMIC[op] | (fetch ? FETCH : 0));
}

export function call(helper: number): Insn {
  return insn(CLASS.jmp | JUMP.call, 0, CALL_HELPER, 0, helper);
}

/** Calls a function of this program; `distance` counts slots from the instruction after the call. */
export function callFunction(distance: number): Insn {
  return insn(CLASS.jmp | JUMP.call, 0, CALL_FUNCTION, 0, distance);
}

export function exit(): Insn {
  return insn(CLASS.jmp | JUMP.exit, 0, 0, 0, 0);
}

/** A 64-bit constant in two slots. */
export function ldImm64(dst: number, value: bigint, pseudo: Pseudo = 'none'): readonly [Insn, Insn] {
  return [
    insn(CLASS.ld | MODE.imm | SIZE[8], dst, PSEUDO[pseudo], 0, Number(BigInt.asIntN(32, value))),
    insn(0, 0, 0, 0, Number(BigInt.asIntN(32, value >> 32n))),
  ];
}

/** Pointer to a map; the loader fills in the file descriptor. */
export function ldMap(dst: number): readonly [Insn, Insn] {
  return ldImm64(dst, 0n, 'mapFd');
}

/** Pointer into the value of a one-element array map; the loader fills in the file descriptor and the offset. */
export function ldMapValue(dst: number): readonly [Insn, Insn] {
  return ldImm64(dst, 0n, 'mapValue');
}

/** Pointer to a function of this program, for callbacks; `distance` as in `callFunction`. */
export function ldFunction(dst: number, distance: number): readonly [Insn, Insn] {
  return [{ ...ldImm64(dst, 0n, 'function')[0], imm: distance }, insn(0, 0, 0, 0, 0)];
}

export function insn(opcode: number, dst: number, src: number, offset: number, imm: number): Insn {
  return { opcode, dst, src, offset, imm };
}

export function isLdImm64(one: Insn): boolean {
  return one.opcode === (CLASS.ld | MODE.imm | SIZE[8]);
}

export function encode(program: readonly Insn[]): Uint8Array {
  const out = new Uint8Array(program.length * 8);
  const view = new DataView(out.buffer);
  for (const [slot, one] of program.entries()) {
    checkFields(one, slot);
    view.setUint8(slot * 8, one.opcode);
    view.setUint8(slot * 8 + 1, (one.src << 4) | one.dst);
    view.setInt16(slot * 8 + 2, one.offset, true);
    view.setInt32(slot * 8 + 4, one.imm, true);
  }
  return out;
}

export function decode(bytes: Uint8Array): Insn[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const program: Insn[] = [];
  for (let at = 0; at + 8 <= bytes.length; at += 8) {
    const registers = view.getUint8(at + 1);
    program.push(
      insn(view.getUint8(at), registers & 15, registers >> 4, view.getInt16(at + 2, true), view.getInt32(at + 4, true)),
    );
  }
  return program;
}

function withSource(opcode: number, dst: number, src: Source): Insn {
  return typeof src === 'number' ? insn(opcode, dst, 0, 0, src) : insn(opcode | FROM_REGISTER, dst, src.reg, 0, 0);
}

/** A field that wraps silently would become another program; jumps too far for 16 bits are how that happens. */
function checkFields(one: Insn, slot: number): void {
  const refuse = (field: string, value: number): never => {
    throw new RangeError(`Cannot encode instruction ${slot}: its ${field} is ${value}, which does not fit`);
  };
  if (!Number.isInteger(one.opcode) || one.opcode < 0 || one.opcode > 0xff) refuse('opcode', one.opcode);
  if (!Number.isInteger(one.dst) || one.dst < 0 || one.dst > 10) refuse('destination register', one.dst);
  if (!Number.isInteger(one.src) || one.src < 0 || one.src > 10) refuse('source register', one.src);
  if (!Number.isInteger(one.offset) || one.offset !== (one.offset << 16) >> 16) refuse('offset', one.offset);
  if (one.imm !== (one.imm | 0)) refuse('immediate', one.imm);
}
