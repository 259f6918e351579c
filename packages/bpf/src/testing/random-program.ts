/**
 * Random kernel TypeScript as data planes are written: headers at fixed and computed offsets, keys on the stack, maps of
 * several types, functions that return views or null, helpers that move the packet, loops, closures and subprograms.
 *
 * Everything is valid by construction: views are tested before use, packet views are dropped from sight once the packet may
 * have moved, and an element of a hash is not held while the hash is changed (the kernel may reuse its memory).
 */
import type { Random } from './random.ts';

interface ViewName {
  readonly name: string;
  readonly type: keyof typeof FIELDS;
  readonly kind: 'packet' | 'map' | 'stack';
}

/** What may be named at one point of the program. */
interface Scope {
  readonly numbers: readonly string[];
  /** Variables that may be assigned. */
  readonly variables: readonly string[];
  readonly views: readonly ViewName[];
  /** Whether `skb` is at hand. */
  readonly skb: boolean;
  /** An element of the hash is held: it must not be changed. */
  readonly held: boolean;
}

const STRUCTS = `
const Ethernet = struct('ethernet', { destination: array(u8, 6), source: array(u8, 6), protocol: be16 });
const Network = struct('network', { first: u8, tos: u8, length: be16, id: u16, check: u16, source: be32, target: be32 });
const Transport = struct('transport', { from: be16, to: be16, sequence: be32, flags: u8, small: u8, check: u16 });
const Key = struct('key', { address: be32, port: be16, kind: u8 });
const Inner = struct('inner', { a: u32, b: u16, c: i32 });
const Value = struct('value', { count: u64, word: u32, half: u16, byte: u8, sign: i32, words: array(u32, 4), inner: Inner, cells: array(Inner, 2) });
const Job = struct('job', { id: u32, weight: u16, when: u64 });
export const table = hashMap('table', Key, Value, { maxEntries: 6 });
export const cells = arrayMap('cells', Value, { maxEntries: 4 });
export const settings = single('settings', Value);
export const jobs = queue('jobs', Job, { maxEntries: 3 });
`;

/** Fields by what they hold; all of them can be read as a number and stored. */
const FIELDS = {
  Ethernet: { protocol: 'be16' },
  Network: { first: 'u8', tos: 'u8', length: 'be16', id: 'u16', check: 'u16', source: 'be32', target: 'be32' },
  Transport: { from: 'be16', to: 'be16', sequence: 'be32', flags: 'u8', small: 'u8', check: 'u16' },
  Key: { address: 'be32', port: 'be16', kind: 'u8' },
  Inner: { a: 'u32', b: 'u16', c: 'i32' },
  Value: { count: 'u64', word: 'u32', half: 'u16', byte: 'u8', sign: 'i32' },
  Job: { id: 'u32', weight: 'u16', when: 'u64' },
} as const;

const SIZES = { Ethernet: 14, Network: 16, Transport: 12 } as const;
const LITERALS = [
  '0',
  '1',
  '2',
  '3',
  '5',
  '8',
  '15',
  '255',
  '256',
  '1024',
  '65535',
  '0x7fffffff',
  '0x80000000',
  '0xffffffff',
];

export class RandomProgram {
  readonly #random: Random;
  #next = 0;
  #depth = 0;

  constructor(random: Random) {
    this.#random = random;
  }

  /** The source of a module that exports `program` and its maps. */
  module(statements: number): string {
    const functions = Array.from({ length: 1 + this.#random.below(3) }, () => [
      this.#numberFunction(),
      this.#conditionFunction(),
      this.#headerFunction(),
      this.#findFunction(),
      this.#changeFunction(),
    ]).flat();
    const scope: Scope = { numbers: [], variables: [], views: [], skb: true, held: false };
    const body = [
      'let verdict: u32 = 0;',
      'const key = stack(Key, { kind: 1 });',
      'const scratch = stack(Value);',
      ...this.#statements(statements, {
        ...scope,
        variables: ['verdict'],
        views: [
          { name: 'key', type: 'Key', kind: 'stack' },
          { name: 'scratch', type: 'Value', kind: 'stack' },
        ],
      }),
      'return verdict & 0xffff;',
    ];
    return [
      `import { array, arrayMap, assign, atomicAdd, atomicExchange, atomicFetchAdd, be16, be32, clear, hashMap, htonl, htons, i32, l3CsumReplace, l4CsumReplace, loadBytes, loop, mul32, ntohl, ntohs, pullData, queue, raw, rawBe16, rawBe32, same, single, type Skb, stack, storeBytes, struct, tcProgram, u16, u32, u64, u8, type ViewOf } from '@ipvsd/bpf';`,
      STRUCTS,
      `const STEPS = [{ shift: 3, mix: (x: u32): u32 => u32(x ^ 0x5bd1) }, { shift: 7, mix: (x: u32): u32 => mul32(x, 0x01000193) }];`,
      ...functions,
      `export const program = tcProgram('fuzz', (skb) => {`,
      ...body.map((line) => `  ${line}`),
      '});',
      '',
    ].join('\n');
  }

  // Functions -------------------------------------------------------------------------------------------------------

  readonly #numbers: string[] = [];
  readonly #conditions: string[] = [];
  readonly #headers: { readonly name: string; readonly type: 'Network' | 'Transport' }[] = [];
  readonly #finders: { readonly name: string; readonly held: boolean }[] = [];
  readonly #changers: string[] = [];

  #function(head: string, body: readonly string[], subprogram = false): string {
    return [
      ...(subprogram ? ['/** @subprog */'] : []),
      `function ${head} {`,
      ...body.map((line) => `  ${line}`),
      '}',
    ].join('\n');
  }

  #numberFunction(): string {
    const name = this.#fresh('number');
    const scope: Scope = { numbers: ['a', 'b'], variables: ['x'], views: [], skb: false, held: true };
    const body = ['let x: u32 = u32(a + b);'];
    for (let i = this.#random.below(3); i > 0; i--)
      body.push(`if (${this.#condition(1, scope)}) return ${this.#number(1, scope)};`);
    body.push(
      ...this.#within(1, () => this.#statements(1 + this.#random.below(3), scope)),
      `return ${this.#number(1, scope)};`,
    );
    const text = this.#function(`${name}(a: u32, b: u32): u32`, body, this.#random.chance(30));
    this.#numbers.push(name);
    return text;
  }

  #conditionFunction(): string {
    const name = this.#fresh('is');
    const scope: Scope = { numbers: ['a'], variables: [], views: [], skb: false, held: true };
    const body = [
      ...(this.#random.chance(50)
        ? [`if (${this.#condition(1, scope)}) return ${this.#random.pick(['true', 'false'])};`]
        : []),
      `return ${this.#condition(2, scope)};`,
    ];
    this.#conditions.push(name);
    return this.#function(`${name}(a: u32): boolean`, body);
  }

  /** A header behind a length that the packet itself tells. */
  #headerFunction(): string {
    const name = this.#fresh('header');
    const type = this.#random.pick(['Network', 'Transport'] as const);
    const body = [
      'const ip = skb.header(Network, 14);',
      'if (ip === null) return null;',
      ...(this.#random.chance(50) ? ['if (ip.tos > 200) return null;'] : []),
      `return skb.header(${type}, ${this.#random.pick(['14 + (ip.first & 15) * 4', '30', '14 + (ip.tos & 7)'])});`,
    ];
    this.#headers.push({ name, type });
    return this.#function(`${name}(skb: Skb): ViewOf<typeof ${type}> | null`, body);
  }

  #findFunction(): string {
    const name = this.#fresh('find');
    const held = this.#random.chance(60);
    const scope: Scope = {
      numbers: ['n'],
      variables: [],
      views: [{ name: 'k', type: 'Key', kind: 'stack' }],
      skb: false,
      held: true,
    };
    const body = [
      ...(held
        ? [
            'const first = table.lookup(k);',
            `if (first !== null${this.#random.chance(50) ? ' && first.byte > 20' : ''}) return first;`,
          ]
        : []),
      ...(this.#random.chance(50) ? [`if (${this.#condition(1, scope)}) return null;`] : []),
      `return cells.at(${this.#random.pick(['n', 'n & 3', 'u32(n + 1)', 'k.kind'])});`,
    ];
    this.#finders.push({ name, held });
    return this.#function(`${name}(k: ViewOf<typeof Key>, n: u32): ViewOf<typeof Value> | null`, body);
  }

  #changeFunction(): string {
    const name = this.#fresh('change');
    const scope: Scope = {
      numbers: ['n'],
      variables: [],
      views: [{ name: 'v', type: 'Value', kind: 'map' }],
      skb: false,
      held: true,
    };
    const body = this.#within(1, () => this.#statements(2 + this.#random.below(3), scope));
    if (this.#random.chance(40)) body.unshift(`if (${this.#condition(1, scope)}) return;`);
    this.#changers.push(name);
    return this.#function(`${name}(v: ViewOf<typeof Value>, n: u32): void`, body);
  }

  // Statements ------------------------------------------------------------------------------------------------------

  #statements(count: number, start: Scope): string[] {
    const lines: string[] = [];
    let scope = start;
    for (let i = 0; i < count; i++) {
      const { text, after } = this.#statement(scope);
      lines.push(...text);
      scope = after;
    }
    return lines;
  }

  #within<T>(depth: number, what: () => T): T {
    this.#depth += depth;
    const result = what();
    this.#depth -= depth;
    return result;
  }

  /** Lines in a block of their own: what they declare ends with it, but a packet moved stays moved. */
  #block(count: number, scope: Scope): { lines: string[]; moved: boolean } {
    const lines = this.#within(1, () => this.#statements(count, scope));
    return { lines: lines.map((line) => `  ${line}`), moved: lines.some((line) => MOVING.test(line)) };
  }

  #statement(scope: Scope): { text: string[]; after: Scope } {
    const random = this.#random;
    const deep = this.#depth > 2;
    const choice = random.below(deep ? 50 : 100);
    if (choice < 8) return this.#declare(scope);
    if (choice < 34) return { text: [this.#store(scope)], after: scope };
    if (choice < 42) return { text: [this.#assign(scope)], after: scope };
    if (choice < 50) return this.#call(scope);
    if (choice < 62) return this.#if(scope);
    if (choice < 70) return this.#header(scope);
    if (choice < 80) return this.#find(scope);
    if (choice < 85) return this.#for(scope);
    if (choice < 89) return this.#loop(scope);
    if (choice < 93) return this.#switch(scope);
    if (choice < 96) return this.#leave(scope);
    return {
      text: [
        'for (const step of STEPS) {',
        `  ${this.#assigned(scope, (x) => `step.mix(u32(${x} >>> step.shift))`)}`,
        '}',
      ],
      after: scope,
    };
  }

  #declare(scope: Scope): { text: string[]; after: Scope } {
    const name = this.#fresh('v');
    if (this.#random.chance(50)) {
      return {
        text: [`const ${name}: u32 = ${this.#number(2, scope)};`],
        after: { ...scope, numbers: [...scope.numbers, name] },
      };
    }
    const after = { ...scope, variables: [...scope.variables, name] };
    return { text: [`let ${name}: u32 = ${this.#number(2, scope)};`], after };
  }

  #assign(scope: Scope): string {
    return this.#assigned(scope, () => this.#number(2, scope));
  }

  #assigned(scope: Scope, value: (variable: string) => string): string {
    if (scope.variables.length === 0) return this.#store(scope);
    const variable = this.#random.pick(scope.variables);
    return `${variable} = ${value(variable)};`;
  }

  #store(scope: Scope): string {
    const random = this.#random;
    if (scope.views.length === 0) return `settings.only.word = ${this.#number(1, scope)};`;
    const view = random.pick(scope.views);
    const fields = Object.entries(FIELDS[view.type]);
    const [field, type] = random.pick(fields);
    const place = `${view.name}.${field}`;
    if (view.type === 'Value' && random.chance(30)) return this.#storeDeep(view, scope);
    if (field === 'kind') return `${place} = u8(${this.#number(1, scope)} & 3);`;
    if (field === 'address' && random.chance(70)) return `${place} = htonl(${this.#number(1, scope)} & 1);`;
    if (field === 'port' && random.chance(70)) return `${place} = htons(u16(${this.#number(1, scope)} & 1));`;
    // Atomics ask for a map value; in a function its view has lost where it lies.
    if (type === 'u64') return `${place} = u64(${place} + u64(${this.#number(1, scope)}));`;
    return `${place} = ${this.#as(type, 2, scope)};`;
  }

  #storeDeep({ name, kind }: ViewName, scope: Scope): string {
    const random = this.#random;
    const value = this.#number(1, scope);
    return random.pick([
      `${name}.words.set(${this.#number(0, scope)} & 3, ${value});`,
      `${name}.words.set(2, ${value});`,
      `${name}.inner.a = ${value};`,
      `${name}.cells.at(${this.#number(0, scope)} & 1).b = u16(${value});`,
      `assign(${name}.cells.at(1), ${name}.inner);`,
      `clear(${name}.inner);`,
      kind === 'map'
        ? `atomicAdd(settings.only, 'word', ${value});`
        : `assign(${name}.cells.at(0), ${name}.cells.at(1));`,
    ]);
  }

  #call(scope: Scope): { text: string[]; after: Scope } {
    const random = this.#random;
    const key = scope.views.find(({ type, kind }) => type === 'Key' && kind === 'stack');
    const from = scope.views.find(({ type, kind }) => type === 'Value' && kind === 'stack');
    const same = (text: string): { text: string[]; after: Scope } => ({ text: [text], after: scope });
    switch (random.below(9)) {
      case 0:
      case 1:
        if (scope.held || key === undefined || from === undefined) break;
        return same(this.#assigned(scope, () => `u32(table.update(${key.name}, ${from.name}, ${random.below(3)}))`));
      case 2:
        if (scope.held || key === undefined) break;
        return same(this.#assigned(scope, () => `u32(table.delete(${key.name}))`));
      case 3: {
        const job = this.#fresh('job');
        const lines = [
          `const ${job} = stack(Job, { id: ${this.#number(1, scope)}, weight: ${this.#as('u16', 1, scope)} });`,
        ];
        const use = this.#assigned(
          scope,
          (x) => `u32(${x} + u32(jobs.${random.chance(50) ? `push(${job}, 0)` : `pop(${job})`}))`,
        );
        return {
          text: [...lines, use],
          after: { ...scope, views: [...scope.views, { name: job, type: 'Job', kind: 'stack' }] },
        };
      }
      case 4:
        return same(this.#assigned(scope, () => `atomicFetchAdd(settings.only, 'word', ${this.#number(1, scope)})`));
      case 5:
        return same(this.#assigned(scope, () => `atomicExchange(settings.only, 'word', ${this.#number(1, scope)})`));
      case 6:
      case 7:
        if (scope.skb) return this.#move(scope);
        break;
      case 8: {
        const value = scope.views.filter(({ type }) => type === 'Value');
        if (value.length === 0 || this.#changers.length === 0 || !scope.skb) break;
        return same(`${random.pick(this.#changers)}(${random.pick(value).name}, ${this.#number(1, scope)});`);
      }
    }
    return same(this.#assign(scope));
  }

  /** Helpers after which packet views are gone. */
  #move(scope: Scope): { text: string[]; after: Scope } {
    const random = this.#random;
    const n = (depth = 1): string => this.#number(depth, scope);
    const text = random.pick([
      `pullData(skb, 0)`,
      `l4CsumReplace(skb, 30 + (${n(0)} & 6), ${n()}, ${n()}, ${random.pick(['4', '20', '2'])})`,
      `l3CsumReplace(skb, 24, u16(${n()}), u16(${n()}), 2)`,
      `storeBytes(skb, 14 + (${n(0)} & 31), ${scope.views.find(({ kind }) => kind === 'stack')?.name ?? 'stack(Key)'}, 0)`,
    ]);
    const line = this.#assigned(
      { ...scope, variables: scope.variables.slice(0, 1) },
      (x) => `u32(${x} + u32(${text}))`,
    );
    return { text: [line], after: withoutPacket(scope) };
  }

  #if(scope: Scope): { text: string[]; after: Scope } {
    const yes = this.#block(1 + this.#random.below(3), scope);
    const text = [`if (${this.#condition(2, scope)}) {`, ...yes.lines];
    let moved = yes.moved;
    if (this.#random.chance(40)) {
      const no = this.#block(1 + this.#random.below(3), scope);
      text.push('} else {', ...no.lines);
      moved ||= no.moved;
    }
    return { text: [...text, '}'], after: moved ? withoutPacket(scope) : scope };
  }

  /** A header, by one of the ways to get one; half of the time the rest of the block depends on it. */
  #header(scope: Scope): { text: string[]; after: Scope } {
    const random = this.#random;
    if (!scope.skb) return { text: [this.#store(scope)], after: scope };
    const name = this.#fresh('h');
    const chosen = this.#headers.length > 0 && random.chance(40) ? random.pick(this.#headers) : undefined;
    const type = chosen?.type ?? random.pick(['Ethernet', 'Network', 'Transport'] as const);
    const at =
      type === 'Ethernet'
        ? '0'
        : type === 'Network'
          ? '14'
          : random.pick(['30', `${SIZES.Network + 14 + random.below(8)}`, `14 + (${this.#number(0, scope)} & 63)`]);
    const get = chosen === undefined ? `skb.header(${type}, ${at})` : `${chosen.name}(skb)`;
    return this.#withView(`const ${name} = ${get};`, { name, type, kind: 'packet' }, scope, random.chance(30));
  }

  #find(scope: Scope): { text: string[]; after: Scope } {
    const random = this.#random;
    const key = scope.views.find(({ type, kind }) => type === 'Key' && kind === 'stack');
    const name = this.#fresh('f');
    const finder =
      this.#finders.length > 0 && key !== undefined && scope.skb && random.chance(60)
        ? random.pick(this.#finders)
        : undefined;
    const hash = finder?.held ?? (key !== undefined && random.chance(50));
    const index = this.#number(1, scope);
    const get =
      finder !== undefined
        ? `${finder.name}(${key!.name}, ${index} & 7)`
        : hash
          ? `table.lookup(${key!.name})`
          : `cells.at(${index} & 7)`;
    const view: ViewName = { name, type: 'Value', kind: 'map' };
    // An element of the hash is only held within braces, where nothing changes the hash.
    return this.#withView(
      `const ${name} = ${get};`,
      view,
      { ...scope, held: scope.held || hash },
      !hash && random.chance(30),
      scope,
    );
  }

  #withView(
    declaration: string,
    view: ViewName,
    scope: Scope,
    early: boolean,
    around = scope,
  ): { text: string[]; after: Scope } {
    const inside = { ...scope, views: [...scope.views, view] };
    if (early && this.#depth === 0)
      return { text: [declaration, `if (${view.name} === null) return 1;`], after: inside };
    const block = this.#block(1 + this.#random.below(4), inside);
    const text = [declaration, `if (${view.name} !== null) {`, ...block.lines];
    if (this.#random.chance(30)) text.push('} else {', ...this.#block(1, { ...scope, skb: false }).lines);
    return { text: [...text, '}'], after: block.moved ? withoutPacket(around) : around };
  }

  #for(scope: Scope): { text: string[]; after: Scope } {
    const i = this.#fresh('i_');
    // Whether the body moves the packet is not known before it is written: it starts without packet views.
    const inside = { ...withoutPacket(scope), numbers: [...scope.numbers, i] };
    const { lines } = this.#within(1, () => this.#block(1 + this.#random.below(2), inside));
    const bound = this.#random.chance(50) ? ` && ${i} < ${this.#number(0, withoutPacket(scope))}` : '';
    if (this.#random.chance(40))
      lines.push(`  if (${this.#condition(1, inside)}) ${this.#random.pick(['break', 'continue'])};`);
    return {
      text: [`for (let ${i} = 0; ${i} < ${2 + this.#random.below(4)}${bound}; ${i}++) {`, ...lines, '}'],
      after: withoutPacket(scope),
    };
  }

  /** A closure that bpf_loop calls: it sees variables, stack and map views of the function around. */
  #loop(scope: Scope): { text: string[]; after: Scope } {
    const i = this.#fresh('i_');
    const inside = { ...withoutPacket(scope), numbers: [...scope.numbers, i], skb: false };
    const { lines } = this.#within(2, () => this.#block(1 + this.#random.below(2), inside));
    // Where the verifier can prove that there is no round, it drops the callback and then stumbles over its address.
    const rounds = this.#random.pick(['3', '10', 'settings.only.half & 15']);
    return {
      text: [`loop(${rounds}, (${i}) => {`, ...lines, `  return ${this.#condition(1, inside)} ? 1 : 0;`, '});'],
      after: scope,
    };
  }

  #switch(scope: Scope): { text: string[]; after: Scope } {
    const text = [`switch (${this.#number(1, scope)} & 3) {`];
    let moved = false;
    for (const value of [0, 1, 2].slice(0, 1 + this.#random.below(3))) {
      const block = this.#block(1 + this.#random.below(2), moved ? withoutPacket(scope) : scope);
      moved ||= block.moved;
      text.push(`  case ${value}: {`, ...block.lines, '  }', ...(this.#random.chance(70) ? ['  break;'] : []));
    }
    return { text: [...text, '}'], after: moved ? withoutPacket(scope) : scope };
  }

  #leave(scope: Scope): { text: string[]; after: Scope } {
    if (!scope.skb || !scope.variables.includes('verdict')) return { text: [this.#assign(scope)], after: scope };
    return { text: [`if (${this.#condition(2, scope)}) return ${this.#number(1, scope)} & 0xff;`], after: scope };
  }

  // Expressions -----------------------------------------------------------------------------------------------------

  /** A number from 0 to 2^32 - 1. */
  #number(depth: number, scope: Scope): string {
    const random = this.#random;
    if (depth <= 0 || random.chance(15)) return this.#leaf(scope);
    const n = (): string => this.#number(depth - 1, scope);
    switch (random.below(18)) {
      case 0:
      case 1:
        return `u32(${n()} + ${n()})`;
      case 2:
        return `u32(${n()} - ${n()})`;
      case 3:
        return `mul32(${n()}, ${n()})`;
      case 4:
        return `u32(${n()} & ${n()})`;
      case 5:
        return `u32(${n()} | ${n()})`;
      case 6:
        return `u32(${n()} ^ ${n()})`;
      case 7:
        return `(${n()} >>> ${random.chance(70) ? random.below(32) : `(${n()} & 31)`})`;
      case 8:
        return `u32(${n()} << ${random.chance(70) ? random.below(32) : `(${n()} & 31)`})`;
      case 9:
        return `u32(${n()} / ${n()})`;
      case 10:
        return `(${n()} % (u16(${n()}) + 1))`;
      case 11:
        return `(${this.#condition(depth - 1, scope)} ? ${n()} : ${n()})`;
      case 12:
        return `u32((u64(${n()}) * u64(${n()})) >> ${random.below(33)}n)`;
      case 13:
        return `Math.min(${n()}, ${n()})`;
      case 14:
        return this.#numbers.length === 0 || (this.#depth > 1 && random.chance(50))
          ? n()
          : `${random.pick(this.#numbers)}(${n()}, ${n()})`;
      case 15:
        return `ntohs(rawBe16(u16(${n()})))`;
      case 16:
        return `ntohl(rawBe32(${n()}))`;
      default:
        return `u${random.pick([8, 16])}(${n()})`;
    }
  }

  #leaf(scope: Scope): string {
    const random = this.#random;
    const choice = random.below(10);
    const named = [...scope.numbers, ...scope.variables];
    if (choice < 4 && named.length > 0) return random.pick(named);
    if (choice < 8 && scope.views.length > 0) return this.#field(random.pick(scope.views));
    if (choice === 8 && scope.skb) return random.pick(['skb.len', 'skb.mark', 'skb.priority']);
    return random.chance(70) ? random.pick(LITERALS) : `${random.u32()}`;
  }

  #field({ name, type }: ViewName): string {
    const random = this.#random;
    if (type === 'Value' && random.chance(30)) {
      return random.pick([
        `${name}.words.get(1)`,
        `${name}.inner.a`,
        `${name}.cells.at(1).b`,
        `${name}.words.get(${name}.word & 3)`,
      ]);
    }
    const [field, kind] = random.pick(Object.entries(FIELDS[type]));
    const place = `${name}.${field}`;
    if (kind === 'be16') return random.chance(50) ? `ntohs(${place})` : `raw(${place})`;
    if (kind === 'be32') return random.chance(50) ? `ntohl(${place})` : `raw(${place})`;
    return kind === 'i32' || kind === 'u64' ? `u32(${place})` : place;
  }

  #as(type: string, depth: number, scope: Scope): string {
    const n = this.#number(depth, scope);
    if (type === 'be16') return `htons(u16(${n}))`;
    return type === 'be32' ? `htonl(${n})` : `${type}(${n})`;
  }

  #condition(depth: number, scope: Scope): string {
    const random = this.#random;
    const n = (): string => this.#number(Math.max(depth - 1, 0), scope);
    const c = (): string => this.#condition(depth - 1, scope);
    switch (depth <= 0 ? random.below(4) : random.below(11)) {
      case 0:
      case 1:
      case 2:
        // TypeScript minds two literals that are never equal.
        return random.chance(50)
          ? `u32(${n()}) ${random.pick(['===', '!=='])} ${n()}`
          : `${n()} ${random.pick(['<', '<=', '>', '>='])} ${n()}`;
      case 3:
        return `(${n()} & ${random.pick(['1', '2', '0x10', '0x80000000'])}) ${random.pick(['===', '!=='])} 0`;
      case 4:
        return `(${c()} && ${c()})`;
      case 5:
        return `(${c()} || ${c()})`;
      case 6:
        return `!(${c()})`;
      case 7: {
        const fields = scope.views.flatMap(({ name, type }) =>
          Object.entries(FIELDS[type]).flatMap(([field, kind]) => (kind === 'be16' ? [`${name}.${field}`] : [])),
        );
        if (fields.length === 0) return c();
        return `${random.pick(fields)} ${random.pick(['===', '!=='])} ${random.chance(50) ? random.pick(fields) : `htons(${random.below(4)})`}`;
      }
      case 8:
        return this.#conditions.length === 0 ? c() : `${random.pick(this.#conditions)}(${n()})`;
      case 9: {
        const values = scope.views.filter(({ type }) => type === 'Value');
        if (values.length === 0) return c();
        return `same(${random.pick(values).name}.inner, ${random.pick(values).name}.cells.at(0))`;
      }
      default:
        return `i32(${n()}) ${random.pick(['<', '>=', '>', '<='])} i32(${n()})`;
    }
  }

  #fresh(prefix: string): string {
    return `${prefix}${++this.#next}`;
  }
}

const MOVING = /\b(pullData|l4CsumReplace|l3CsumReplace|storeBytes)\(/;

function withoutPacket(scope: Scope): Scope {
  return { ...scope, views: scope.views.filter(({ kind }) => kind !== 'packet') };
}
