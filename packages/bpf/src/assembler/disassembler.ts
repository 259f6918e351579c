/**
 * Instructions as text, in the words of the kernel's own `kernel/bpf/disasm.c`, so that a dump of ours, the verifier's log
 * and `bpftool prog dump xlated` can be read side by side.
 */

import {
  ALU,
  ATOMIC,
  CALL_FUNCTION,
  CLASS,
  decode,
  FETCH,
  FROM_REGISTER,
  type Insn,
  isLdImm64,
  JUMP,
  MODE,
  PSEUDO,
  SIZE,
} from './assembler.ts';
import { helperName } from './helper-names.ts';

export interface DisassembleOptions {
  /** What to print for the 64-bit constant at `slot` instead of its number, e.g. `map[conns]`. */
  readonly constant?: (slot: number) => string | undefined;
  /** Lines to print before the instruction at `slot`: function names, source lines. */
  readonly before?: (slot: number) => readonly string[];
}

const ALU_SIGNS: Readonly<Record<number, string>> = {
  [ALU.add]: '+=',
  [ALU.sub]: '-=',
  [ALU.mul]: '*=',
  [ALU.div]: '/=',
  [ALU.or]: '|=',
  [ALU.and]: '&=',
  [ALU.shl]: '<<=',
  [ALU.shr]: '>>=',
  [ALU.mod]: '%=',
  [ALU.xor]: '^=',
  [ALU.mov]: '=',
  [ALU.sar]: 's>>=',
};

const JUMP_SIGNS: Readonly<Record<number, string>> = {
  [JUMP.eq]: '==',
  [JUMP.gt]: '>',
  [JUMP.ge]: '>=',
  [JUMP.set]: '&',
  [JUMP.ne]: '!=',
  [JUMP.sgt]: 's>',
  [JUMP.sge]: 's>=',
  [JUMP.lt]: '<',
  [JUMP.le]: '<=',
  [JUMP.slt]: 's<',
  [JUMP.sle]: 's<=',
};

const FETCH_NAMES: Readonly<Record<number, string>> = {
  [ATOMIC.add]: 'add',
  [ATOMIC.or]: 'or',
  [ATOMIC.and]: 'and',
  [ATOMIC.xor]: 'xor',
};

const LOAD_ACQUIRE = 0x100;
const STORE_RELEASE = 0x110;

const UNSIGNED: Readonly<Record<number, string>> = {
  [SIZE[1]]: 'u8',
  [SIZE[2]]: 'u16',
  [SIZE[4]]: 'u32',
  [SIZE[8]]: 'u64',
};
const SIGNED: Readonly<Record<number, string>> = {
  [SIZE[1]]: 's8',
  [SIZE[2]]: 's16',
  [SIZE[4]]: 's32',
  [SIZE[8]]: 's64',
};

/** A whole program, one instruction per line as `slot: (opcode) text`; a 64-bit constant is one line for two slots. */
export function disassemble(program: readonly Insn[] | Uint8Array, options: DisassembleOptions = {}): string {
  const insns = program instanceof Uint8Array ? decode(program) : program;
  const lines: string[] = [];
  for (let slot = 0; slot < insns.length; slot++) {
    const one = insns[slot]!;
    lines.push(...(options.before?.(slot) ?? []));
    const opcode = one.opcode.toString(16).padStart(2, '0');
    lines.push(`${slot}: (${opcode}) ${describe(one, insns[slot + 1], options.constant?.(slot))}`);
    if (isLdImm64(one)) slot++;
  }
  return lines.join('\n');
}

/** One instruction; `next` is the second slot of a 64-bit constant. */
export function describe(one: Insn, next?: Insn, constant?: string): string {
  switch (one.opcode & 7) {
    case CLASS.alu64:
      return describeAlu(one, 'r');
    case CLASS.alu:
      return describeAlu(one, 'w');
    case CLASS.jmp:
      return describeJump(one, 'r');
    case CLASS.jmp32:
      return describeJump(one, 'w');
    case CLASS.ldx:
      return describeLoad(one);
    case CLASS.st:
      return `*(${access(one)}) = ${one.imm}`;
    case CLASS.stx:
      return (one.opcode & 0xe0) === MODE.atomic ? describeAtomic(one) : `*(${access(one)}) = r${one.src}`;
    default:
      return describeConstant(one, next, constant);
  }
}

function describeAlu(one: Insn, letter: 'r' | 'w'): string {
  const op = one.opcode & 0xf0;
  const dst = `${letter}${one.dst}`;
  if (op === ALU.end) return `r${one.dst} = ${swapName(one)}${one.imm} r${one.dst}`;
  if (op === ALU.neg) return `${dst} = -${dst}`;
  const src = one.opcode & FROM_REGISTER ? `${letter}${one.src}` : `${one.imm}`;
  // The offset of a move is the width that it sign-extends from, that of a division says "signed".
  if (op === ALU.mov && one.offset !== 0) return `${dst} = (s${one.offset})${src}`;
  const sign = ALU_SIGNS[op];
  if (sign === undefined) return unknown(one);
  const signed = (op === ALU.div || op === ALU.mod) && one.offset === 1 ? 's' : '';
  return `${dst} ${signed}${sign} ${src}`;
}

function swapName(one: Insn): string {
  if ((one.opcode & 7) === CLASS.alu64) return 'bswap';
  return one.opcode & FROM_REGISTER ? 'be' : 'le';
}

function describeJump(one: Insn, letter: 'r' | 'w'): string {
  const op = one.opcode & 0xf0;
  if (op === JUMP.always) return letter === 'w' ? `gotol pc${plus(one.imm)}` : `goto pc${plus(one.offset)}`;
  if (op === JUMP.call)
    return one.src === CALL_FUNCTION
      ? `call pc${plus(one.imm)}`
      : `call ${helperName(one.imm) ?? 'unknown'}#${one.imm}`;
  if (op === JUMP.exit) return 'exit';
  const sign = JUMP_SIGNS[op];
  if (sign === undefined) return unknown(one);
  const src = one.opcode & FROM_REGISTER ? `${letter}${one.src}` : hex(one.imm >>> 0);
  return `if ${letter}${one.dst} ${sign} ${src} goto pc${plus(one.offset)}`;
}

function describeLoad(one: Insn): string {
  const sizes = (one.opcode & 0xe0) === MODE.memSigned ? SIGNED : UNSIGNED;
  return `r${one.dst} = *(${sizes[one.opcode & 0x18]} *)(r${one.src} ${plus(one.offset)})`;
}

function describeAtomic(one: Insn): string {
  const wide = (one.opcode & 0x18) === SIZE[8] ? '64' : '';
  const place = `(${access(one)})`;
  if (one.imm === ATOMIC.compareExchange) return `r0 = atomic${wide}_cmpxchg(${place}, r0, r${one.src})`;
  if (one.imm === ATOMIC.exchange) return `r${one.src} = atomic${wide}_xchg(${place}, r${one.src})`;
  if (one.imm === LOAD_ACQUIRE) {
    return `r${one.dst} = load_acquire((${UNSIGNED[one.opcode & 0x18]} *)(r${one.src} ${plus(one.offset)}))`;
  }
  if (one.imm === STORE_RELEASE) return `store_release(${place}, r${one.src})`;
  const name = FETCH_NAMES[one.imm & ~FETCH];
  if (name === undefined) return unknown(one);
  if (one.imm & FETCH) return `r${one.src} = atomic${wide}_fetch_${name}(${place}, r${one.src})`;
  return `lock *${place} ${ALU_SIGNS[one.imm & 0xf0]} r${one.src}`;
}

function describeConstant(one: Insn, next: Insn | undefined, constant: string | undefined): string {
  if (!isLdImm64(one)) return unknown(one);
  if (constant !== undefined) return `r${one.dst} = ${constant}`;
  const high = next?.imm ?? 0;
  if (one.src === PSEUDO.mapFd) return `r${one.dst} = map[fd:${one.imm}]`;
  if (one.src === PSEUDO.mapValue) return `r${one.dst} = map[fd:${one.imm}][0]${plus(high)}`;
  if (one.src === PSEUDO.function) return `r${one.dst} = subprog[${plus(one.imm)}]`;
  return `r${one.dst} = ${hex(BigInt.asUintN(64, (BigInt(high) << 32n) | BigInt(one.imm >>> 0)))}`;
}

/** The inside of `*(u32 *)(r10 -4)`, whose closing bracket the caller writes: `u32 *)(r10 -4`. */
function access(one: Insn): string {
  return `${UNSIGNED[one.opcode & 0x18]} *)(r${one.dst} ${plus(one.offset)}`;
}

function plus(value: number): string {
  return value < 0 ? `${value}` : `+${value}`;
}

function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`;
}

function unknown(one: Insn): string {
  return `unknown opcode ${one.opcode.toString(16).padStart(2, '0')}`;
}
