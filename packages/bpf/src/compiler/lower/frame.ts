/**
 * Names in scope while a function body is lowered: one frame for each inlined call, closures linked to where they were made.
 */
import type ts from 'typescript';
import type { Fields, Struct } from '../../language/struct.ts';
import type { ScopeLookup } from '../build-time.ts';
import type { Register } from '../ir.ts';
import type { Flow } from './flow.ts';
import type { FunctionLowering } from './function.ts';
import type { Range } from './range.ts';
import type { Memory, Value } from './value.ts';

/** What a mutable variable may hold. */
export type VariableType =
  | { readonly kind: 'number'; readonly range: Range; readonly name: string }
  | { readonly kind: 'bigint' | 'boolean' | 'be16' | 'be32' }
  | ViewType;
/** Struct and memory are learned from the first view assigned, where no annotation tells. */
export interface ViewType {
  readonly kind: 'view';
  struct: Struct<Fields> | undefined;
  memory: Memory | undefined;
}

export type Binding =
  | { readonly kind: 'value'; readonly value: Value }
  /** A `let` that is assigned again: it owns a register. */
  | {
      readonly kind: 'variable';
      readonly name: string;
      readonly reg: Register;
      readonly type: VariableType;
      readonly shared: boolean;
    }
  /** A captured `let` inside a loop body: it lives in the context slot, at `pointer + offset`. */
  | {
      readonly kind: 'cell';
      readonly name: string;
      readonly pointer: Register;
      readonly offset: number;
      readonly type: VariableType;
    };

/** Where `break` and `continue` of a loop or switch lead; flows are collected and joined at its end. */
export interface JumpTarget {
  readonly label: string | undefined;
  readonly breaks: Flow[];
  /** Absent for `switch`. */
  readonly continues: Flow[] | undefined;
}

export interface Frame {
  readonly owner: FunctionLowering;
  readonly node: ts.FunctionLikeDeclaration;
  /** Where the function was written, for closures. */
  readonly lexical: Frame | undefined;
  /** Who called it, for recursion and diagnostics; crosses into bodies of loops and timers. */
  readonly caller: Frame | undefined;
  readonly callSite: ts.Node | undefined;
  readonly scope: ScopeLookup | undefined;
  readonly bindings: Map<ts.Symbol, Binding>;
  readonly thisValue: Value | undefined;
  readonly jumps: JumpTarget[];
  /** What `return e` means here: collected by an inlined call, an instruction in a function of its own. */
  readonly onReturn: (expression: ts.Expression | undefined, statement: ts.Node) => void;
}

/** The binding of a name and the frame it was found in. */
export function findBinding(
  frame: Frame | undefined,
  symbol: ts.Symbol,
): { readonly binding: Binding; readonly frame: Frame } | undefined {
  for (let f = frame; f !== undefined; f = f.lexical) {
    const binding = f.bindings.get(symbol);
    if (binding !== undefined) return { binding, frame: f };
  }
  return undefined;
}
