/** Maps and structs as the back end and BTF need them, from the definitions that the build left in module scope. */
import { type MapDefinition, ProgramTableDefinition } from '../language/map.ts';
import type { Field, Fields, Struct } from '../language/struct.ts';
import { CompileError, diagnosticAt, say } from './diagnostics.ts';
import type { IrMap, IrStruct } from './ir.ts';

/** By name; two different maps of one name cannot be loaded. */
export function irMaps(definitions: Iterable<MapDefinition>): IrMap[] {
  const byName = new Map<string, MapDefinition>();
  for (const map of definitions) {
    const other = byName.get(map.name);
    if (other !== undefined && other !== map)
      throw new CompileError(diagnosticAt(undefined, say.sameMapName(map.name)));
    byName.set(map.name, map);
  }
  return [...byName.values()].map((map) => ({
    name: map.name,
    type: map.type,
    maxEntries: map.maxEntries,
    flags: map.flags,
    keySize: map.keySize,
    valueSize: map.valueSize,
    ...(map.key === undefined ? {} : { keyType: map.key.kind === 'struct' ? map.key.name : map.key.scalar }),
    ...(map.value === undefined ? {} : { valueType: map.value.name }),
    ...(map instanceof ProgramTableDefinition
      ? { programs: [...map.programs].map(([index, { name }]) => [index, name] as const) }
      : {}),
  }));
}

/** All structs of keys and values, those nested in others first. */
export function irStructs(definitions: Iterable<MapDefinition>): IrStruct[] {
  const byName = new Map<string, Struct<Fields>>();
  const ordered: Struct<Fields>[] = [];
  const visit = (field: Field | undefined): void => {
    if (field?.kind === 'array') visit(field.element);
    if (field?.kind !== 'struct') return;
    const other = byName.get(field.name);
    if (other === field) return;
    if (other !== undefined) throw new CompileError(diagnosticAt(undefined, say.sameStructName(field.name)));
    byName.set(field.name, field);
    for (const inner of field.layout) visit(inner.field);
    ordered.push(field);
  };
  for (const { key, value } of definitions) {
    visit(key);
    visit(value);
  }
  return ordered.map(({ name, size, layout }) => ({
    name,
    size,
    fields: layout.map(({ name: fieldName, offset, field }) => ({ name: fieldName, offset, ...typeOf(field) })),
  }));
}

function typeOf(field: Field): { type: string; count?: number } {
  switch (field.kind) {
    case 'scalar':
      return { type: field.scalar };
    case 'struct':
      return { type: field.name };
    case 'opaque':
      return { type: field.name };
    case 'array': {
      const { type, count = 1 } = typeOf(field.element);
      return { type, count: count * field.length };
    }
  }
}
