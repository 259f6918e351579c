/**
 * Structs: one schema gives the layout, the accessors in Node, the loads and stores in eBPF and the BTF of the maps.
 *
 * Fields lie in the order written at their natural alignment, as C lays them out; the size is rounded up to the alignment.
 * A *view* is a window on bytes that live elsewhere (a packet, a map value, the stack); reading a field reads those bytes.
 */
import type { Scalar } from './scalar.ts';

/** An array field of fixed length. */
export interface ArrayField<E extends Field> {
  readonly kind: 'array';
  readonly element: E;
  readonly length: number;
  readonly size: number;
}

/** Kernel objects that only helpers may touch. */
export interface OpaqueField<N extends 'bpf_timer' | 'bpf_spin_lock'> {
  readonly kind: 'opaque';
  readonly name: N;
  readonly size: number;
}

export type Field = Scalar<unknown> | Struct<Fields> | ArrayField<Field> | OpaqueField<'bpf_timer' | 'bpf_spin_lock'>;
export type Fields = { readonly [name: string]: Field };

/** Elements of an array field. A constant index is checked when compiling, any other must be provably in range. */
export interface ScalarArray<T> {
  get(index: number): T;
  set(index: number, value: T): void;
}
export interface StructArray<V> {
  at(index: number): V;
}

declare const struct_: unique symbol;

/** What a field looks like in a view. */
export type FieldValue<F> =
  F extends Scalar<infer T>
    ? T
    : F extends Struct<infer Fs>
      ? View<Fs>
      : F extends ArrayField<infer E>
        ? E extends Scalar<infer T>
          ? ScalarArray<T>
          : StructArray<FieldValue<E>>
        : F extends OpaqueField<infer N>
          ? Opaque<N>
          : never;

export interface Opaque<N> {
  readonly [struct_]: N;
}
export type Timer = Opaque<'bpf_timer'>;

type ScalarKeys<Fs extends Fields> = { [K in keyof Fs]: Fs[K] extends Scalar<unknown> ? K : never }[keyof Fs];

/** A window on the bytes of a struct. Scalar fields can be assigned, nested ones reached. */
export type View<Fs extends Fields> = { -readonly [K in ScalarKeys<Fs>]: FieldValue<Fs[K]> } & {
  readonly [K in Exclude<keyof Fs, ScalarKeys<Fs>>]: FieldValue<Fs[K]>;
} & { readonly [struct_]?: Fs };

/** The view type of a struct: `type Tuple = ViewOf<typeof Tuple>`. */
export type ViewOf<S> = S extends Struct<infer Fs> ? View<Fs> : never;

/** Initial values of scalar fields. */
export type Initial<Fs extends Fields> = { readonly [K in ScalarKeys<Fs>]?: FieldValue<Fs[K]> };

export interface Layout {
  readonly name: string;
  readonly offset: number;
  readonly field: Field;
}

export interface Struct<Fs extends Fields> {
  readonly kind: 'struct';
  readonly name: string;
  readonly size: number;
  readonly align: 1 | 2 | 4 | 8;
  readonly layout: readonly Layout[];
  readonly fields: Fs;
  /** A view on `bytes` at `offset` (Node and user space only). */
  on(bytes: Uint8Array, offset?: number, guard?: Guard): View<Fs>;
  /** The same on what another view stands on. */
  within(data: DataView, base: number, guard: Guard | undefined): View<Fs>;
  /** A view on fresh zeroed bytes, with initial values (Node and user space only). */
  create(initial?: Initial<Fs>): View<Fs>;
}

/** Asked before each access through a guarded view; throws when the packet has moved since the view was made. */
export interface Guard {
  check(): void;
}

/** What stands behind a view in Node. */
export interface Window {
  readonly $struct: Struct<Fields>;
  readonly $data: DataView;
  readonly $base: number;
  readonly $guard: Guard | undefined;
}

const windowOf = (view: object): Window => view as unknown as Window;

/** The live bytes under a view (Node and user space only). */
export function bytesOf(view: object): Uint8Array {
  const { $data, $base, $struct } = windowOf(view);
  return new Uint8Array($data.buffer, $data.byteOffset + $base, $struct.size);
}

export const structOf = (view: object): Struct<Fields> => windowOf(view).$struct;

/** `length` elements of a scalar or a struct. */
export const array = <E extends Field>(element: E, length: number): ArrayField<E> => ({
  kind: 'array',
  element,
  length,
  size: element.size * length,
});

/** A kernel timer; one per map value at most, in hash and array maps. */
export const timer: OpaqueField<'bpf_timer'> = { kind: 'opaque', name: 'bpf_timer', size: 16 };

function alignOf(field: Field): 1 | 2 | 4 | 8 {
  if (field.kind === 'scalar') return field.size;
  if (field.kind === 'array') return alignOf(field.element);
  if (field.kind === 'opaque') return field.name === 'bpf_timer' ? 8 : 4;
  return field.align;
}

/** Declare a struct. Padding is never read or written by name, but `stack()` zeroes it. */
export function struct<Fs extends Fields>(name: string, fields: Fs): Struct<Fs> {
  const layout: Layout[] = [];
  let end = 0;
  let align: 1 | 2 | 4 | 8 = 1;
  for (const [fieldName, field] of Object.entries(fields)) {
    const fieldAlign = alignOf(field);
    const offset = Math.ceil(end / fieldAlign) * fieldAlign;
    layout.push({ name: fieldName, offset, field });
    end = offset + field.size;
    if (fieldAlign > align) align = fieldAlign;
  }
  const size = Math.ceil(end / align) * align;
  class StructWindow implements Window {
    // Only declared: fields that were defined first and assigned then would double the time to make a view.
    declare readonly $data: DataView;
    declare readonly $base: number;
    declare readonly $guard: Guard | undefined;
    declare readonly $struct: Struct<Fields>;
    constructor(data: DataView, base: number, guard: Guard | undefined) {
      this.$data = data;
      this.$base = base;
      this.$guard = guard;
    }
  }
  const made: Struct<Fs> = {
    kind: 'struct',
    name,
    size,
    align,
    layout,
    fields,
    on: (bytes, offset = 0, guard = undefined) =>
      made.within(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), offset, guard),
    within: (data, base, guard) => new StructWindow(data, base, guard) as unknown as View<Fs>,
    create(initial) {
      const view = made.on(new Uint8Array(size));
      return initial === undefined ? view : Object.assign(view, initial);
    },
  };
  Object.defineProperty(StructWindow.prototype, '$struct', { value: made });
  for (const { name: fieldName, offset, field } of layout) {
    Object.defineProperty(StructWindow.prototype, fieldName, accessor(field, offset));
  }
  return made;
}

function accessor(field: Field, offset: number): PropertyDescriptor {
  if (field.kind === 'scalar') return scalarAccessor(field, offset);
  return {
    get(this: Window) {
      return reach(field, this.$data, this.$base + offset, this.$guard);
    },
  };
}

function reach(field: Field, data: DataView, base: number, guard: Guard | undefined): unknown {
  if (field.kind === 'struct') return field.within(data, base, guard);
  if (field.kind === 'opaque') return { $data: data, $base: base, $opaque: field.name };
  if (field.kind === 'scalar') throw new TypeError('scalars are read, not reached');
  const { element, length } = field;
  const inRange = (index: number): number => {
    guard?.check();
    if (!(Number.isInteger(index) && index >= 0 && index < length)) {
      throw new RangeError(`Cannot reach element ${index}: the array has ${length}`);
    }
    return base + index * element.size;
  };
  if (element.kind !== 'scalar') return { at: (index: number) => reach(element, data, inRange(index), guard) };
  const { get, set } = scalarIo(element);
  return {
    get: (index: number) => get(data, inRange(index)),
    set: (index: number, value: never) => set(data, inRange(index), value),
  };
}

type Io = { get: (data: DataView, at: number) => number | bigint; set: (data: DataView, at: number, v: never) => void };

const io = (get: Io['get'], set: (data: DataView, at: number, v: number) => void): Io => ({ get, set });
const IO: Record<string, Io> = {
  u8: io(
    (d, at) => d.getUint8(at),
    (d, at, v) => d.setUint8(at, v),
  ),
  u16: io(
    (d, at) => d.getUint16(at, true),
    (d, at, v) => d.setUint16(at, v, true),
  ),
  u32: io(
    (d, at) => d.getUint32(at, true),
    (d, at, v) => d.setUint32(at, v, true),
  ),
  i32: io(
    (d, at) => d.getInt32(at, true),
    (d, at, v) => d.setInt32(at, v, true),
  ),
};
const U64: Io = {
  get: (d, at) => d.getBigUint64(at, true),
  set: (d, at, v: bigint) => d.setBigUint64(at, v, true),
};

export function scalarIo(field: Scalar<unknown>): Io {
  if (field.scalar === 'u64') return U64;
  if (field.scalar === 'be16') return IO['u16']!;
  if (field.scalar === 'be32') return IO['u32']!;
  return IO[field.scalar]!;
}

const LIMITS: Record<string, [number, number]> = {
  u8: [0, 0xff],
  u16: [0, 0xffff],
  be16: [0, 0xffff],
  u32: [0, 0xffff_ffff],
  be32: [0, 0xffff_ffff],
  i32: [-0x8000_0000, 0x7fff_ffff],
};

function scalarAccessor(field: Scalar<unknown>, offset: number): PropertyDescriptor {
  const { get, set } = scalarIo(field);
  const limits = LIMITS[field.scalar];
  return {
    enumerable: true,
    get(this: Window) {
      this.$guard?.check();
      return get(this.$data, this.$base + offset);
    },
    set(this: Window, value: never) {
      this.$guard?.check();
      // What the compiler proves, Node asserts: a store that does not fit would differ between the two worlds.
      if (limits !== undefined && !(value >= limits[0] && value <= limits[1])) {
        throw new RangeError(`Cannot store ${value} in a ${field.scalar} field`);
      }
      set(this.$data, this.$base + offset, value);
    },
  };
}

/** A zeroed struct on the stack of the program, with initial values. */
export const stack = <Fs extends Fields>(type: Struct<Fs>, initial?: Initial<Fs>): View<Fs> => type.create(initial);

/** Copy all bytes of a struct over another of the same type. */
export function assign<Fs extends Fields>(to: View<Fs>, from: View<Fs>): void {
  windowOf(to).$guard?.check();
  windowOf(from).$guard?.check();
  bytesOf(to).set(bytesOf(from));
}

/** Whether two structs of one type hold the same bytes. */
export function same<Fs extends Fields>(a: View<Fs>, b: View<Fs>): boolean {
  windowOf(a).$guard?.check();
  windowOf(b).$guard?.check();
  const left = bytesOf(a);
  const right = bytesOf(b);
  return left.every((byte, i) => byte === right[i]);
}

/** Set all bytes of a struct to zero. */
export function clear<Fs extends Fields>(view: View<Fs>): void {
  windowOf(view).$guard?.check();
  bytesOf(view).fill(0);
}
