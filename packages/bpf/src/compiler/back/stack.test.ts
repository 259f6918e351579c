import { expect, test } from 'vitest';
import { FunctionBuilder, moduleOf } from '../../testing/ir-builder.ts';
import { EmitError, emit, optimised } from './index.ts';
import { irText } from './ir-text.ts';
import { layOutFrame } from './stack.ts';

const DELETE = 3;

/** Fills a slot and gives it to a helper. */
function use(f: FunctionBuilder, slot: number, size: number): void {
  for (let at = 0; at < size; at += 8) f.store(8, { slot }, at, 7n);
  f.call(DELETE, [f.mapAddress('m'), f.slotAddress(slot)]);
}

function frame(f: FunctionBuilder) {
  return layOutFrame(optimised(f.build(), 'tc'), []);
}

test('slots used one after the other lie over each other', () => {
  const f = new FunctionBuilder('test');
  for (let i = 0; i < 5; i++) use(f, f.slot(64, i % 2 === 0), 64);
  f.return(0n);
  expect(frame(f).bytes).toBe(64);
});

test('slots used at the same time lie apart', () => {
  const f = new FunctionBuilder('test');
  const [a, b] = [f.slot(16), f.slot(24)];
  use(f, a, 16);
  use(f, b, 24);
  f.call(DELETE, [f.mapAddress('m'), f.slotAddress(a)]);
  f.return(0n);
  const { slots, bytes } = frame(f);
  expect(bytes).toBe(40);
  expect(slots).toEqual([40, 24]);
});

test('a slot used through a pointer is in use as long as the pointer is', () => {
  const f = new FunctionBuilder('test');
  const [a, b] = [f.slot(16), f.slot(16)];
  f.store(8, { slot: a }, 0, 1n);
  f.store(8, { slot: a }, 8, 1n);
  const pointer = f.slotAddress(a);
  use(f, b, 16);
  f.return(f.call(DELETE, [f.mapAddress('m'), pointer]));
  expect(frame(f).bytes).toBe(32);
});

test('a slot used in a loop is in use in all of the loop', () => {
  const f = new FunctionBuilder('test');
  const [outer, inner] = [f.slot(16), f.slot(16)];
  f.store(8, { slot: outer }, 0, 1n);
  f.store(8, { slot: outer }, 8, 1n);
  const i = f.const(0n);
  const [head, body, done] = [f.block(), f.block(), f.block()];
  f.goto(head);
  f.at(head).if('lt', i, 4n, body, done, 32);
  f.at(body);
  f.call(DELETE, [f.mapAddress('m'), f.slotAddress(outer)]);
  use(f, inner, 16);
  f.binary('add', i, 1n, 32, i);
  f.goto(head);
  f.at(done).return(0n);
  expect(frame(f).bytes).toBe(32);
});

test('a slot whose address lies in another slot is in use as long as that one', () => {
  const f = new FunctionBuilder('test');
  const [hidden, keeper, other, later] = [f.slot(8), f.slot(8), f.slot(8), f.slot(8)];
  f.store(8, { slot: hidden }, 0, 1n);
  f.store(8, { slot: keeper }, 0, f.slotAddress(hidden));
  use(f, other, 8);
  f.call(DELETE, [f.mapAddress('m'), f.slotAddress(keeper)]);
  use(f, later, 8);
  f.return(0n);
  const { slots, bytes } = frame(f);
  expect(new Set([slots[hidden], slots[keeper], slots[other]]).size).toBe(3);
  expect(bytes).toBe(24);
});

test('what is stored in a slot whose address lies in a map is kept', () => {
  const f = new FunctionBuilder('test');
  const shared = f.slot(8);
  const value = f.call(1, [f.mapAddress('m'), f.params[0]!]);
  const [found, missing] = [f.block(), f.block()];
  f.if('ne', value, 0n, found, missing);
  f.at(found).store(8, { reg: value }, 0, f.slotAddress(shared));
  f.store(8, { slot: shared }, 0, 7n);
  f.call(DELETE, [f.mapAddress('m'), value]);
  f.return(0n);
  f.at(missing).return(0n);
  expect(irText(optimised(f.build(), 'tc'))).toContain('store8 [s0], 7');
});

test('a number that was captured beside a view is no pointer to it', () => {
  const f = new FunctionBuilder('test');
  const [view, captured] = [f.slot(16), f.slot(16)];
  f.store(8, { slot: view }, 0, 1n);
  f.store(8, { slot: view }, 8, 1n);
  f.store(8, { slot: captured }, 0, f.slotAddress(view));
  f.store(8, { slot: captured }, 8, 5n);
  f.call(181, [3n, f.functionAddress('body'), f.slotAddress(captured), 0n]);
  const number = f.load(8, { slot: captured }, 8);
  f.add({ op: 'atomic', kind: 'add', size: 8, base: { reg: f.mapValueAddress('m') }, offset: 0, src: { reg: number } });
  f.store(8, { reg: f.mapValueAddress('m') }, 8, number);
  use(f, f.slot(16), 16);
  f.return(0n);
  expect(frame(f).bytes).toBe(32);
});

test('a slot that is filled anew is free before', () => {
  const f = new FunctionBuilder('test');
  const [a, b] = [f.slot(16), f.slot(16)];
  use(f, a, 16);
  use(f, b, 16);
  use(f, a, 16);
  f.return(0n);
  expect(frame(f).bytes).toBe(16);
});

test('more than 512 bytes are refused with the figures', () => {
  const f = new FunctionBuilder('greedy');
  const slots = Array.from({ length: 9 }, () => f.slot(64));
  for (const slot of slots) use(f, slot, 64);
  for (const slot of slots) f.call(DELETE, [f.mapAddress('m'), f.slotAddress(slot)]);
  f.return(0n);
  expect(() => emit(moduleOf([f]))).toThrow(EmitError);
  expect(() => emit(moduleOf([f]))).toThrow(
    'Cannot fit the stack of greedy: structs on the stack take 576 bytes (the largest 64, 64, 64) ' +
      'and 0 are needed for values at once alive, must be <= 512 together',
  );
});

test('the chain of calls is what counts, in units of 32', () => {
  const callee = new FunctionBuilder('callee', 'subprogram', 1);
  use(callee, callee.slot(40), 40);
  callee.return(0n);
  const f = new FunctionBuilder('test');
  use(f, f.slot(16), 16);
  f.return(f.callFunction('callee', [0n]));
  expect(emit(moduleOf([f, callee])).programs[0]!.stackBytes).toBe(32 + 64);
});

test('a chain beyond 512 bytes is refused with its links', () => {
  const callee = new FunctionBuilder('callee', 'subprogram', 1);
  use(callee, callee.slot(256), 256);
  callee.return(0n);
  const f = new FunctionBuilder('caller');
  use(f, f.slot(264), 264);
  f.return(f.callFunction('callee', [0n]));
  expect(() => emit(moduleOf([f, callee]))).toThrow(
    'Cannot fit the stack of caller: the calls caller 288 -> callee 256 need 544 bytes, must be <= 512',
  );
});
