/**
 * Command-line words, taken apart as the popt library does it: short options in clusters, values attached, after `=` or
 * in the next word, long options never abbreviated, `--` ends the options, everything else is left over. Its answers to
 * bad words are part of ipvsadm's face.
 */
import { usage } from './messages.ts';

export interface Word {
  readonly long: string;
  /** Every letter is a short form of its own. */
  readonly short?: string;
  /** An optional value in a word of its own must not begin with `-`. */
  readonly argument?: 'required' | 'optional';
}

export interface Found<W extends Word> {
  readonly word: W;
  readonly value: string | undefined;
  /** The argument popt would name in an error: the last word it has taken. */
  readonly text: string;
}

export class Popt<W extends Word> {
  readonly leftovers: string[] = [];
  readonly #arguments: readonly string[];
  readonly #long: ReadonlyMap<string, W>;
  readonly #short: ReadonlyMap<string, W>;
  #next = 0;
  #cluster: string | undefined;
  #optionsEnded = false;

  constructor(table: WordTable<W>, words: readonly string[]) {
    this.#arguments = words;
    this.#long = table.long;
    this.#short = table.short;
  }

  /** The next option, or undefined at the end; throws the UsageError for a word that cannot be read. */
  next(): Found<W> | undefined {
    if (this.#cluster === undefined) {
      const found = this.#nextWord();
      if (found || this.#cluster === undefined) return found;
    }
    return this.#nextOfCluster();
  }

  #nextWord(): Found<W> | undefined {
    while (this.#next < this.#arguments.length) {
      const text = this.#arguments[this.#next++]!;
      if (this.#optionsEnded || !text.startsWith('-') || text === '-') {
        this.leftovers.push(text);
      } else if (text === '--') {
        this.#optionsEnded = true;
      } else if (text.startsWith('--')) {
        return this.#longOption(text.slice(2));
      } else {
        this.#cluster = text.slice(1);
        return undefined;
      }
    }
    return undefined;
  }

  #longOption(text: string): Found<W> {
    const equals = text.indexOf('=');
    const name = equals < 0 ? text : text.slice(0, equals);
    const word = this.#long.get(name);
    if (!word) throw this.#bad('unknown option');
    return this.#found(word, equals < 0 ? undefined : text.slice(equals + 1));
  }

  #nextOfCluster(): Found<W> {
    const cluster = this.#cluster!;
    this.#cluster = undefined;
    const word = this.#short.get(cluster.slice(0, 1));
    if (!word) throw this.#bad('unknown option');
    const rest = cluster.slice(1);
    const value = rest.startsWith('=') ? rest.slice(1) : rest;
    if (word.argument) return this.#found(word, rest === '' ? undefined : value);
    if (rest !== '') this.#cluster = value;
    return this.#found(word, undefined);
  }

  #found(word: W, attached: string | undefined): Found<W> {
    if (!word.argument && attached !== undefined) throw this.#bad('option does not take an argument');
    const value = word.argument && attached === undefined ? this.#takeValue(word) : attached;
    return { word, value, text: this.#last() };
  }

  #takeValue(word: W): string | undefined {
    const value = this.#arguments[this.#next];
    if (word.argument === 'optional' && (value === undefined || value.startsWith('-'))) return undefined;
    if (value === undefined) throw this.#bad('missing argument');
    this.#next++;
    return value;
  }

  #last(): string {
    return this.#arguments[this.#next - 1] ?? '';
  }

  #bad(reason: string): Error {
    return usage.badOption(this.#last(), reason);
  }
}

export interface WordTable<W extends Word> {
  readonly long: ReadonlyMap<string, W>;
  readonly short: ReadonlyMap<string, W>;
}

export function wordTable<W extends Word>(words: readonly W[]): WordTable<W> {
  return {
    long: new Map(words.map((word) => [word.long, word])),
    short: new Map(words.flatMap((word) => [...(word.short ?? '')].map((letter): [string, W] => [letter, word]))),
  };
}
