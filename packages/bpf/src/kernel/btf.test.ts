import { describe, expect, test } from 'vitest';
import { describeKernel } from '../testing/kernel.ts';
import { closeFd } from './bpf-syscall.ts';
import { BtfBuilder, btfName } from './btf.ts';
import { loadBtf } from './collection.ts';

function everything(): BtfBuilder {
  const btf = new BtfBuilder();
  const address = btf.struct('Address', 16, [{ name: 'words', type: btf.array(btf.scalar('be32'), 4), offset: 0 }]);
  btf.struct('Connection', 48, [
    { name: 'client', type: address, offset: 0 },
    { name: 'port', type: btf.scalar('be16'), offset: 16 },
    { name: 'lock', type: btf.spinLock(), offset: 20 },
    { name: 'timer', type: btf.timer(), offset: 24 },
    { name: 'bytes', type: btf.typedef('count', btf.scalar('u64')), offset: 40 },
  ]);
  const prototype = btf.prototype(btf.scalar('i32'), [{ name: 'ctx', type: btf.pointer(0) }]);
  btf.function('nat', prototype, 'global');
  btf.function('expire', prototype);
  btf.string('const eth = skb.header(Eth, 0);');
  return btf;
}

describe('BTF', () => {
  test('equal types and strings are stored once', () => {
    const btf = new BtfBuilder();
    expect(btf.scalar('u32')).toBe(btf.int('u32', 4));
    expect(btf.timer()).toBe(btf.timer());
    expect(btf.string('a line')).toBe(btf.string('a line'));
    const before = btf.bytes();
    btf.timer();
    expect(btf.bytes()).toEqual(before);
  });

  test('begins with the header that the kernel expects', () => {
    const view = new DataView(everything().bytes().buffer);
    expect(view.getUint16(0, true)).toBe(0xeb9f);
    expect(view.getUint32(4, true)).toBe(24);
    expect(24 + view.getUint32(16, true) + view.getUint32(20, true)).toBe(view.byteLength);
  });

  test('sizes follow from the parts', () => {
    const btf = new BtfBuilder();
    expect(btf.sizeOf(btf.array(btf.timer(), 3))).toBe(48);
    expect(() => btf.struct('S', 4, [{ name: 'x', type: btf.scalar('u64'), offset: 0 }])).toThrow(
      'Cannot add struct S to BTF: field x ends at byte 8, must be <= 4',
    );
  });

  test('names are C identifiers', () => {
    expect(() => new BtfBuilder().struct('a-b', 0, [])).toThrow('it must be a C identifier');
    expect(btfName('a$b')).toBe('a_b');
    expect(btfName('4to6')).toBe('_4to6');
  });
});

describeKernel('BTF in the kernel', () => {
  test('is accepted with every kind of type in it', () => {
    const fd = loadBtf(everything().bytes());
    expect(fd).toBeGreaterThan(0);
    closeFd(fd);
  });

  test('that is broken is refused with the reason', () => {
    const bytes = everything().bytes();
    bytes[20] = 0xff;
    expect(() => loadBtf(bytes)).toThrow(
      /Cannot load BTF \(bpf BTF_LOAD\): EINVAL, invalid argument; the kernel says: /,
    );
  });
});
