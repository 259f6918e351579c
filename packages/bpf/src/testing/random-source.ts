/**
 * Random kernel TypeScript: a program that calculates with the fields of a packet and stores results into it.
 *
 * Each statement is one line, so that one the compiler refuses (a range it cannot prove) is left out and the rest tried
 * again. What it accepts must mean the same in V8, as IR and in the kernel.
 */
import type { Random } from './random.ts';

const HEADER = `
const Header = struct('header', {
  ethernet: array(u8, 14),
  a8: u8, b8: u8, a16: u16, b16: u16, c16: u16,
  a32: u32, b32: u32, c32: u32, ai: i32, bi: i32, n16: be16, m16: be16, n32: be32, ci: i32,
  q: u64, r: u64,
  o8: u8, p8: u8, o16: u16, p16: u16, on16: be16,
  o32: u32, p32: u32, oi: i32, pi: i32, on32: be32, pad: u32,
  oq: u64, pq: u64,
});
const Cell = struct('cell', { a: u32, b: u16, c: i32 });
const Table = struct('table', { words: array(u32, 8), bytes: array(u8, 5), cells: array(Cell, 3), longs: array(u64, 4), sum: u32 });
export const state = single('state', Table);
export const cells = hashMap('cells', u32, Cell, { maxEntries: 32 });
const Small = struct('small', { a: u16, b: u8, c: be32 });
type Cell = ViewOf<typeof Cell>;
type Small = ViewOf<typeof Small>;
`;

/** Bytes of the packet that a program wants. */
export const PACKET_BYTES = 144;

const NUMBERS = ['h.a8', 'h.b8', 'h.a16', 'h.b16', 'h.a32', 'h.b32', 'h.c32', 'h.ai', 'h.bi', 'h.ci'];
const LITERALS = [
  '0',
  '1',
  '2',
  '3',
  '7',
  '15',
  '255',
  '256',
  '1000',
  '65535',
  '0x7fffffff',
  '0x80000000',
  '0xffffffff',
  '-1',
  '-128',
  '-5',
];
const STORES: readonly (readonly [field: string, narrow: string])[] = [
  ['h.o8', 'u8'],
  ['h.p8', 'u8'],
  ['h.o16', 'u16'],
  ['h.p16', 'u16'],
  ['h.o32', 'u32'],
  ['h.p32', 'u32'],
  ['h.oi', 'i32'],
  ['h.pi', 'i32'],
];

export class RandomSource {
  readonly #random: Random;
  #numbers: string[] = [];
  #variables: string[] = [];
  #bigs: string[] = [];
  #next = 0;

  constructor(random: Random) {
    this.#random = random;
  }

  /** The lines of one program's body. */
  body(count: number): string[] {
    this.#numbers = [];
    this.#variables = [];
    this.#bigs = [];
    return Array.from({ length: count }, () => this.#statement(2 + this.#random.below(2)));
  }

  #statement(depth: number): string {
    const random = this.#random;
    const name = `v${this.#next++}`;
    switch (random.below(16)) {
      case 0:
      case 1: {
        const text = `const ${name} = ${this.#number(depth + 1)};`;
        this.#numbers.push(name);
        return text;
      }
      case 2: {
        const type = random.pick(['u8', 'u16', 'u32', 'i32']);
        const text = `let ${name}: ${type} = ${type}(${this.#number(depth)});`;
        this.#numbers.push(name);
        this.#variables.push(`${name} ${type}`);
        return text;
      }
      case 3: {
        const text = `const ${name} = ${this.#big(depth)};`;
        this.#bigs.push(name);
        return text;
      }
      default:
        return this.#action(depth);
    }
  }

  /** A statement that declares nothing. */
  #action(depth: number): string {
    const random = this.#random;
    switch (depth > 0 ? random.below(16) : random.below(9)) {
      case 0:
        return `h.oq = u64(${this.#big(depth)});`;
      case 1:
        return `h.pq = ${this.#big(depth)};`;
      case 2:
      case 3: {
        const [variable, type] = (this.#variables.length === 0 ? 'h.o16 u16' : random.pick(this.#variables)).split(' ');
        if (random.chance(30)) return `${variable} ${random.pick(['&=', '|=', '^=', '>>>='])} ${this.#number(0)};`;
        return `${variable} = ${type}(${this.#number(depth)});`;
      }
      case 4:
        return random.pick([
          `h.on16 = htons(u16(${this.#number(depth)}));`,
          `h.on32 = htonl(u32(${this.#number(depth)}));`,
          'h.on16 = h.n16;',
          'h.on32 = h.n32;',
        ]);
      case 5:
        return random.pick([
          `t.words.set(${this.#number(depth)} & 7, u32(${this.#number(depth)}));`,
          `s.words.set(${this.#number(depth)} & 7, u32(${this.#number(depth)}));`,
          `t.bytes.set(u32(${this.#number(depth)}) % 5, u8(${this.#number(depth)}));`,
          `s.bytes.set(u32(${this.#number(depth)}) % 5, u8(${this.#number(depth)}));`,
          `t.cells.at(u32(${this.#number(depth)}) % 3).c = i32(${this.#number(depth)});`,
          `s.longs.set(u32(${this.#number(depth)}) % 4, u64(${this.#big(depth)}));`,
          `assign(${random.pick(['t.cells.at(1), s.cells.at(2)', 's.cells.at(0), t.cells.at(1)', 's, t'])});`,
          `atomicAdd(t, 'sum', ${this.#number(0)});`,
          `s.sum = atomicFetchAdd(t, 'sum', ${this.#number(0)});`,
        ]);
      case 6:
      case 7:
      case 8: {
        const [field, narrow] = random.pick(STORES);
        return random.chance(80)
          ? `${field} = ${narrow}(${this.#number(depth + 1)});`
          : `${field} = ${this.#number(depth)};`;
      }
      case 9:
      case 10:
        return random.chance(50) ? `if (${this.#boolean(depth)}) { ${this.#action(depth - 1)} }` : this.#view(depth);
      case 11:
      case 12:
        return `if (${this.#boolean(depth)}) { ${this.#action(depth - 1)} } else { ${this.#action(depth - 1)} }`;
      case 13: {
        const i = `i${this.#next++}`;
        const limit = random.pick(['3', '8', '5', '10']);
        const also = random.chance(40) ? ` && ${i} < ${this.#number(0)}` : '';
        return `for (let ${i} = ${random.below(3)}; ${i} < ${limit}${also}; ${i}++) { ${this.#action(depth - 1)} ${this.#inLoop(i)} }`;
      }
      case 14: {
        const cases = Array.from({ length: 1 + random.below(3) }, (_, i) => {
          const jump = random.chance(70) ? ' break;' : '';
          return `case ${i * 2 + random.below(2)}: ${this.#action(depth - 1)}${jump}`;
        });
        const otherwise = random.chance(50) ? ` default: ${this.#action(depth - 1)}` : '';
        return `switch (${this.#number(depth - 1)} & 7) { ${cases.join(' ')}${otherwise} }`;
      }
      default:
        return this.#loop(depth);
    }
  }

  /** Something that may be null: looked for, tested, used. */
  #view(depth: number): string {
    const random = this.#random;
    const name = `w${this.#next++}`;
    const use = random.pick([`${name}.a = u16(${this.#number(depth)});`, this.#action(depth - 1)]);
    const cell = `find(${this.#number(depth - 1)} & 15, ${this.#number(depth - 1)} & 3)`;
    switch (random.below(7)) {
      case 0:
        return `{ const ${name} = skb.header(Small, ${this.#number(depth)} & 127); if (${name} !== null) { ${use} } }`;
      case 1:
        return `{ const ${name} = ${cell}; if (${name} === null) { ${this.#action(depth - 1)} } else { ${name}.c = i32(${this.#number(depth)}); } }`;
      case 2:
        return `cells.update(${this.#number(depth)} & 15, stack(Cell, { a: u32(${this.#number(depth)}) }), ${random.pick(['0', 'NO_EXIST', 'EXIST'])});`;
      case 3:
        return `h.oi = cells.delete(${this.#number(depth)} & 15);`;
      case 4:
        return `{ let ${name}: Cell | null = null; for (let i = 0; i < 4; i++) { const c = cells.lookup(i); if (c !== null && (${name} === null || c.a > ${name}.a)) ${name} = c; } if (${name} !== null) ${name}.b = u16(${this.#number(depth)}); }`;
      case 5:
        return `{ let ${name}: Cell | null = t.cells.at(1); loop(4, (i) => { const c = cells.lookup(i); if (c !== null && (${name} === null || c.a > ${name}.a)) ${name} = c; return 0; }); if (${name} !== null) ${name}.c = i32(${this.#number(depth)}); }`;
      default:
        return `{ const ${name} = ${this.#boolean(depth - 1)} ? ${cell} : ${cell} ?? s.cells.at(1); if (${name} !== null && ${name}.a > 5) assign(${name}, s.cells.at(2)); }`;
    }
  }

  #inLoop(i: string): string {
    const random = this.#random;
    return random.pick([
      `h.o32 = u32(h.o32 + ${i});`,
      `if (${this.#boolean(0)}) break;`,
      `if (${this.#boolean(0)}) continue; h.p32 = u32(h.p32 ^ ${i});`,
      `h.p16 = u16(${i} * ${this.#number(0)});`,
    ]);
  }

  /** A bpf_loop, which shares variables with what is around it. */
  #loop(depth: number): string {
    const i = `i${this.#next++}`;
    const shared = this.#variables.length === 0 ? undefined : this.#random.pick(this.#variables).split(' ');
    const step = shared === undefined ? '' : `${shared[0]} = ${shared[1]}(${shared[0]} + ${i});`;
    const action = this.#action(depth - 1);
    return `loop(${this.#random.pick(['5', '3', 'h.a8', '1'])}, (${i}) => { ${action} ${step} h.oi = i32(h.oi + ${i}); return ${this.#boolean(0)} ? 1 : 0; });`;
  }

  #number(depth: number): string {
    const random = this.#random;
    if (depth <= 0 || random.chance(15)) {
      const kind = random.below(10);
      if (kind < 2) return random.pick(LITERALS);
      if (kind < 5 && this.#numbers.length > 0) return random.pick(this.#numbers);
      return random.pick(NUMBERS);
    }
    const a = () => this.#number(depth - 1);
    switch (random.below(26)) {
      case 0:
      case 1:
        return `(${a()} + ${a()})`;
      case 2:
      case 3:
        return `(${a()} - ${a()})`;
      case 4:
        return `(${a()} * ${random.chance(50) ? `u16(${a()})` : random.pick(LITERALS)})`;
      case 5:
        return `(${a()} & ${a()})`;
      case 6:
        return `(${a()} | ${a()})`;
      case 7:
        return `(${a()} ^ ${a()})`;
      case 8:
        return `(${a()} << ${random.chance(70) ? random.below(34) : a()})`;
      case 9:
        return `(${a()} >> ${random.chance(70) ? random.below(34) : a()})`;
      case 10:
        return `(${a()} >>> ${random.chance(70) ? random.below(34) : a()})`;
      case 11:
        return `~${a()}`;
      case 12:
        return `-u16(${a()})`;
      case 13:
        return `u32(u32(${a()}) / ${random.chance(50) ? random.pick(['1', '2', '8', '3', '1000']) : `u32(${a()})`})`;
      case 14:
        return `(u32(${a()}) % ${random.chance(50) ? random.pick(['1', '2', '8', '3', '1000']) : `(u16(${a()}) + 1)`})`;
      case 15:
        return `(${this.#boolean(depth - 1)} ? ${a()} : ${a()})`;
      case 16:
        return `mul32(u32(${a()}), u32(${a()}))`;
      case 17:
        return random.pick([
          'ntohs(h.n16)',
          'ntohl(h.n32)',
          'raw(h.n16)',
          'raw(h.n32)',
          't.words.get(3)',
          't.sum',
          's.cells.at(2).c',
        ]);
      case 18:
        return `u32(${this.#big(depth - 1)})`;
      case 19:
        return `Math.${random.pick(['min', 'max'])}(${a()}, ${a()})`;
      case 20:
        return `${random.pick(['fold', 'clamp', 'pick'])}(u32(${a()}), u32(${a()}))`;
      case 21:
        return random.pick([
          `t.words.get(${a()} & 7)`,
          `s.words.get(${a()} & 7)`,
          `t.bytes.get(u32(${a()}) % 5)`,
          `s.cells.at(u32(${a()}) % 3).c`,
        ]);
      default:
        return `${random.pick(['u8', 'u16', 'u32', 'u32', 'i32'])}(${a()})`;
    }
  }

  #big(depth: number): string {
    const random = this.#random;
    if (depth <= 0 || random.chance(20)) {
      if (this.#bigs.length > 0 && random.chance(40)) return random.pick(this.#bigs);
      return random.pick(['h.q', 'h.r', '5n', '0xffffffffffffffffn', '1n']);
    }
    const a = () => this.#big(depth - 1);
    switch (random.below(12)) {
      case 0:
      case 1:
      case 2:
        return `u64(${a()} ${random.pick(['+', '-', '*', '^', '|', '&'])} ${a()})`;
      case 3:
        return `u64(${this.#number(depth - 1)})`;
      case 4:
        return `(${a()} >> ${random.below(64)}n)`;
      case 5:
        return `(${a()} ${random.pick(['&', '|', '^'])} ${a()})`;
      case 6:
        return `(${a()} / ${random.pick(['1n', '2n', '1000n', '1048576n', '7n'])})`;
      case 7:
        return `(${a()} % ${random.pick(['1n', '2n', '1000n', '1048576n', '7n'])})`;
      case 8:
        return `(${this.#boolean(depth - 1)} ? ${a()} : ${a()})`;
      case 9:
        return `u64(~${a()})`;
      case 10:
        return `u64((${a()} + ${a()}) * ${a()})`;
      default:
        return `((${a()} & 0xffn) << ${random.below(56)}n)`;
    }
  }

  #boolean(depth: number): string {
    const random = this.#random;
    const comparison = () => random.pick(['<', '<=', '>', '>=', '===', '!==']);
    switch (depth <= 0 ? random.below(3) : random.below(9)) {
      case 0:
      case 1:
        return `${this.#number(Math.max(depth - 1, 0))} ${comparison()} ${this.#number(0)}`;
      case 2:
        return random.pick([
          'h.n16 === h.m16',
          'h.n16 === htons(80)',
          'h.n32 !== htonl(0x0a000001)',
          'h.n16 !== rawBe16(0)',
        ]);
      case 3:
        return `(${this.#boolean(depth - 1)} && ${this.#boolean(depth - 1)})`;
      case 4:
        return `(${this.#boolean(depth - 1)} || ${this.#boolean(depth - 1)})`;
      case 5:
        return `!(${this.#boolean(depth - 1)})`;
      case 6:
        return `${this.#big(depth - 1)} ${comparison()} ${this.#big(0)}`;
      case 7:
        return random.pick([
          'same(s.cells.at(0), t.cells.at(0))',
          'same(s, t)',
          `same(s.cells.at(${this.#number(0)} & 1), s.cells.at(2))`,
        ]);
      default:
        return `odd(u32(${this.#number(depth - 1)}))`;
    }
  }
}

const FUNCTIONS = `
/** @subprog */
function fold(a: u32, b: u32): u32 { let x: u32 = u32(a ^ (b << 3)); for (let i = 0; i < 4; i++) x = u32(mul32(x, 31) + i); return x; }
function clamp(a: u32, b: u32): u32 { if (a > b) return b; if (a === 0) return 1; return a; }
const pick = (a: u32, b: u32): u32 => { switch (a & 3) { case 0: return b; case 1: return a; default: return u32(a + b); } };
function find(key: u32, how: u32): Cell | null {
  if (how === 0) return null;
  if (how === 1) return cells.lookup(key);
  const found = cells.lookup(key);
  if (found !== null && found.b !== 0) return found;
  return how === 2 ? state.only.cells.at(2) : cells.lookup(u32(key + 1));
}
const odd = (a: u32): boolean => { if (a > 1000) return (a & 2) !== 0; return (a & 1) === 1; };
`;

/** A module with one program of these lines; the first line of the body is line `BODY_LINE`. */
export function moduleOf(lines: readonly string[]): string {
  const body = lines.map((line) => `  ${line}`);
  return `${PREAMBLE}\n${body.join('\n')}\n  return i32(h.o32 ^ h.p32);\n});\n`;
}

const PREAMBLE = `import { array, assign, atomicAdd, atomicFetchAdd, be16, be32, EXIST, hashMap, htonl, htons, i32, loop, mul32, NO_EXIST, ntohl, ntohs, raw, rawBe16, same, single, stack, struct, tcProgram, u16, u32, u64, u8, type ViewOf } from '@ipvsd/bpf';
${HEADER}${FUNCTIONS}
export const program = tcProgram('random', (skb) => {
  const h = skb.header(Header, 0);
  if (h === null) return 0;
  const t = state.only;
  const s = stack(Table, { sum: h.a32 });`;

export const BODY_LINE = PREAMBLE.split('\n').length + 1;
