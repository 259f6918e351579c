/** Map methods and `only`. */
import type ts from 'typescript';
import { MAP_HELPERS } from '../../language/helper.ts';
import type { MapDefinition } from '../../language/map.ts';
import { SilentError, say } from '../diagnostics.ts';
import type { Operand, Register } from '../ir.ts';
import { extend } from './arithmetic.ts';
import type { FunctionLowering } from './function.ts';
import { fit, fitU32, operandOf } from './operand.ts';
import { I32, unseen } from './range.ts';
import type { Value, ViewValue } from './value.ts';
import { addressOf, copy, viewOf } from './views.ts';

/** `map.only`, the address of the one element: part of the program, no lookup. Undefined for ordinary properties. */
export function mapProperty(f: FunctionLowering, map: MapDefinition, name: string): Value | undefined {
  if (name !== 'only' || !('only' in Object.getPrototypeOf(map)) || map.value === undefined) return undefined;
  const dst = f.newRegister();
  f.unit.usedMaps.add(map);
  f.emit({ op: 'mapValueAddress', dst, map: map.name, offset: 0 });
  return { kind: 'view', struct: map.value, base: { reg: dst }, offset: 0, memory: 'map', nullable: false };
}

export const isMapMethod = (map: MapDefinition, name: string): boolean =>
  typeof (Object.getPrototypeOf(map) as Record<string, unknown>)[name] === 'function';

export function callMapMethod(
  f: FunctionLowering,
  node: ts.CallExpression,
  map: MapDefinition,
  method: string,
  args: readonly Value[],
): Value {
  const at = (index: number): ts.Node => node.arguments[index] ?? node;
  const argument = (index: number): Value => args[index] ?? f.fail(node, say.mapMethod(method, map.type));
  const flags = (index: number): Operand => fitU32(f, at(index), 'the flags', argument(index));
  switch (method) {
    case 'lookup':
      return found(f, map, keyPointer(f, at(0), map, argument(0)));
    case 'at':
      return found(f, map, scratchKey(f, 4, fitU32(f, at(0), 'an index', argument(0))));
    case 'atCpu': {
      const cpu = fitU32(f, at(1), 'a CPU', argument(1));
      const key = scratchKey(f, 4, fitU32(f, at(0), 'an index', argument(0)));
      const dst = f.newRegister();
      const args = [mapAddress(f, map), key, cpu];
      f.emit({ op: 'call', helper: MAP_HELPERS.lookupPercpu, name: 'map_lookup_percpu_elem', dst, args });
      return { kind: 'view', struct: map.value!, base: { reg: dst }, offset: 0, memory: 'map', nullable: true };
    }
    case 'update': {
      const update = flags(2);
      const key = keyPointer(f, at(0), map, argument(0));
      const value = valuePointer(f, at(1), map, argument(1), 'read');
      return mapCall(f, 'map_update_elem', MAP_HELPERS.update, map, [key, value, update]);
    }
    case 'delete':
      return mapCall(f, 'map_delete_elem', MAP_HELPERS.delete, map, [keyPointer(f, at(0), map, argument(0))]);
    case 'push': {
      const push = flags(1);
      return mapCall(f, 'map_push_elem', MAP_HELPERS.push, map, [
        valuePointer(f, at(0), map, argument(0), 'read'),
        push,
      ]);
    }
    case 'pop':
      return mapCall(f, 'map_pop_elem', MAP_HELPERS.pop, map, [valuePointer(f, at(0), map, argument(0), 'write')]);
    case 'output': {
      const output = flags(1);
      const view = viewOf(f, at(0), argument(0));
      const size = { imm: BigInt(view.struct.size) };
      return mapCall(f, 'ringbuf_output', MAP_HELPERS.ringOutput, map, [
        argumentPointer(f, at(0), view, 'read'),
        size,
        output,
      ]);
    }
    default:
      return f.fail(node, say.mapMethod(method, map.type));
  }
}

export function mapAddress(f: FunctionLowering, map: MapDefinition): Operand {
  const dst = f.newRegister();
  f.unit.usedMaps.add(map);
  f.emit({ op: 'mapAddress', dst, map: map.name });
  return { reg: dst };
}

function found(f: FunctionLowering, map: MapDefinition, key: Operand): ViewValue {
  const dst = f.newRegister();
  f.emit({ op: 'call', helper: MAP_HELPERS.lookup, name: 'map_lookup_elem', dst, args: [mapAddress(f, map), key] });
  return { kind: 'view', struct: map.value!, base: { reg: dst }, offset: 0, memory: 'map', nullable: true };
}

/** Map operations were `int` functions before Linux 6.4: the upper half of what they return is not to be trusted. */
function mapCall(f: FunctionLowering, name: string, helper: number, map: MapDefinition, args: Operand[]): Value {
  const dst = f.newRegister();
  f.emit({ op: 'call', helper, name, dst, args: [mapAddress(f, map), ...args] });
  return extend(f, { reg: dst }, 32, true, unseen(I32));
}

function keyPointer(f: FunctionLowering, node: ts.Node, map: MapDefinition, value: Value): Operand {
  const { key } = map;
  if (key === undefined) throw new SilentError();
  if (key.kind === 'scalar') return scratchKey(f, key.size, operandOf(fit(f, node, 'the key', key.scalar, value)));
  const view = viewOf(f, node, value);
  if (view.struct.size !== key.size) return f.fail(node, say.differentStructs(view.struct.name, key.name));
  return argumentPointer(f, node, view, 'map');
}

function valuePointer(
  f: FunctionLowering,
  node: ts.Node,
  map: MapDefinition,
  value: Value,
  use: 'read' | 'write',
): Operand {
  const view = viewOf(f, node, value);
  const wanted = map.value!;
  if (view.struct.size !== wanted.size) return f.fail(node, say.differentStructs(view.struct.name, wanted.name));
  return argumentPointer(f, node, view, use === 'read' ? 'map' : use);
}

function scratchKey(f: FunctionLowering, size: 1 | 2 | 4 | 8, key: Operand): Operand {
  f.settle();
  const slot = f.newScratch(size);
  const dst: Register = f.newRegister();
  f.emit({ op: 'store', size, base: { slot }, offset: 0, src: key });
  f.emit({ op: 'slotAddress', dst, slot, offset: 0 });
  return { reg: dst };
}

/**
 * The address of a view for a helper that reads it, writes it, or is a map operation. Most helpers take no packet pointers
 * and none takes a moved context pointer: what they only read is copied to the stack first.
 */
export function argumentPointer(
  f: FunctionLowering,
  node: ts.Node,
  view: ViewValue,
  use: 'read' | 'write' | 'map',
): Operand {
  const packet = view.memory === 'packet' && use !== 'map';
  const context = view.memory === 'context';
  if (!packet && !context) return addressOf(f, view);
  if (use === 'write') return f.fail(node, packet ? say.packetArgument() : say.contextPointer());
  f.settle();
  const slot = f.newScratch(Math.ceil(view.struct.size / 8) * 8);
  const duplicate: ViewValue = { ...view, base: { slot }, offset: 0, memory: 'stack', nullable: false };
  copy(f, node, duplicate, view, view.struct.size);
  return addressOf(f, duplicate);
}
