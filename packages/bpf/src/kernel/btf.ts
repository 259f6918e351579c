/**
 * Builds BTF, the type information the kernel wants beside programs and maps.
 *
 * In come types, functions and source lines one by one; out come the bytes of the BTF section. Equal types are
 * stored once and share an id, so callers simply ask for "a u32" whenever they need one. Ids start at 1; 0 is void.
 *
 *     header 24 bytes | type records, in the order of their ids | strings, zero-terminated, "" first
 *
 * The kernel finds `bpf_timer` and `bpf_spin_lock` in a map value by the struct's very name, its size and its
 * alignment, and only among the direct fields of the value struct.
 */

/** Id of a type within one BTF section; 0 is void. */
export type TypeId = number;

export const VOID: TypeId = 0;

/** Linkage of a function: the verifier checks a global one on its own, without its callers' knowledge. */
export type Linkage = 'static' | 'global';

export interface StructField {
  readonly name: string;
  readonly type: TypeId;
  /** Bytes from the start of the struct. */
  readonly offset: number;
}

export interface Parameter {
  readonly name: string;
  readonly type: TypeId;
}

const MAGIC = 0xeb9f;
const VERSION = 1;
const HEADER_BYTES = 24;
/** `BTF_MAX_NAME_OFFSET`. */
const MAX_STRING_OFFSET = 0xff_ffff;

const KIND = { int: 1, pointer: 2, array: 3, struct: 4, typedef: 8, function: 12, prototype: 13 } as const;

const INT_SIGNED = 1;
const INT_CHAR = 2;
const INT_BOOL = 4;

const SCALARS: Readonly<Record<string, { readonly name: string; readonly size: number; readonly encoding: number }>> = {
  u8: { name: 'u8', size: 1, encoding: 0 },
  u16: { name: 'u16', size: 2, encoding: 0 },
  u32: { name: 'u32', size: 4, encoding: 0 },
  u64: { name: 'u64', size: 8, encoding: 0 },
  i8: { name: 'i8', size: 1, encoding: INT_SIGNED },
  i16: { name: 'i16', size: 2, encoding: INT_SIGNED },
  i32: { name: 'i32', size: 4, encoding: INT_SIGNED },
  i64: { name: 'i64', size: 8, encoding: INT_SIGNED },
  be16: { name: 'be16', size: 2, encoding: 0 },
  be32: { name: 'be32', size: 4, encoding: 0 },
  be64: { name: 'be64', size: 8, encoding: 0 },
  char: { name: 'char', size: 1, encoding: INT_CHAR },
  bool: { name: 'bool', size: 1, encoding: INT_BOOL },
};

export class BtfBuilder {
  readonly #types: Uint32Array[] = [];
  /** The record's words, joined, to its id. */
  readonly #idOf = new Map<string, TypeId>();
  readonly #sizes: number[] = [0];
  readonly #strings: Uint8Array[] = [new Uint8Array(1)];
  readonly #offsetOf = new Map<string, number>([['', 0]]);
  #stringBytes = 1;

  /** Offset of `text` in the string section. Any text will do: source lines live here as well as names. */
  string(text: string): number {
    const known = this.#offsetOf.get(text);
    if (known !== undefined) return known;
    if (text.includes('\0')) throw new TypeError('Cannot add a string to BTF: it contains a zero byte');
    const offset = this.#stringBytes;
    if (offset > MAX_STRING_OFFSET) {
      throw new RangeError(`Cannot add a string to BTF: the string section has ${offset} bytes, must be below 16 MiB`);
    }
    const bytes = new TextEncoder().encode(`${text}\0`);
    this.#strings.push(bytes);
    this.#stringBytes += bytes.length;
    this.#offsetOf.set(text, offset);
    return offset;
  }

  int(name: string, size: 1 | 2 | 4 | 8, signed = false): TypeId {
    return this.#int(name, size, signed ? INT_SIGNED : 0);
  }

  /** A scalar by its name in kernel TypeScript: `u8` ... `u64`, `i8` ... `i64`, `be16` ... `be64`, `bool`, `char`. */
  scalar(name: string): TypeId {
    const scalar = SCALARS[name];
    if (scalar === undefined) throw new TypeError(`Cannot add "${name}" to BTF: it is not a scalar`);
    return this.#int(scalar.name, scalar.size, scalar.encoding);
  }

  pointer(to: TypeId): TypeId {
    return this.#add([0, info(KIND.pointer, 0), to], 8);
  }

  typedef(name: string, type: TypeId): TypeId {
    return this.#add([this.#name(name), info(KIND.typedef, 0), type], this.sizeOf(type));
  }

  array(element: TypeId, count: number): TypeId {
    const index = this.scalar('u32');
    return this.#add([0, info(KIND.array, 0), 0, element, index, count], this.sizeOf(element) * count);
  }

  struct(name: string, size: number, fields: readonly StructField[]): TypeId {
    const words = [this.#name(name), info(KIND.struct, fields.length), size];
    for (const field of fields) {
      const end = field.offset + this.sizeOf(field.type);
      if (end > size) {
        throw new RangeError(
          `Cannot add struct ${name} to BTF: field ${field.name} ends at byte ${end}, must be <= ${size}`,
        );
      }
      words.push(this.#name(field.name), field.type, field.offset * 8);
    }
    return this.#add(words, size);
  }

  /** 16 bytes, aligned to 8. */
  timer(): TypeId {
    const opaque = this.array(this.scalar('u64'), 2);
    return this.struct('bpf_timer', 16, [{ name: '__opaque', type: opaque, offset: 0 }]);
  }

  /** 4 bytes, aligned to 4. */
  spinLock(): TypeId {
    return this.struct('bpf_spin_lock', 4, [{ name: 'val', type: this.scalar('u32'), offset: 0 }]);
  }

  prototype(returns: TypeId, parameters: readonly Parameter[]): TypeId {
    const words = [0, info(KIND.prototype, parameters.length), returns];
    for (const parameter of parameters) words.push(this.#name(parameter.name), parameter.type);
    return this.#add(words, 0);
  }

  function(name: string, prototype: TypeId, linkage: Linkage = 'static'): TypeId {
    // A function keeps its linkage where other kinds keep their number of members.
    return this.#add([this.#name(name), info(KIND.function, linkage === 'global' ? 1 : 0), prototype], 0);
  }

  /** Bytes of a value of this type; 0 for void and functions. */
  sizeOf(type: TypeId): number {
    const size = this.#sizes[type];
    if (size === undefined) throw new RangeError(`Cannot find BTF type ${type}: there are ${this.#types.length}`);
    return size;
  }

  bytes(): Uint8Array {
    const typeBytes = this.#types.reduce((sum, words) => sum + words.length * 4, 0);
    const out = new Uint8Array(HEADER_BYTES + typeBytes + this.#stringBytes);
    const view = new DataView(out.buffer);
    view.setUint16(0, MAGIC, true);
    view.setUint8(2, VERSION);
    view.setUint32(4, HEADER_BYTES, true);
    view.setUint32(8, 0, true);
    view.setUint32(12, typeBytes, true);
    view.setUint32(16, typeBytes, true);
    view.setUint32(20, this.#stringBytes, true);
    let at = HEADER_BYTES;
    for (const words of this.#types) {
      for (const word of words) {
        view.setUint32(at, word, true);
        at += 4;
      }
    }
    for (const text of this.#strings) {
      out.set(text, at);
      at += text.length;
    }
    return out;
  }

  #int(name: string, size: number, encoding: number): TypeId {
    return this.#add([this.#name(name), info(KIND.int, 0), size, (encoding << 24) | (size * 8)], size);
  }

  #name(name: string): number {
    if (name !== '' && !/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) {
      throw new TypeError(`Cannot add the name "${name}" to BTF: it must be a C identifier, see btfName()`);
    }
    return this.string(name);
  }

  #add(words: readonly number[], size: number): TypeId {
    const key = words.join();
    const known = this.#idOf.get(key);
    if (known !== undefined) return known;
    const id = this.#types.push(Uint32Array.from(words));
    this.#sizes.push(size);
    this.#idOf.set(key, id);
    return id;
  }
}

/** A TypeScript name as the kernel accepts it: `$` and other letters outside C become `_`. */
export function btfName(name: string): string {
  const plain = name.replace(/[^A-Za-z0-9_]/g, '_');
  return /^[0-9]/.test(plain) ? `_${plain}` : plain;
}

function info(kind: number, members: number): number {
  return (kind << 24) | members;
}
