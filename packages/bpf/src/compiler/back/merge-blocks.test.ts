import { expect, test } from 'vitest';
import { FunctionBuilder, moduleOf } from '../../testing/ir-builder.ts';
import { emit } from './index.ts';

const KTIME = 5;

/** `count` tests, each with an ending of its own that looks the same. */
function endings(count: number): number {
  const f = new FunctionBuilder('test');
  const context = f.params[0]!;
  for (let i = 0; i < count; i++) {
    const [end, next] = [f.block(), f.block()];
    f.if('eq', f.load(4, { reg: context }, 4 * i), BigInt(i + 7), end, next, 32);
    f.at(end).call(KTIME, []);
    f.store(4, { reg: context }, 8, 3n);
    f.return(2n);
    f.at(next);
  }
  f.return(0n);
  const bytes = Buffer.from(emit(moduleOf([f])).programs[0]!.instructions, 'base64').length;
  return bytes / 8;
}

test('each further copy of an ending costs only its test', () => {
  expect(endings(9) - endings(8)).toBe(2);
});
