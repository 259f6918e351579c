/** `$NAME=value` and its uses. The value is what it is at the time of use, and may use other names in turn. */
import { dirname } from 'node:path';
import { type Line, replaceInLine } from './source.ts';

export interface Definitions {
  /** One string per line of a definition. */
  readonly values: Map<string, readonly string[]>;
  readonly instance: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Uniform in [0, 1). */
  readonly random: () => number;
}

const DEFINITION = /^\s*\$([A-Za-z_][A-Za-z0-9_]*)=(.*)$/s;
const USE = /\$(?:\{([A-Za-z_][^{}]*)\}|([A-Za-z_][A-Za-z0-9_]*)(?=\s|$))/g;

/** A line of more than this is no configuration but a definition that feeds itself. */
const LONGEST_LINE = 65_536;
const MOST_USES = 1000;

export function readDefinition(text: string): { readonly name: string; readonly value: string } | undefined {
  const [, name, value] = DEFINITION.exec(text) ?? [];
  return name === undefined || value === undefined ? undefined : { name, value };
}

/**
 * Every known name replaced, and again in what replaced it. A definition of several lines makes several lines: what
 * stood before it goes to the first, what stood behind it to the last. Undefined when there is no end to it.
 */
export function substitute(line: Line, definitions: Definitions): Line[] | undefined {
  let current = line;
  for (let uses = 0; uses < MOST_USES && current.text.length <= LONGEST_LINE; uses++) {
    const use = nextUse(current, definitions);
    if (use === undefined) return [current];
    const { at, length, value } = use;
    if (value.length > 1) return spread(current, at, length, value);
    current = replaceInLine(current, at, at + length, value[0] ?? '');
  }
  return undefined;
}

function nextUse(line: Line, definitions: Definitions) {
  for (const match of line.text.matchAll(USE)) {
    const value = lookUp(match[1] ?? match[2] ?? '', line, definitions);
    if (value !== undefined) return { at: match.index, length: match[0].length, value };
  }
  return undefined;
}

function spread(line: Line, at: number, length: number, value: readonly string[]): Line[] {
  const before = line.text.slice(0, at);
  const after = line.text.slice(at + length);
  return value.map((text, index) => {
    const whole = `${index === 0 ? before : ''}${text}${index === value.length - 1 ? after : ''}`;
    return replaceInLine({ ...line, text: line.text }, 0, line.text.length, whole);
  });
}

function lookUp(name: string, line: Line, definitions: Definitions): readonly string[] | undefined {
  const own = definitions.values.get(name);
  if (own !== undefined) return own;
  const [word = '', ...parameters] = name.trim().split(/\s+/);
  switch (word) {
    case '_PWD':
      return [dirname(line.file)];
    case '_INSTANCE':
      return [definitions.instance];
    case '_HASH':
      return ['#'];
    case '_BANG':
      return ['!'];
    case '_ENV':
      return [definitions.environment[parameters[0] ?? ''] ?? ''];
    case '_RANDOM': {
      const [low = 0, high = 32_767] = parameters.map(Number);
      return high >= low ? [String(low + Math.floor(definitions.random() * (high - low + 1)))] : undefined;
    }
    default:
      return undefined;
  }
}
