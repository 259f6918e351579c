/**
 * How the catalogue says what a keyword takes. A keyword's arguments are written as a line of kinds, each alone
 * (needed), or with `~` (needed, but only
 * the line is dropped without it), `?` (may be left out), `*` (any number), `+` (one or more); ranges stand in brackets:
 * `integer(1..255)`, with words beside them: `integer(1..255|auto)`.
 */

export type Kind =
  | 'bool'
  | 'integer'
  | 'timer'
  | 'address'
  | 'port'
  | 'script'
  | 'word'
  /** One of the words in the brackets. */
  | 'choice';

export interface ArgumentSpec {
  readonly kind: Kind;
  readonly minimum: number;
  readonly maximum: number;
  readonly choices: readonly string[];
  readonly needed: boolean;
  /** keepalived refuses to run without most, and drops only the line of a few. */
  readonly missingIsFatal: boolean;
  readonly repeats: boolean;
}

export interface KeywordSpec {
  readonly arguments: readonly ArgumentSpec[];
  readonly block: BlockSpec | undefined;
}

/** Either lines that begin with keywords, or lines that are values: addresses, routes, names. */
export type BlockSpec =
  | { readonly kind: 'keywords'; readonly keywords: ReadonlyMap<string, KeywordSpec> }
  | { readonly kind: 'values' };

export type Keywords = Readonly<Record<string, string | KeywordSpec>>;

export const values: BlockSpec = { kind: 'values' };

/** `{ ...keywords }` between braces after the keyword. */
export function block(text: string, keywords: Keywords): KeywordSpec {
  return { arguments: readSpec(text), block: { kind: 'keywords', keywords: catalogue(keywords) } };
}

/** Values between braces after the keyword. */
export function list(text = ''): KeywordSpec {
  return { arguments: readSpec(text), block: values };
}

export function catalogue(keywords: Keywords): ReadonlyMap<string, KeywordSpec> {
  return new Map(
    Object.entries(keywords).map(([name, spec]) => [
      name,
      typeof spec === 'string' ? { arguments: readSpec(spec), block: undefined } : spec,
    ]),
  );
}

export function readSpec(text: string): ArgumentSpec[] {
  return [...text.matchAll(/([a-z]+)(?:\(([^)]*)\))?([?*+~]?)/g)].map(([, kind, range = '', mark = '']) => {
    const words = range.split('|');
    const [low = '', high = ''] = (words[0] ?? '').split('..');
    return {
      kind: kind as Kind,
      minimum: low === '' || kind === 'choice' ? Number.NEGATIVE_INFINITY : Number(low),
      maximum: high === '' ? Number.POSITIVE_INFINITY : Number(high),
      choices: kind === 'choice' ? words : words.slice(1),
      needed: mark === '' || mark === '+' || mark === '~',
      missingIsFatal: mark !== '~',
      repeats: mark === '*' || mark === '+',
    };
  });
}

const BOOLEANS = new Map([
  ['on', true],
  ['true', true],
  ['yes', true],
  ['off', false],
  ['false', false],
  ['no', false],
]);

export function readBoolean(text: string): boolean | undefined {
  return BOOLEANS.get(text);
}

export function readInteger(text: string): number | undefined {
  return /^[+-]?[0-9]+$/.test(text) ? Number(text) : undefined;
}

/** Seconds with a fraction; in milliseconds, to the microsecond. */
export function readTimer(text: string): number | undefined {
  return /^[0-9]*\.?[0-9]+$|^[0-9]+\.$/.test(text) ? Math.round(Number(text) * 1e6) / 1e3 : undefined;
}

/** What is wrong with a value, as the end of a sentence "must be ...", or undefined. */
export function wrongWith(text: string, spec: ArgumentSpec, isAddress: (text: string) => boolean): string | undefined {
  const { kind, minimum, maximum, choices } = spec;
  switch (kind) {
    case 'bool':
      return readBoolean(text) === undefined ? 'on, off, true, false, yes or no' : undefined;
    case 'integer':
    case 'port': {
      const range = kind === 'port' ? { minimum: 1, maximum: 65_535 } : { minimum, maximum };
      const value = readInteger(text);
      const wrong = value === undefined || value < range.minimum || value > range.maximum;
      return wrong && !choices.includes(text) ? [describe(range), ...choices].join(' or ') : undefined;
    }
    case 'timer': {
      const value = readTimer(text);
      const wrong = value === undefined || value / 1000 < minimum || value / 1000 > maximum;
      return wrong
        ? `seconds, with a fraction or without${maximum < Number.POSITIVE_INFINITY ? `, ${Math.max(0, minimum)}..${maximum}` : ''}`
        : undefined;
    }
    case 'address':
      return isAddress(text) ? undefined : 'an IPv4 or IPv6 address';
    case 'choice':
      return choices.includes(text) ? undefined : `one of ${choices.join(', ')}`;
    default:
      return undefined;
  }
}

function describe({ minimum, maximum }: { minimum: number; maximum: number }): string {
  if (minimum === Number.NEGATIVE_INFINITY && maximum === Number.POSITIVE_INFINITY) return 'a whole number';
  if (maximum === Number.POSITIVE_INFINITY) return `a whole number >= ${minimum}`;
  return `a whole number ${minimum}..${maximum}`;
}

export function describeArgument({ kind, choices }: ArgumentSpec): string {
  const names: Readonly<Record<Kind, string>> = {
    bool: 'on or off',
    integer: 'a number',
    timer: 'a number of seconds',
    address: 'an address',
    port: 'a port',
    script: 'a script',
    word: 'an argument',
    choice: `one of ${choices.join(', ')}`,
  };
  return names[kind];
}
