import { expect, test } from 'vitest';
import { FunctionBuilder } from '../../testing/ir-builder.ts';
import { optimised } from './index.ts';
import { irText } from './ir-text.ts';

/** The optimised function without its first line. */
function after(write: (f: FunctionBuilder, context: number) => void): string {
  const f = new FunctionBuilder('test');
  write(f, f.params[0]!);
  return irText(optimised(f.build(), 'tc')).split('\n').slice(1).join('\n');
}

const lines = (...text: readonly string[]): string => text.join('\n');

test('constants are folded as the machine would compute them', () => {
  const text = after((f) => {
    const big = f.const(0xffff_ffffn);
    const sum = f.binary('add', big, 1n, 32);
    f.return(f.binary('or', f.binary('shl', 1n, 3n), sum));
  });
  expect(text).toBe(lines('b0:', '  return 8'));
});

test('multiplication, division and remainder by powers of two become shifts and masks', () => {
  const text = after((f, context) => {
    const x = f.load(4, { reg: context }, 8);
    const product = f.binary('mul', x, 8n);
    const quotient = f.binary('div', product, 16n);
    f.return(f.binary('mod', quotient, 64n));
  });
  expect(text).toBe(
    lines('b0:', '  r1 = load4 [r0 + 8]', '  r2 = shl r1, 3', '  r3 = shr r2, 4', '  r4 = and r3, 63', '  return r4'),
  );
});

test('a chain of constant offsets ends in the load', () => {
  const text = after((f, context) => {
    const data = f.load(4, { reg: context }, 76);
    const ip = f.binary('add', data, 14n);
    const tcp = f.binary('add', ip, 20n);
    f.return(f.load(2, { reg: tcp }, 2));
  });
  expect(text).toBe(lines('b0:', '  r1 = load4 [r0 + 76]', '  r4 = load2 [r1 + 36]', '  return r4'));
});

test('a null that an inlined function returns is not tested by its caller', () => {
  const text = after((f, context) => {
    const result = f.register();
    const [none, some, join, missing, found] = [f.block(), f.block(), f.block(), f.block(), f.block()];
    const pointer = f.call(1, [f.mapAddress('m'), context]);
    f.if('eq', pointer, 0n, none, some);
    f.at(none).const(0n, result);
    f.goto(join);
    f.at(some).move(pointer, result);
    f.goto(join);
    f.at(join).if('eq', f.move(result), 0n, missing, found);
    f.at(missing).return(2n);
    f.at(found).return(f.load(4, { reg: result }, 4));
  });
  expect(text).toBe(
    lines(
      'b0:',
      '  r2 = map m',
      '  r3 = helper1(r2, r0)',
      '  if r3 eq 0 goto b2 else b1',
      'b1:  from b0',
      '  r5 = load4 [r3 + 4]',
      '  return r5',
      'b2:  from b0',
      '  return 2',
    ),
  );
});

test('a condition kept in a variable is tested where it is made', () => {
  const text = after((f, context) => {
    const flag = f.register();
    const [yes, no, join, then, otherwise] = [f.block(), f.block(), f.block(), f.block(), f.block()];
    f.if('gt', f.load(4, { reg: context }, 0), 1500n, yes, no, 32);
    f.at(yes).const(1n, flag);
    f.goto(join);
    f.at(no).const(0n, flag);
    f.goto(join);
    f.at(join).if('ne', flag, 0n, then, otherwise, 32);
    f.at(then).return(2n);
    f.at(otherwise).return(0n);
  });
  expect(text).toBe(
    lines(
      'b0:',
      '  r2 = load4 [r0]',
      '  if r2 gt 1500 (32) goto b2 else b1',
      'b1:  from b0',
      '  return 0',
      'b2:  from b0',
      '  return 2',
    ),
  );
});

test('a port compared in host order is compared in network order', () => {
  const text = after((f, context) => {
    const data = f.load(4, { reg: context }, 76);
    const port = f.swap(f.load(2, { reg: data }, 36), 16);
    const [web, other] = [f.block(), f.block()];
    f.if('eq', port, 80n, web, other, 32);
    f.at(web).return(1n);
    f.at(other).return(0n);
  });
  expect(text).toContain('eq 0x5000 (32)');
  expect(text).not.toContain('swap');
});

test('narrowing is left out where only the narrow part is used', () => {
  const text = after((f, context) => {
    const slot = f.slot(8, true);
    const sum = f.binary('add', f.load(4, { reg: context }, 8), f.load(4, { reg: context }, 32));
    f.store(2, { slot }, 0, f.extend(sum, 16));
    f.store(2, { slot }, 2, f.extend(f.load(2, { reg: context }, 12), 16));
    f.store(4, { slot }, 4, 0n);
    f.return(f.call(130, [f.mapAddress('m'), f.slotAddress(slot), 8n, 0n]));
  });
  expect(text).not.toContain('zero16');
});

test('a mask is kept where the verifier could not know that it is needless', () => {
  const text = after((f, context) => {
    const data = f.load(4, { reg: context }, 76);
    const length = f.swap(f.load(2, { reg: data }, 16), 16);
    const offset = f.binary('and', length, 0xffffn);
    f.return(f.load(1, { reg: f.binary('add', data, offset) }, 0));
  });
  expect(text).toContain('zero16');
});

test('data and data_end are loaded once between calls', () => {
  const text = after((f, context) => {
    const header = (size: bigint): number => {
      const data = f.load(4, { reg: context }, 76);
      const end = f.load(4, { reg: context }, 80);
      const [bad, good] = [f.block(), f.block()];
      f.if('gt', f.binary('add', data, size), end, bad, good);
      f.at(bad).return(0n);
      f.at(good);
      return data;
    };
    const eth = header(14n);
    const ip = header(34n);
    f.call(39, [context, 0n]);
    const again = header(34n);
    const sum = f.binary('add', f.load(1, { reg: eth }, 0), f.load(1, { reg: ip }, 0));
    f.return(f.binary('add', sum, f.load(1, { reg: again }, 0)));
  });
  expect(text.match(/load4 \[r0 \+ 76\]/g)).toHaveLength(2);
  expect(text.match(/load4 \[r0 \+ 80\]/g)).toHaveLength(2);
});

test('zeroes that are overwritten before anyone looks are not stored', () => {
  const text = after((f, context) => {
    const key = f.slot(16, true);
    f.store(8, { slot: key }, 0, 0n);
    f.store(8, { slot: key }, 8, 0n);
    f.store(4, { slot: key }, 0, f.load(4, { reg: context }, 8));
    f.store(4, { slot: key }, 4, f.load(4, { reg: context }, 32));
    f.store(4, { slot: key }, 8, 7n);
    f.return(f.call(3, [f.mapAddress('m'), f.slotAddress(key)]));
  });
  expect(text.match(/store8/g)).toHaveLength(1);
  expect(text).toContain('store8 [s0 + 8], 0');
});

test('a variable used for two things is two registers', () => {
  const text = after((f, context) => {
    const x = f.load(4, { reg: context }, 8);
    f.store(4, { reg: context }, 32, f.binary('add', x, 1n, 32));
    f.load(4, { reg: context }, 0, x);
    f.return(x);
  });
  const [first, second] = [...text.matchAll(/(r\d+) = load4/g)].map(([, reg]) => reg);
  expect(first).not.toBe(second);
});

test('a counter that only counts itself disappears with its loop kept', () => {
  const text = after((f, context) => {
    const i = f.const(0n);
    const unused = f.const(5n);
    const [head, body, done] = [f.block(), f.block(), f.block()];
    f.goto(head);
    f.at(head).if('lt', i, 8n, body, done, 32);
    f.at(body);
    f.binary('add', unused, 3n, 64, unused);
    f.store(4, { reg: context }, 8, i);
    f.binary('add', i, 1n, 32, i);
    f.goto(head);
    f.at(done).return(0n);
  });
  expect(text).not.toContain(', 3');
  expect(text).toContain('store4 [r0 + 8]');
});

test('blocks that nobody reaches are gone', () => {
  const text = after((f) => {
    const [never, always] = [f.block(), f.block()];
    f.if('eq', 1n, 2n, never, always);
    f.at(never).call(5, []);
    f.return(1n);
    f.at(always).return(0n);
  });
  expect(text).toBe(lines('b0:', '  return 0'));
});
