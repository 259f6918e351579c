/**
 * One line of text into pieces that lose nothing: joined they are the line again. Quotes end with their line, a comment
 * runs to it, and braces are words of their own wherever they stand outside quotes.
 */
import type { Line, Position } from './source.ts';
import { positionIn } from './source.ts';

export type PieceKind = 'blank' | 'plain' | 'quoted' | 'unterminated' | 'brace' | 'comment';

export interface Piece {
  readonly kind: PieceKind;
  /** As written, quotes and escapes included. */
  readonly text: string;
  readonly at: number;
}

export interface Word {
  /** Without quotes, escapes resolved. */
  readonly text: string;
  /** Some of it was quoted, so a brace in it is only a character. */
  readonly quoted: boolean;
  readonly position: Position;
}

const BLANK = /[ \t\r\f\v]/;
const ENDS_PLAIN = /[ \t\r\f\v{}"'#!]/;
const ENDS_PLAIN_WITHOUT_COMMENTS = /[ \t\r\f\v{}"']/;

/** After substitution `#` and `!` are characters: that is what `${_HASH}` and `${_BANG}` are for. */
export function lex(text: string, { comments }: { readonly comments: boolean }): Piece[] {
  const pieces: Piece[] = [];
  const ends = comments ? ENDS_PLAIN : ENDS_PLAIN_WITHOUT_COMMENTS;
  for (let at = 0; at < text.length; ) {
    const char = text[at]!;
    let end = at + 1;
    let kind: PieceKind = 'plain';
    if (BLANK.test(char)) {
      kind = 'blank';
      while (end < text.length && BLANK.test(text[end]!)) end++;
    } else if (char === '{' || char === '}') {
      kind = 'brace';
    } else if (comments && (char === '#' || char === '!')) {
      kind = 'comment';
      end = text.length;
    } else if (char === '"' || char === "'") {
      end = endOfQuote(text, at);
      kind = end < 0 ? 'unterminated' : 'quoted';
      if (end < 0) end = text.length;
    } else {
      end = endOfPlain(text, at, ends);
    }
    pieces.push({ kind, text: text.slice(at, end), at });
    at = end;
  }
  return pieces;
}

/** `${NAME}` belongs to its word although it has braces: it may still be unknown, and then stays as it is. */
function endOfPlain(text: string, start: number, ends: RegExp): number {
  let at = start;
  while (at < text.length) {
    const parameter = text[at] === '$' ? /^\$\{[^{}\s]*\}/.exec(text.slice(at, at + 256)) : null;
    if (parameter) at += parameter[0].length;
    else if (at > start && ends.test(text[at]!)) break;
    else at++;
  }
  return at;
}

/** The index behind the closing quote, or -1. */
function endOfQuote(text: string, start: number): number {
  for (let at = start + 1; at < text.length; at++) {
    if (text[at] === '\\') at++;
    else if (text[at] === text[start]) return at + 1;
  }
  return -1;
}

/** What is left of a line before its comment. */
export function withoutComment(text: string): string {
  const comment = lex(text, { comments: true }).find(({ kind }) => kind === 'comment');
  return comment === undefined ? text : text.slice(0, comment.at);
}

export interface Words {
  readonly words: readonly Word[];
  /** Where a quote begins that never ends. */
  readonly unmatched: Position | undefined;
}

/** Adjacent pieces, quoted and not, are one word. */
export function wordsOf(line: Line): Words {
  const words: Word[] = [];
  let parts: Piece[] = [];
  const finish = (): void => {
    const [first] = parts;
    const last = parts.at(-1);
    if (first === undefined || last === undefined) return;
    words.push({
      text: parts.map((part) => (part.kind === 'quoted' ? unquote(part.text) : part.text)).join(''),
      quoted: parts.some(({ kind }) => kind === 'quoted'),
      position: positionIn(line, first.at, last.at + last.text.length - first.at),
    });
    parts = [];
  };
  for (const piece of lex(line.text, { comments: false })) {
    if (piece.kind === 'unterminated') return { words: [], unmatched: positionIn(line, piece.at, 1) };
    if (piece.kind === 'plain' || piece.kind === 'quoted') {
      parts.push(piece);
      continue;
    }
    finish();
    if (piece.kind === 'brace') {
      words.push({ text: piece.text, quoted: false, position: positionIn(line, piece.at, 1) });
    }
  }
  finish();
  return { words, unmatched: undefined };
}

const SIMPLE_ESCAPES: Readonly<Record<string, string>> = {
  a: '\x07',
  b: '\b',
  E: '\x1b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
};

function unquote(quoted: string): string {
  const inside = quoted.slice(1, -1);
  return inside.replace(/\\(?:([0-7]{1,3})|x([0-9a-fA-F]{1,2})|c(.)|(.))/gs, (_, octal, hex, control, other) => {
    if (octal !== undefined) return String.fromCharCode(Number.parseInt(octal, 8) & 255);
    if (hex !== undefined) return String.fromCharCode(Number.parseInt(hex, 16));
    if (control !== undefined) return String.fromCharCode(control.charCodeAt(0) & 31);
    return SIMPLE_ESCAPES[other] ?? other;
  });
}

/** A command in one quoted word: blanks part its arguments, inner quotes keep them together. */
export function splitCommand(text: string): string[] {
  const parts = text.match(/(?:[^\s"']|"[^"]*"?|'[^']*'?)+/g) ?? [];
  return parts.map((part) => part.replace(/"([^"]*)"?|'([^']*)'?/g, (_, double, single) => double ?? single ?? ''));
}
