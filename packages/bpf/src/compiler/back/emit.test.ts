import { expect, test } from 'vitest';
import { disassemble } from '../../assembler/disassembler.ts';
import { loadCollection } from '../../kernel/index.ts';
import { NodeSkb } from '../../language/skb.ts';
import type { CollectionSpec } from '../../spec.ts';
import { interpret, simulate } from '../../testing/interpreter.ts';
import { FunctionBuilder, irMap, moduleOf } from '../../testing/ir-builder.ts';
import { describeKernel } from '../../testing/kernel.ts';
import { realistic } from '../../testing/realistic.ts';
import type { IrModule } from '../ir.ts';
import { dump } from './dump.ts';
import { emit } from './index.ts';

const listing = (spec: CollectionSpec): string => disassemble(Buffer.from(spec.programs[0]!.instructions, 'base64'));
const instructions = (spec: CollectionSpec): string[] =>
  listing(spec)
    .split('\n')
    .map((line) => line.replace(/^\d+: \(..\) /, ''));

function emitted(write: (f: FunctionBuilder, context: number) => void): string[] {
  const f = new FunctionBuilder('test');
  write(f, f.params[0]!);
  return instructions(emit(moduleOf([f])));
}

/** bpf_loop over a callback that adds its index to a sum on the caller's stack. */
function looping(): IrModule {
  const callback = new FunctionBuilder('add_index', 'callback', 2);
  const [index, pointer] = callback.params as [number, number];
  const sum = callback.load(8, { reg: pointer }, 0);
  callback.store(8, { reg: pointer }, 0, callback.binary('add', sum, index));
  callback.return(0n);

  const doubled = new FunctionBuilder('doubled', 'subprogram', 1);
  doubled.return(doubled.binary('mul', doubled.params[0]!, 2n));

  const f = new FunctionBuilder('looping');
  const slot = f.slot(8, false);
  f.store(8, { slot }, 0, 0n);
  f.call(181, [100n, f.functionAddress('add_index'), f.slotAddress(slot), 0n]);
  f.return(f.callFunction('doubled', [f.load(8, { slot }, 0)]));
  return moduleOf([f, callback, doubled]);
}

test('equal IR gives equal bytes', () => {
  expect(emit(realistic())).toEqual(emit(realistic()));
});

test('the context lives in r6 while calls come and go', () => {
  const [first] = instructions(emit(realistic()));
  expect(first).toBe('r6 = r1');
});

test('values are computed in the argument registers, without copies', () => {
  const text = emitted((f, context) => {
    const mark = f.load(4, { reg: context }, 8);
    const flags = f.load(4, { reg: context }, 32);
    f.return(f.call(23, [f.binary('add', mark, 1n), flags]));
  });
  expect(text).toEqual([
    'r6 = r1',
    'r1 = *(u32 *)(r6 +8)',
    'r2 = *(u32 *)(r6 +32)',
    'r1 += 1',
    'call bpf_redirect#23',
    'exit',
  ]);
});

test('constants from 2^31 up are not compared as immediates of 64 bits, which would be sign-extended', () => {
  const text = emitted((f, context) => {
    const mark = f.load(4, { reg: context }, 8);
    const [yes, no] = [f.block(), f.block()];
    f.if('eq', mark, 0xc0a8_0001n, yes, no);
    f.at(yes).return(1n);
    f.at(no).return(0n);
  });
  expect(text[1]).toMatch(/^if w1 [!=]= 0xc0a80001/);
});

test('an unknown 64-bit value is compared with such a constant in a register', () => {
  const text = emitted((f) => {
    const time = f.call(5, []);
    const [yes, no] = [f.block(), f.block()];
    f.if('eq', time, 0xc0a8_0001n, yes, no);
    f.at(yes).return(1n);
    f.at(no).return(0n);
  });
  expect(text).toContain('w1 = -1062731775');
  expect(text.some((line) => /^if r0 [!=]= r1/.test(line))).toBe(true);
});

test('every statement has its line, every function its first', () => {
  const spec = emit(looping());
  const [program] = spec.programs;
  const starts = program!.functions.map(({ instruction }) => instruction);
  expect(program!.functions.map(({ name }) => name)).toEqual(['looping', 'add_index', 'doubled']);
  const lined = new Set(program!.lines.map(({ instruction }) => instruction));
  for (const start of starts) expect(lined.has(start)).toBe(true);
  for (const { file, line } of program!.lines) expect(spec.lineStrings[`${file}:${line}`]).toBeGreaterThan(0);
});

test('callbacks and subprograms run in the interpreter', () => {
  const spec = emit(looping());
  const { result } = interpret(spec.programs[0]!, simulate(spec), new NodeSkb(new Uint8Array(64)));
  expect(result).toBe(9900n);
});

test('a function that is no longer called is left out', () => {
  const unused = new FunctionBuilder('unused', 'subprogram', 1);
  unused.return(1n);
  const f = new FunctionBuilder('test');
  const [never, always] = [f.block(), f.block()];
  f.if('eq', 1n, 2n, never, always);
  f.at(never).return(f.callFunction('unused', [0n]));
  f.at(always).return(0n);
  expect(emit(moduleOf([f, unused])).programs[0]!.functions.map(({ name }) => name)).toEqual(['test']);
});

test('jumps beyond 16 bits are made with a long jump', () => {
  const f = new FunctionBuilder('test');
  const context = f.params[0]!;
  const [far, near] = [f.block(), f.block()];
  const mark = f.load(4, { reg: context }, 8);
  f.if('eq', mark, 1n, far, near, 32);
  f.at(near);
  for (let i = 0; i < 20_000; i++) f.store(4, { reg: context }, 32, BigInt(i));
  f.call(5, []);
  f.goto(far);
  f.at(far).store(4, { reg: context }, 8, 3n);
  f.call(5, []);
  f.return(7n);
  const spec = emit(moduleOf([f]));
  expect(listing(spec)).toContain('gotol');
  const skb = new NodeSkb(new Uint8Array(64), { mark: 1 });
  const { result, instructions: executed } = interpret(spec.programs[0]!, simulate(spec), skb);
  expect(result).toBe(7n);
  expect(skb.mark).toBe(3);
  expect(executed).toBeLessThan(20);
});

test('a dump shows source lines, map names and functions', () => {
  const module = realistic();
  const text = dump({ spec: emit(module), module }, { instructions: true });
  expect(text).toContain('program nat (tc), ');
  expect(text).toContain('nat:\n; test.ts:');
  expect(text).toContain('map[connections]');
  expect(dump({ module }, { ir: 'optimised', source: false })).toContain('helper1(');
});

test('the path of an established connection stays as short as it was', () => {
  expect(instructions(emit(realistic())).length).toBeLessThanOrEqual(110);
});

describeKernel('in the kernel', () => {
  test('the realistic program loads', () => {
    const collection = loadCollection(emit(realistic()));
    const { retval } = collection.program('nat').testRun({ data: new Uint8Array(64) });
    collection.close();
    expect(retval).toBe(0);
  });

  test('callbacks and subprograms run', () => {
    const collection = loadCollection(emit(looping()));
    const { retval } = collection.program('looping').testRun({ data: new Uint8Array(64) });
    collection.close();
    expect(retval).toBe(9900);
  });

  test('maps carry the types of their keys and values, timers included', () => {
    const f = new FunctionBuilder('test');
    f.return(0n);
    const module: IrModule = {
      ...moduleOf(
        [f],
        [
          irMap({ name: 'timed', type: 'hash', keySize: 8, valueSize: 48, keyType: 'Key', valueType: 'Value' }),
          irMap({ name: 'plain', type: 'array', keySize: 4, valueSize: 4, keyType: 'u32', valueType: 'Small' }),
          irMap({ name: 'jobs', type: 'queue', keySize: 0, valueSize: 8, valueType: 'Key' }),
        ],
      ),
      structs: [
        {
          name: 'Key',
          size: 8,
          fields: [
            { name: 'addr', offset: 0, type: 'be32' },
            { name: 'port', offset: 4, type: 'be16' },
          ],
        },
        { name: 'Small', size: 4, fields: [{ name: 'a$b', offset: 0, type: 'u8', count: 4 }] },
        {
          name: 'Value',
          size: 48,
          fields: [
            { name: 'timer', offset: 0, type: 'bpf_timer' },
            { name: 'keys', offset: 16, type: 'Key', count: 2 },
            { name: 'last', offset: 32, type: 'u64' },
            { name: 'delta', offset: 40, type: 'i32' },
          ],
        },
      ],
    };
    const collection = loadCollection(emit(module));
    expect([...collection.maps.keys()]).toEqual(['timed', 'plain', 'jobs']);
    collection.close();
  });
});
