/**
 * The blueprint between compiler and loader: plain JSON, the same bytes on every machine.
 *
 * The compiler makes a `CollectionSpec` and asks the kernel nothing; the loader turns it into maps and programs and
 * decides nothing. A published package carries only these files, so a user needs neither the compiler nor `typescript`.
 */

/** Map kinds by the kernel's own names, with their numbers in `enum bpf_map_type`. */
export const MAP_TYPES = {
  hash: 1,
  array: 2,
  progArray: 3,
  percpuHash: 5,
  percpuArray: 6,
  lruHash: 9,
  lpmTrie: 11,
  queue: 22,
  stack: 23,
  ringBuffer: 27,
} as const;
export type MapType = keyof typeof MAP_TYPES;

/** Program kinds, with `enum bpf_prog_type`. */
export const PROGRAM_TYPES = { tc: 3, xdp: 6, syscall: 31 } as const;
export type ProgramType = keyof typeof PROGRAM_TYPES;

export interface MapSpec {
  /** At most 15 of `[A-Za-z0-9_.]`; also the pin's file name. */
  readonly name: string;
  readonly type: MapType;
  /** Bytes; 0 where the type has no key (queue, stack, ring buffer). */
  readonly keySize: number;
  /** Bytes; per CPU for per-CPU maps; 0 for ring buffers. */
  readonly valueSize: number;
  /** Entries; bytes for a ring buffer. May be overridden when the collection is loaded. */
  readonly maxEntries: number;
  /** BPF_F_* map creation flags. */
  readonly flags: number;
  /** BTF type ids in the collection's `btf`; 0 where none. */
  readonly keyTypeId: number;
  readonly valueTypeId: number;
  /** For program arrays: which program lies at which index. */
  readonly programs?: readonly (readonly [index: number, program: string])[];
}

/** A place in the instructions that only loading can fill in. `instruction` counts 8-byte slots from the program's start. */
export type Relocation =
  /** The two-slot load at `instruction` becomes the map's file descriptor. */
  | { readonly kind: 'map'; readonly instruction: number; readonly map: string }
  /** ... becomes the address of the value of a one-element array, plus `offset` bytes. */
  | { readonly kind: 'mapValue'; readonly instruction: number; readonly map: string; readonly offset: number };

export interface FunctionInfo {
  /** Slot of the function's first instruction. */
  readonly instruction: number;
  readonly name: string;
  /** BTF id of its BTF_KIND_FUNC. */
  readonly typeId: number;
}

export interface LineInfo {
  /** Slot of the statement's first instruction. */
  readonly instruction: number;
  /** Index into the collection's `files`. */
  readonly file: number;
  /** One-based. */
  readonly line: number;
  readonly column: number;
}

export interface ProgramSpec {
  /** At most 15 of `[A-Za-z0-9_.]`. */
  readonly name: string;
  readonly type: ProgramType;
  /** Base64 of the instructions, 8 bytes each; the entry function first, then subprograms and callbacks. Calls between
   *  functions and references to callbacks are already resolved (pc-relative, BPF_PSEUDO_CALL and BPF_PSEUDO_FUNC). */
  readonly instructions: string;
  readonly relocations: readonly Relocation[];
  readonly functions: readonly FunctionInfo[];
  readonly lines: readonly LineInfo[];
  /** Bytes of stack of the deepest call chain. */
  readonly stackBytes: number;
}

export interface CollectionSpec {
  readonly format: 1;
  readonly maps: readonly MapSpec[];
  readonly programs: readonly ProgramSpec[];
  /** Source files that `lines` refer to: path relative to the compiled package, and the text by line for diagnostics. */
  readonly files: readonly { readonly path: string; readonly text: string }[];
  /**
   * Base64 of the BTF: key and value structs of the maps, function prototypes, and one string per source line. Line
   * info's string offsets are found by the loader in `lineStrings`.
   */
  readonly btf: string;
  /** `${file}:${line}` -> offset of that source line in the BTF string section; `file:${n}` -> offset of the file's path. */
  readonly lineStrings: Readonly<Record<string, number>>;
}

/** "Dual MIT/GPL" is what the kernel accepts as GPL-compatible; some helpers ask for it. */
export const LICENSE = 'Dual MIT/GPL';
