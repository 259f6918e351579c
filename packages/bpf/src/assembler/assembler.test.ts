import { describe, expect, test } from 'vitest';
import {
  alu32,
  alu64,
  atomic,
  call,
  callFunction,
  decode,
  disassemble,
  encode,
  exit,
  helperName,
  helperNumber,
  type Insn,
  insn,
  jump,
  jump32,
  jump64,
  ldImm64,
  ldMap,
  ldMapValue,
  ldx,
  ldxSigned,
  mov32,
  mov64,
  neg32,
  neg64,
  st,
  stx,
  toBigEndian,
  toLittleEndian,
} from './index.ts';

/** Bytes as clang and the kernel have them, and the text that the verifier prints. */
const FORMS: readonly (readonly [string, readonly Insn[], string])[] = [
  ['b703000005000000', [mov64(3, 5)], 'r3 = 5'],
  ['b4030000ffffffff', [mov32(3, -1)], 'w3 = -1'],
  ['bf21000000000000', [mov64(1, { reg: 2 })], 'r1 = r2'],
  ['0f21000000000000', [alu64('add', 1, { reg: 2 })], 'r1 += r2'],
  ['0c21000000000000', [alu32('add', 1, { reg: 2 })], 'w1 += w2'],
  ['c701000020000000', [alu64('sar', 1, 32)], 'r1 s>>= 32'],
  ['8700000000000000', [neg64(0)], 'r0 = -r0'],
  ['8400000000000000', [neg32(0)], 'w0 = -w0'],
  ['dc01000010000000', [toBigEndian(1, 16)], 'r1 = be16 r1'],
  ['d401000040000000', [toLittleEndian(1, 64)], 'r1 = le64 r1'],
  ['6110040000000000', [ldx(4, 0, 1, 4)], 'r0 = *(u32 *)(r1 +4)'],
  ['79a0f8ff00000000', [ldx(8, 0, 10, -8)], 'r0 = *(u64 *)(r10 -8)'],
  ['91a0f8ff00000000', [ldxSigned(1, 0, 10, -8)], 'r0 = *(s8 *)(r10 -8)'],
  ['6b1afcff00000000', [stx(2, 10, -4, 1)], '*(u16 *)(r10 -4) = r1'],
  ['7a0af8ff07000000', [st(8, 10, -8, 7)], '*(u64 *)(r10 -8) = 7'],
  ['5d21030000000000', [jump64('ne', 1, { reg: 2 }, 3)], 'if r1 != r2 goto pc+3'],
  ['a601feff00000080', [jump32('lt', 1, -0x80000000, -2)], 'if w1 < 0x80000000 goto pc-2'],
  ['4501010008000000', [jump64('set', 1, 8, 1)], 'if r1 & 0x8 goto pc+1'],
  ['0500070000000000', [jump(7)], 'goto pc+7'],
  ['8500000001000000', [call(1)], 'call bpf_map_lookup_elem#1'],
  ['8510000005000000', [callFunction(5)], 'call pc+5'],
  ['9500000000000000', [exit()], 'exit'],
  ['db21000000000000', [atomic('add', 8, 1, 0, 2)], 'lock *(u64 *)(r1 +0) += r2'],
  ['c321080041000000', [atomic('or', 4, 1, 8, 2, true)], 'r2 = atomic_fetch_or((u32 *)(r1 +8), r2)'],
  ['db210000e1000000', [atomic('exchange', 8, 1, 0, 2)], 'r2 = atomic64_xchg((u64 *)(r1 +0), r2)'],
  ['c3210000f1000000', [atomic('compareExchange', 4, 1, 0, 2)], 'r0 = atomic_cmpxchg((u32 *)(r1 +0), r0, r2)'],
  ['18010000efbeadde0000000001000000', ldImm64(1, 0x1_dead_beefn), 'r1 = 0x1deadbeef'],
  ['18000000ffffffff00000000ffffffff', ldImm64(0, -1n), 'r0 = 0xffffffffffffffff'],
  ['18110000000000000000000000000000', ldMap(1), 'r1 = map[fd:0]'],
  ['18210000000000000000000000000000', ldMapValue(1), 'r1 = map[fd:0][0]+0'],
];

describe('assembler', () => {
  test.each(FORMS)('%s', (hex, insns, text) => {
    const bytes = encode(insns);
    expect(Buffer.from(bytes).toString('hex')).toBe(hex);
    expect(decode(bytes)).toEqual([...insns]);
    expect(disassemble(insns)).toBe(`0: (${hex.slice(0, 2)}) ${text}`);
  });

  test('a field that does not fit is refused, never wrapped', () => {
    expect(() => encode([exit(), jump(40_000)])).toThrow('Cannot encode instruction 1: its offset is 40000');
    expect(() => encode([mov64(0, 2 ** 31)])).toThrow('its immediate is 2147483648');
    expect(() => encode([mov64(11, 0)])).toThrow('its destination register is 11');
  });

  test('a listing counts slots and names constants and places', () => {
    const text = disassemble([...ldMap(1), call(1), exit()], {
      constant: (slot) => (slot === 0 ? 'map[conns]' : undefined),
      before: (slot) => (slot === 0 ? ['; conns.lookup(key)'] : []),
    });
    expect(text.split('\n')).toEqual([
      '; conns.lookup(key)',
      '0: (18) r1 = map[conns]',
      '2: (85) call bpf_map_lookup_elem#1',
      '3: (95) exit',
    ]);
  });

  test('an unknown opcode is said to be unknown', () => {
    expect(disassemble([insn(0xff, 0, 0, 0, 0)])).toBe('0: (ff) unknown opcode ff');
  });

  test('helpers have names and numbers', () => {
    expect(helperName(181)).toBe('bpf_loop');
    expect(helperName(169)).toBe('bpf_timer_init');
    expect(helperName(152)).toBe('bpf_redirect_neigh');
    expect(helperName(211)).toBe('bpf_cgrp_storage_delete');
    expect(helperName(212)).toBeUndefined();
    expect(helperNumber('bpf_ktime_get_coarse_ns')).toBe(160);
    expect(helperNumber('unspec')).toBeUndefined();
  });
});
