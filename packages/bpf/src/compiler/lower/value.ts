/**
 * What an expression is while it is compiled: a JavaScript value known at build time, or something in registers.
 *
 * Most of a program's expressions are constants: structs, maps, tables, functions, numbers. They cost nothing and are carried
 * as they are, through calls, properties and comparisons. The rest is scalars and views.
 */
import type ts from 'typescript';
import { MapDefinition } from '../../language/map.ts';
import type { ScalarName } from '../../language/scalar.ts';
import type { ArrayField, Field, Fields, Struct } from '../../language/struct.ts';
import type { Base, Register } from '../ir.ts';
import type { Frame } from './frame.ts';

/** Whose bytes a view is on. `any` where branches of different memory met. */
export type Memory = 'packet' | 'map' | 'stack' | 'context' | 'any';

export interface ConstantValue {
  readonly kind: 'constant';
  readonly value: unknown;
}
export type ScalarKind = 'number' | 'bigint' | 'boolean' | 'be16' | 'be32';
export interface ScalarValue {
  readonly kind: ScalarKind;
  readonly reg: Register;
}
/** Bytes at `base + offset`. A nullable view is null where its base register is 0, whatever the offset. */
export interface Location {
  readonly base: Base;
  readonly offset: number;
  readonly memory: Memory;
}
export interface ViewValue extends Location {
  readonly kind: 'view';
  readonly struct: Struct<Fields>;
  readonly nullable: boolean;
}
/** An array field: something with `get`, `set` and `at`. */
export interface ElementsValue extends Location {
  readonly kind: 'elements';
  readonly field: ArrayField<Field>;
}
/** A timer field, with the struct of the map value that holds it. */
export interface TimerValue extends Location {
  readonly kind: 'timer';
  readonly owner: ViewValue;
}
export interface SkbValue {
  readonly kind: 'skb';
  readonly reg: Register;
}
/** The map that a timer callback is given; only passed on. */
export interface MapPointerValue {
  readonly kind: 'mapPointer';
  readonly reg: Register;
}
/** A function written inside a function: callable by name and as an argument, inlined where it is called. */
export interface ClosureValue {
  readonly kind: 'closure';
  readonly node: ts.FunctionLikeDeclaration;
  readonly frame: Frame;
}
/** The value of a declaration that already has a diagnostic. */
export interface PoisonValue {
  readonly kind: 'poison';
}

export type Value =
  | ConstantValue
  | ScalarValue
  | ViewValue
  | ElementsValue
  | TimerValue
  | SkbValue
  | MapPointerValue
  | ClosureValue
  | PoisonValue;

export const constant = (value: unknown): ConstantValue => ({ kind: 'constant', value });
export const UNDEFINED = constant(undefined);
export const NULL = constant(null);
export const TRUE = constant(true);
export const FALSE = constant(false);

const SCALAR_KINDS: ReadonlySet<string> = new Set(['number', 'bigint', 'boolean', 'be16', 'be32']);
export const isScalar = (value: Value): value is ScalarValue => SCALAR_KINDS.has(value.kind);
export const isConstant = (value: Value): value is ConstantValue => value.kind === 'constant';
export const isNull = (value: Value): boolean => value.kind === 'constant' && value.value === null;

/** The kind of value that a scalar field gives. */
export function kindOfScalar(scalar: ScalarName): ScalarKind {
  if (scalar === 'u64') return 'bigint';
  return scalar === 'be16' || scalar === 'be32' ? scalar : 'number';
}

export function isStruct(value: unknown): value is Struct<Fields> {
  return (
    typeof value === 'object' && value !== null && (value as { kind?: unknown }).kind === 'struct' && 'layout' in value
  );
}

export const isMap = (value: unknown): value is MapDefinition => value instanceof MapDefinition;

export interface ProgramValue {
  readonly kind: 'program';
  readonly type: 'tc' | 'xdp' | 'syscall';
  readonly name: string;
  readonly context?: Struct<Fields>;
  readonly run: (...args: never[]) => number;
}

export function isProgram(value: unknown): value is ProgramValue {
  return (
    typeof value === 'object' && value !== null && (value as { kind?: unknown }).kind === 'program' && 'run' in value
  );
}

/** A value in words, for diagnostics. */
export function describe(value: Value): string {
  switch (value.kind) {
    case 'constant':
      return describeConstant(value.value);
    case 'number':
      return 'a number';
    case 'bigint':
      return 'a bigint';
    case 'boolean':
      return 'a boolean';
    case 'be16':
    case 'be32':
      return `a ${value.kind}`;
    case 'view':
      return `a view of "${value.struct.name}"`;
    case 'elements':
      return 'an array field';
    case 'timer':
      return 'a timer';
    case 'skb':
      return 'the packet';
    case 'mapPointer':
      return 'a map';
    case 'closure':
      return 'a function';
    case 'poison':
      return 'this';
  }
}

function describeConstant(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (typeof value === 'string') return `the string "${value}"`;
  if (typeof value === 'function') return value.name === '' ? 'a function' : `the function "${value.name}"`;
  if (typeof value !== 'object') return `${value}`;
  if (isStruct(value)) return `the struct "${value.name}"`;
  if (isMap(value)) return `the map "${value.name}"`;
  return Array.isArray(value) ? 'an array of the build' : 'an object of the build';
}
