/**
 * The intermediate representation: what lowering (front) hands to optimisation, register allocation and emission (back).
 *
 * Three-address code on basic blocks over virtual registers. **Invariant: a virtual register holds the mathematical value
 * in 64 bits**: unsigned types zero-extended, signed ones sign-extended; pointers are 64 bits. Registers may be assigned
 * more than once (this is not SSA). Every block ends in exactly one terminator.
 */

/** Where an instruction comes from, one-based; `file` indexes the module's `files`. */
export interface Position {
  readonly file: number;
  readonly line: number;
  readonly column: number;
}

/** A virtual register, numbered from 0 within its function. */
export type Register = number;
/** A register or a constant (its mathematical value, within i64/u64). */
export type Operand = { readonly reg: Register } | { readonly imm: bigint };

/** Memory is reached from a register or from a stack slot of this function; `offset` is constant, in bytes. */
export type Base = { readonly reg: Register } | { readonly slot: number };

export type BinaryKind = 'add' | 'sub' | 'mul' | 'div' | 'mod' | 'and' | 'or' | 'xor' | 'shl' | 'shr' | 'sar';

export type Instruction = (
  | { readonly op: 'const'; readonly dst: Register; readonly value: bigint }
  | { readonly op: 'move'; readonly dst: Register; readonly src: Register }
  /** `width` 32 computes on the low halves and zero-extends the result; `div` and `mod` are unsigned, and by zero give 0 and
   *  the dividend as eBPF does. */
  | {
      readonly op: 'binary';
      readonly kind: BinaryKind;
      readonly width: 32 | 64;
      readonly dst: Register;
      readonly a: Operand;
      readonly b: Operand;
    }
  /** Keep the low `bits` and extend them to 64. */
  | {
      readonly op: 'extend';
      readonly dst: Register;
      readonly src: Register;
      readonly bits: 8 | 16 | 32;
      readonly signed: boolean;
    }
  /** Reverse the low `bits` (network order <-> host order on little-endian); upper bits become 0. */
  | { readonly op: 'swap'; readonly dst: Register; readonly src: Register; readonly bits: 16 | 32 | 64 }
  /** Zero-extending load (sign-extending when `signed`, by a shift pair so that kernels before 6.6 take it). */
  | {
      readonly op: 'load';
      readonly dst: Register;
      readonly size: 1 | 2 | 4 | 8;
      readonly signed?: boolean;
      readonly base: Base;
      readonly offset: number;
    }
  | {
      readonly op: 'store';
      readonly size: 1 | 2 | 4 | 8;
      readonly base: Base;
      readonly offset: number;
      readonly src: Operand;
    }
  /** `old` receives the value before, when present. `exchange` and `compareExchange` always give it. */
  | {
      readonly op: 'atomic';
      readonly kind: 'add' | 'and' | 'or' | 'xor' | 'exchange' | 'compareExchange';
      readonly size: 4 | 8;
      readonly base: Base;
      readonly offset: number;
      readonly src: Operand;
      readonly expected?: Operand;
      readonly old?: Register;
    }
  /** Address of a stack slot (plus offset). */
  | { readonly op: 'slotAddress'; readonly dst: Register; readonly slot: number; readonly offset: number }
  /** Pointer to a map, and to the value of a one-element array map. */
  | { readonly op: 'mapAddress'; readonly dst: Register; readonly map: string }
  | { readonly op: 'mapValueAddress'; readonly dst: Register; readonly map: string; readonly offset: number }
  /** Address of a function of the same program, for bpf_loop and timers. */
  | { readonly op: 'functionAddress'; readonly dst: Register; readonly name: string }
  /** Kernel helper by number; arguments in order, at most five. */
  | {
      readonly op: 'call';
      readonly helper: number;
      readonly name: string;
      readonly dst?: Register;
      readonly args: readonly Operand[];
    }
  /** Function of the same program (BPF-to-BPF call). */
  | { readonly op: 'callFunction'; readonly name: string; readonly dst?: Register; readonly args: readonly Operand[] }
) & { readonly at: Position };

export type Condition = 'eq' | 'ne' | 'lt' | 'le' | 'gt' | 'ge' | 'slt' | 'sle' | 'sgt' | 'sge' | 'set';

export type Terminator = (
  | { readonly op: 'goto'; readonly to: number }
  /** Unsigned comparisons lt le gt ge, signed slt sle sgt sge, `set`: (a & b) != 0. `width` 32 compares the low halves:
   *  lowering uses it only where both sides are known to be u32 (or both i32), so that it means the same. */
  | {
      readonly op: 'if';
      readonly condition: Condition;
      readonly width: 32 | 64;
      readonly a: Operand;
      readonly b: Operand;
      readonly then: number;
      readonly else: number;
    }
  | { readonly op: 'return'; readonly value: Operand }
) & { readonly at: Position };

export interface Block {
  /** Its index in `blocks`. */
  readonly id: number;
  readonly instructions: Instruction[];
  end: Terminator;
}

/** A piece of the function's stack. `align` is 4 or 8. Lowering stores zeros itself where the language says "zeroed".
 *  `scratch` slots (keys, helper arguments) are used only between the first and last instruction naming them in straight
 *  line code of one block, so the back end may overlay them; others live for the whole function. */
export interface Slot {
  readonly size: number;
  readonly align: 4 | 8;
  readonly scratch: boolean;
}

export interface IrFunction {
  readonly name: string;
  /** Registers that hold the arguments on entry; for a program's entry function: the context pointer. */
  readonly params: readonly Register[];
  /** C-like prototype for BTF: parameters that are pointers or 64-bit scalars. Callbacks: see `kind`. */
  /** `alone`: a subprogram of scalars and the context that the verifier looks at once, knowing nothing of its callers, and not at each call. */
  readonly kind: 'entry' | 'subprogram' | 'alone' | 'callback';
  /** Which of the parameters is the context, where it has one and is verified alone. */
  readonly context?: Register;
  registerCount: number;
  /** Hints for readers of dumps: the TypeScript name that a register stands for. */
  readonly registerNames: Map<Register, string>;
  readonly slots: Slot[];
  /** Block 0 is the entry. */
  readonly blocks: Block[];
  readonly at: Position;
}

export interface IrProgram {
  readonly name: string;
  readonly type: 'tc' | 'xdp' | 'syscall';
  /** The entry function first. */
  readonly functions: readonly IrFunction[];
}

/** A field of a struct as BTF and dumps need it. */
export interface IrStruct {
  readonly name: string;
  readonly size: number;
  readonly fields: readonly {
    readonly name: string;
    readonly offset: number;
    /** A scalar (`u8` ... `u64`, `be16`, `be32`, `i32`), `bpf_timer`, `bpf_spin_lock`, or the name of another struct. */
    readonly type: string;
    /** Present for arrays. */
    readonly count?: number;
  }[];
}

export interface IrMap {
  readonly name: string;
  readonly type: import('../spec.ts').MapType;
  readonly maxEntries: number;
  readonly flags: number;
  readonly keySize: number;
  readonly valueSize: number;
  /** Struct or scalar name; absent where there is none. */
  readonly keyType?: string;
  readonly valueType?: string;
  /** Of a program array. */
  readonly programs?: readonly (readonly [index: number, program: string])[];
}

export interface IrModule {
  readonly files: readonly { readonly path: string; readonly text: string }[];
  readonly structs: readonly IrStruct[];
  readonly maps: readonly IrMap[];
  readonly programs: readonly IrProgram[];
}
