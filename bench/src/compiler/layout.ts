/** The C twin works on the same maps, so it must see the same structs: their layout as a C header, made from the structs themselves. */
import type { Field, Fields, Struct } from '@ipvsd/bpf';
import { FibLookup, RedirectNeighbour } from '@ipvsd/bpf';
import {
  Connection,
  Count,
  Flow,
  Ipv4,
  Ipv6,
  isActive,
  Population,
  REASON_LIST,
  RealServer,
  Service,
  ServiceKey,
  ServiceState,
  Settings,
  TCP_NORMAL,
  TCP_STATES,
  Tcp,
  Traffic,
  Tuple4,
  Tuple6,
  ticksOf,
} from './director.ts';

const STRUCTS: readonly Struct<Fields>[] = [
  Tuple4,
  Tuple6,
  Flow,
  Ipv4,
  Ipv6,
  Tcp,
  Connection,
  ServiceKey,
  Service,
  ServiceState,
  RealServer,
  Traffic,
  Count,
  Settings,
  Population,
  FibLookup,
  RedirectNeighbour,
] as unknown as readonly Struct<Fields>[];

export function layoutHeader(): string {
  return ['#pragma once', ...structsOf(STRUCTS), ...constants(), ''].join('\n');
}

/** Each struct once, those that others contain first; with a proof that C lays it out as we do. */
export function structsOf(structs: readonly Struct<Fields>[]): string[] {
  const seen = new Set<string>();
  const lines: string[] = [];
  const add = (struct: Struct<Fields>): void => {
    if (seen.has(struct.name)) return;
    seen.add(struct.name);
    for (const { field } of struct.layout) {
      const inner = innermost(field);
      if (inner.kind === 'struct') add(inner);
    }
    const fields = struct.layout.map(({ name, field }) => `  ${declare(name, field)};`);
    lines.push(`struct ${struct.name} {`, ...fields, '};');
    lines.push(`_Static_assert(sizeof(struct ${struct.name}) == ${struct.size}, "${struct.name}");`);
    for (const { name, offset } of struct.layout) {
      lines.push(`_Static_assert(__builtin_offsetof(struct ${struct.name}, ${name}) == ${offset}, "${name}");`);
    }
  };
  for (const struct of structs) add(struct);
  return lines;
}

function innermost(field: Field): Exclude<Field, { kind: 'array' }> {
  return field.kind === 'array' ? innermost(field.element) : field;
}

function declare(name: string, field: Field): string {
  if (field.kind === 'array') return `${declare(name, field.element)}[${field.length}]`;
  if (field.kind === 'struct') return `struct ${field.name} ${name}`;
  if (field.kind === 'opaque') return `u64 ${name}[${field.size / 8}]`;
  return `${C_TYPES[field.scalar as keyof typeof C_TYPES] ?? field.scalar} ${name}`;
}

/** Network order is a type of ours; to C it is a number. */
const C_TYPES = { be16: 'u16', be32: 'u32' } as const;

function constants(): string[] {
  const firstDrop = REASON_LIST.findIndex(({ verdict }) => verdict === 'drop');
  const mask = TCP_STATES.reduce((bits, _, state) => bits | (isActive(state) ? 1 << state : 0), 0);
  return [
    ...REASON_LIST.map(({ name }, i) => `#define REASON_${name.toUpperCase()} ${i}`),
    `#define FIRST_DROP ${firstDrop}`,
    `#define ACTIVE_MASK ${mask}u`,
    `#define ROUTE_AGE ${ticksOf(1)}u`,
    ...Object.entries(TCP_NORMAL).flatMap(([rows, events]) =>
      Object.entries(events).map(
        ([event, row]) => `#define ${rows.toUpperCase()}_${event.toUpperCase()} 0x${(row as bigint).toString(16)}ull`,
      ),
    ),
  ];
}
