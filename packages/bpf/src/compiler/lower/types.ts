/**
 * What TypeScript's types tell lowering: the integer that an annotation names, and the struct behind a view.
 *
 * `u16` is an alias of `number`, so the checker forgets it; the annotation's syntax is followed to the alias in the language.
 * A `View<Fs>` is traced to its struct by where the fields `Fs` were written.
 */
import ts from 'typescript';
import type { ScalarName } from '../../language/scalar.ts';
import type { Fields, Struct } from '../../language/struct.ts';
import { isLanguageFile } from '../program.ts';
import type { VariableType } from './frame.ts';
import { SCALAR_RANGES } from './range.ts';
import type { Unit } from './unit.ts';
import { isStruct } from './value.ts';

const SCALAR_NAMES: ReadonlySet<string> = new Set(Object.keys(SCALAR_RANGES));

/** The integer that an annotation names, through aliases; undefined for `number`, objects and everything else. */
export function scalarOfAnnotation(unit: Unit, node: ts.TypeNode | undefined): ScalarName | undefined {
  if (node === undefined) return undefined;
  if (ts.isParenthesizedTypeNode(node)) return scalarOfAnnotation(unit, node.type);
  if (node.kind === ts.SyntaxKind.BigIntKeyword) return 'u64';
  if (!ts.isTypeReferenceNode(node)) return undefined;
  const alias = aliasDeclaration(unit, node);
  if (alias === undefined) return undefined;
  if (isLanguageFile(alias.getSourceFile().fileName)) {
    return SCALAR_NAMES.has(alias.name.text) ? (alias.name.text as ScalarName) : undefined;
  }
  return scalarOfAnnotation(unit, alias.type);
}

function aliasDeclaration(unit: Unit, node: ts.TypeReferenceNode): ts.TypeAliasDeclaration | undefined {
  let symbol = unit.checker.getSymbolAtLocation(node.typeName);
  if (symbol !== undefined && symbol.flags & ts.SymbolFlags.Alias) symbol = unit.checker.getAliasedSymbol(symbol);
  return symbol?.declarations?.find(ts.isTypeAliasDeclaration);
}

/** What a variable declared so may hold; undefined where neither annotation nor type tells (a plain number). */
export function variableType(
  unit: Unit,
  node: ts.VariableDeclaration | ts.ParameterDeclaration,
): VariableType | undefined {
  const scalar = scalarOfAnnotation(unit, node.type);
  if (scalar === 'u64') return { kind: 'bigint' };
  if (scalar === 'be16' || scalar === 'be32') return { kind: scalar };
  if (scalar !== undefined) return { kind: 'number', name: scalar, range: SCALAR_RANGES[scalar] };
  const type = unit.checker.getTypeAtLocation(node.name);
  const order = orderOf(unit, type);
  if (order !== undefined) return { kind: order };
  if (type.flags & ts.TypeFlags.BooleanLike) return { kind: 'boolean' };
  if (type.flags & ts.TypeFlags.BigIntLike) return { kind: 'bigint' };
  if (isViewType(type)) return { kind: 'view', struct: structOfType(unit, type), memory: undefined };
  return undefined;
}

/** `be16` or `be32`, by the brand that the language puts on them. */
export function orderOf(unit: Unit, type: ts.Type): 'be16' | 'be32' | undefined {
  const brand = type.isIntersection()
    ? type.getProperties().find((p) => p.escapedName.toString().startsWith('__@order'))
    : undefined;
  if (brand === undefined) return undefined;
  const brandType = unit.checker.getTypeOfSymbol(brand);
  return brandType.isStringLiteral() ? (brandType.value as 'be16' | 'be32') : undefined;
}

const fieldsBrand = (type: ts.Type): ts.Symbol | undefined =>
  nonNullParts(type)
    .flatMap((part) => part.getProperties())
    .find((property) => property.escapedName.toString().startsWith('__@struct_'));

const isViewType = (type: ts.Type): boolean => fieldsBrand(type) !== undefined;

/** The struct whose view has this type; undefined where the type is not one view. */
function structOfType(unit: Unit, type: ts.Type): Struct<Fields> | undefined {
  const brand = fieldsBrand(type);
  if (brand === undefined) return undefined;
  const parts = nonNullParts(unit.checker.getTypeOfSymbol(brand));
  const found = parts
    .map((part) => part.symbol?.declarations?.[0])
    .map((node) => node && structsByFields(unit).get(node));
  return found.length === 1 ? found[0] : undefined;
}

const nonNullParts = (type: ts.Type): readonly ts.Type[] =>
  (type.isUnion() ? type.types : [type]).filter((t) => !(t.flags & (ts.TypeFlags.Null | ts.TypeFlags.Undefined)));

const tables = new WeakMap<Unit, Map<ts.Node, Struct<Fields>>>();

/** All structs declared at module scope, by the syntax of their fields. */
function structsByFields(unit: Unit): Map<ts.Node, Struct<Fields>> {
  const known = tables.get(unit);
  if (known !== undefined) return known;
  const table = new Map<ts.Node, Struct<Fields>>();
  tables.set(unit, table);
  for (const file of unit.source.program.getSourceFiles()) {
    if (file.isDeclarationFile && !isLanguageFile(file.fileName)) continue;
    for (const statement of file.statements) {
      if (!ts.isVariableStatement(statement)) continue;
      for (const declaration of statement.declarationList.declarations) noteStruct(unit, declaration, table);
    }
  }
  return table;
}

function noteStruct(unit: Unit, declaration: ts.VariableDeclaration, table: Map<ts.Node, Struct<Fields>>): void {
  if (!ts.isIdentifier(declaration.name)) return;
  const symbol = unit.checker.getSymbolAtLocation(declaration.name);
  const value = symbol === undefined ? undefined : unit.buildTime.valueOf(symbol)?.value;
  if (!isStruct(value)) return;
  const type = unit.checker.getTypeAtLocation(declaration.name) as ts.TypeReference;
  const fields = unit.checker.getTypeArguments(type)[0]?.symbol?.declarations?.[0];
  if (fields !== undefined) table.set(fields, value);
}
