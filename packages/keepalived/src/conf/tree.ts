/**
 * Lines into a tree of statements, by keepalived's own rules. Its reader has no grammar: it knows which block it is in
 * and looks the first word of a line up there. What is unknown drops its own words only, so the lines of an unknown
 * block are read as if they stood in the block around it, whose end is the first `}`. Operators' files live with that,
 * and a reader with better manners would make different services of them.
 */
import { parseAddress } from '@ipvsd/director';
import { type Diagnostic, type DiagnosticCode, diagnose, didYouMean } from './diagnostics.ts';
import {
  type ArgumentSpec,
  type BlockSpec,
  catalogue,
  describeArgument,
  type KeywordSpec,
  wrongWith,
} from './keyword.ts';
import { global } from './keywords-global.ts';
import { lvs } from './keywords-lvs.ts';
import { vrrp } from './keywords-vrrp.ts';
import { type Word, wordsOf } from './lexer.ts';
import type { Line, Position } from './source.ts';

export interface Statement {
  readonly keyword: Word;
  readonly arguments: readonly Word[];
  /** What stands between its braces; undefined where the keyword takes no block. */
  readonly block: readonly Statement[] | undefined;
}

export interface Tree {
  readonly statements: readonly Statement[];
  readonly diagnostics: readonly Diagnostic[];
}

const topLevel: BlockSpec = { kind: 'keywords', keywords: catalogue({ ...global, ...lvs, ...vrrp }) };

export const keywordsOf: ReadonlyMap<string, KeywordSpec> =
  topLevel.kind === 'keywords' ? topLevel.keywords : new Map();

export function buildTree(lines: readonly Line[]): Tree {
  const builder = new TreeBuilder();
  for (const line of lines) builder.read(line);
  builder.finish();
  return builder;
}

interface OpenBlock {
  readonly spec: BlockSpec;
  readonly name: string;
  readonly position: Position;
  readonly statements: Statement[];
}

class TreeBuilder implements Tree {
  readonly statements: Statement[] = [];
  readonly diagnostics: Diagnostic[] = [];
  readonly #open: OpenBlock[] = [];
  /** A block keyword whose line has ended: its brace may stand on the next. */
  #awaitingBrace: { readonly keyword: Word } | undefined;

  read(line: Line): void {
    const { words, unmatched } = wordsOf(line);
    if (unmatched) {
      this.diagnostics.push(diagnose('unmatchedQuote', unmatched, line.text[line.text.search(/["']/)] ?? '"'));
      return;
    }
    let pending: Word[] = [];
    for (const word of words) {
      if (isBrace(word, '{')) {
        this.#openBrace(pending, word);
        pending = [];
      } else if (isBrace(word, '}')) {
        this.#statement(pending, false);
        pending = [];
        this.#closeBrace(word);
      } else pending.push(word);
    }
    this.#statement(pending, false);
  }

  finish(): void {
    for (const { name, position } of this.#open) this.#complain('unclosedBlock', position, name);
  }

  /** `words {`: a statement with its block, or a brace that nothing asked for. */
  #openBrace(words: readonly Word[], brace: Word): void {
    if (words.length === 0 && this.#awaitingBrace) {
      this.#awaitingBrace = undefined;
      return;
    }
    const opened = this.#statement(words, true);
    if (!opened) this.#complain('unexpectedBrace', brace.position, words[0]?.text ?? '{');
  }

  #closeBrace({ position }: Word): void {
    this.#awaitingBrace = undefined;
    if (this.#open.pop() === undefined) this.#complain('extraBrace', position);
  }

  /** Whether it opened a block. */
  #statement(words: readonly Word[], followedByBrace: boolean): boolean {
    const [keyword, ...rest] = words;
    if (keyword === undefined) return false;
    if (this.#awaitingBrace)
      this.#complain('missingBrace', this.#awaitingBrace.keyword.position, this.#awaitingBrace.keyword.text);
    this.#awaitingBrace = undefined;
    const around = this.#open.at(-1);
    const spec = around?.spec ?? topLevel;
    const siblings = around?.statements ?? this.statements;
    if (spec.kind === 'values') {
      siblings.push({ keyword, arguments: rest, block: undefined });
      return false;
    }
    const known = spec.keywords.get(keyword.text);
    if (known === undefined) {
      const where = around ? `a ${around.name} block` : 'the file outside blocks';
      const hint = didYouMean(keyword.text, spec.keywords.keys());
      this.#complain('unknownKeyword', keyword.position, keyword.text, where, hint);
      return false;
    }
    const accepted = this.#checkArguments(keyword, rest, known);
    if (known.block === undefined) {
      if (accepted) siblings.push({ keyword, arguments: rest, block: undefined });
      return false;
    }
    const statements: Statement[] = [];
    // A block whose header is wrong is still read to its end, so that its lines are not taken for someone else's.
    if (accepted) siblings.push({ keyword, arguments: rest, block: statements });
    this.#open.push({ spec: known.block, name: keyword.text, position: keyword.position, statements });
    if (!followedByBrace) this.#awaitingBrace = { keyword };
    return true;
  }

  #checkArguments(keyword: Word, words: readonly Word[], { arguments: specs }: KeywordSpec): boolean {
    let accepted = true;
    let at = 0;
    for (const spec of specs) {
      if (at >= words.length) {
        if (!spec.needed) break;
        const code = spec.missingIsFatal ? 'missingArgument' : 'missingValue';
        this.#complain(code, keyword.position, keyword.text, describeArgument(spec));
        return false;
      }
      const end = spec.repeats ? words.length : at + 1;
      for (; at < end; at++) accepted = this.#checkArgument(keyword, words[at]!, spec) && accepted;
    }
    const surplus = words[at];
    if (surplus) this.#complain('surplusArgument', surplus.position, keyword.text, surplus.text);
    return accepted;
  }

  #checkArgument(keyword: Word, word: Word, spec: ArgumentSpec): boolean {
    const wrong = wrongWith(word.text, spec, (text) => parseAddress(text) !== undefined);
    if (wrong !== undefined) this.#complain('invalidValue', word.position, keyword.text, word.text, wrong);
    return wrong === undefined;
  }

  #complain(code: DiagnosticCode, position: Position, ...words: readonly string[]): void {
    this.diagnostics.push(diagnose(code, position, ...words));
  }
}

function isBrace({ text, quoted }: Word, brace: '{' | '}'): boolean {
  return text === brace && !quoted;
}
