import { array, be16, struct, u8, u32, u64 } from '@ipvsd/bpf';
import { expect, test } from 'vitest';
import { structsOf } from './layout.ts';

const Inner = struct('inner', { a: u8, b: u64 });
const Outer = struct('outer', { port: be16, inner: Inner, list: array(u32, 3) });

test('a struct becomes C, those it contains first, with a proof of every offset', () => {
  const lines = structsOf([Outer, Inner] as never);
  expect(lines.filter((line) => line.startsWith('struct'))).toEqual(['struct inner {', 'struct outer {']);
  expect(lines).toContain('  u16 port;');
  expect(lines).toContain('  struct inner inner;');
  expect(lines).toContain('  u32 list[3];');
  expect(lines).toContain('_Static_assert(__builtin_offsetof(struct outer, list) == 24, "list");');
  expect(lines).toContain('_Static_assert(sizeof(struct outer) == 40, "outer");');
});
