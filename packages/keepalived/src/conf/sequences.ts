/** `~SEQ` and `~LST`: one line said many times, with its variables taking each value in turn. */

export interface Sequence {
  /** Each round's variables and their values. */
  readonly rounds: Iterable<readonly (readonly [name: string, value: string])[]>;
  /** Where the rest of the line begins. */
  readonly end: number;
}

const HEAD = /^\s*~(SEQx?|LST)\s*\(/;
/** Longer sequences are a slip of the keyboard: 2^20 lines are more than any director has virtual services. */
const MOST_ROUNDS = 1 << 20;

export function startsSequence(text: string): boolean {
  return /^\s*~(SEQ|LST)/.test(text);
}

export function readSequence(text: string): Sequence | undefined {
  const head = HEAD.exec(text);
  if (head === null) return undefined;
  const close = text.indexOf(')', head[0].length);
  if (close < 0) return undefined;
  const inside = text.slice(head[0].length, close);
  const rounds = head[1] === 'LST' ? readList(inside) : readCount(inside, head[1] === 'SEQx');
  return rounds && { rounds, end: close + 1 };
}

function readCount(inside: string, hexadecimal: boolean): Sequence['rounds'] | undefined {
  const [name = '', ...numbers] = inside.split(',').map((part) => part.trim());
  if (!isName(name) || numbers.length < 1 || numbers.length > 3) return undefined;
  const values = numbers.map((text) => (/^[+-]?(0x[0-9a-f]+|[0-9]+)$/i.test(text) ? toNumber(text) : Number.NaN));
  if (values.some(Number.isNaN)) return undefined;
  const end = values.at(-1) ?? 0;
  const start = values.length > 1 ? (values[0] ?? 0) : end < 0 ? -1 : 1;
  const step = values.length > 2 ? (values[1] ?? 0) : end < start ? -1 : 1;
  if (step === 0 || Math.abs((end - start) / step) > MOST_ROUNDS) return undefined;
  return count(name, start, step, end, hexadecimal ? 16 : 10);
}

function toNumber(text: string): number {
  return text.startsWith('-') ? -Number(text.slice(1)) : Number(text.replace('+', ''));
}

function* count(name: string, start: number, step: number, end: number, base: number) {
  for (let value = start; step > 0 ? value <= end : value >= end; value += step) {
    yield [[name, value.toString(base)] as const];
  }
}

function readList(inside: string): Sequence['rounds'] | undefined {
  const [head, ...values] = splitAtCommas(inside);
  if (head === undefined || values.length === 0) return undefined;
  const names = group(head);
  if (!names.every(isName)) return undefined;
  const rows = names.length === 1 && !head.startsWith('{') ? values.map((value) => [value]) : values.map(group);
  if (rows.some((row) => row.length !== names.length)) return undefined;
  return rows.map((row) => names.map((name, index) => [name, row[index] ?? ''] as const));
}

function group(text: string): string[] {
  const inside = /^\{(.*)\}$/s.exec(text)?.[1] ?? text;
  return inside.split(',').map((part) => part.trim());
}

function splitAtCommas(text: string): string[] {
  return (text.match(/(?:\{[^}]*\}|[^,])+/g) ?? []).map((part) => part.trim());
}

function isName(text: string): boolean {
  return /^[A-Za-z_][A-Za-z0-9_]*$/.test(text);
}
