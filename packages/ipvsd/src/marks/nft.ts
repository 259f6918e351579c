/**
 * Rules of nftables that set a mark: what `nft list ruleset` prints, or rules by themselves.
 *
 * Rules of chains at the hook prerouting are translated, in the order of the chains' priorities. Chains at hooks that packets
 * see only later, or never on their way to a director, are passed by; what else sets a mark is refused.
 */
import type { Family, MarkDestination, MarkRule } from '@ipvsd/director';
import { anywhere, networkOf } from './iptables.ts';
import {
  type Line,
  markOf,
  portsOf,
  type Refusal,
  type SourceRule,
  type Translation,
  Untranslatable,
} from './source-rule.ts';

interface Token {
  readonly text: string;
  readonly line: number;
}

interface Statement extends Line {
  readonly words: readonly string[];
}

interface Chain {
  readonly name: string;
  readonly table: string;
  readonly families: readonly Family[];
  hook: string | undefined;
  priority: number;
  readonly rules: Statement[];
}

type Sets = ReadonlyMap<string, readonly string[]>;

const ELSEWHERE: ReadonlySet<string | undefined> = new Set(['output', 'forward', 'postrouting']);
const FAMILIES: Readonly<Record<string, readonly Family[]>> = { ip: ['ipv4'], ip6: ['ipv6'], inet: ['ipv4', 'ipv6'] };
const PRIORITIES: Readonly<Record<string, number>> = { raw: -300, mangle: -150, dstnat: -100, filter: 0, security: 50 };

export interface NftOptions {
  /** Tables that iptables keeps are read from iptables. */
  readonly skipIptables?: boolean;
}

export function readNft(text: string, { skipIptables = false }: NftOptions = {}): Translation {
  const { chains, sets } = parse(text, skipIptables);
  const rules: SourceRule[] = [];
  const refusals: Refusal[] = [];
  const ordered = [...chains].sort((a, b) => a.priority - b.priority);
  for (const chain of ordered) {
    if (ELSEWHERE.has(chain.hook)) continue;
    const lastMark = chain.rules.findLastIndex(setsMark);
    for (const [i, rule] of chain.rules.entries()) {
      const { number, text } = rule;
      try {
        if (setsMark(rule)) rules.push(translate(rule, chain, sets));
        else object(rule, chain, i < lastMark, chains);
      } catch (error) {
        if (!(error instanceof Untranslatable)) throw error;
        refusals.push({ number, text, reason: error.message });
      }
    }
  }
  refusals.sort((a, b) => a.number - b.number);
  return { rules, refusals };
}

/** `mark set` of the packet's own mark. */
const setsMark = ({ words }: Statement): boolean =>
  words.some((word, i) => word === 'mark' && words[i + 1] === 'set' && words[i - 1] !== 'ct');

/** What a rule that sets no mark by itself has to do with marks. */
function object({ words }: Statement, chain: Chain, marksFollow: boolean, chains: readonly Chain[]): void {
  if (chain.hook !== 'prerouting') return;
  const jump = words.findIndex((word) => word === 'jump' || word === 'goto');
  const called = jump < 0 ? undefined : chains.find((c) => c.table === chain.table && c.name === words[jump + 1]);
  if (called?.rules.some(setsMark)) {
    throw new Untranslatable(
      `it goes on in chain ${called.name}, must be rules of the chain at hook prerouting itself`,
    );
  }
  const ends = words.find((word) => ['accept', 'drop', 'return', 'reject', 'queue', 'goto', 'jump'].includes(word));
  if (ends !== undefined && marksFollow && (jump < 0 || words[jump] === 'goto')) {
    throw new Untranslatable('it keeps packets from the rules after it that set marks, and rules here have no order');
  }
}

// Reading ----------------------------------------------------------------------------------------------------------

function tokensOf(text: string): Token[] {
  const tokens: Token[] = [];
  for (const [i, line] of text.split(/\r?\n/).entries()) {
    for (const [token] of line.matchAll(/"[^"]*"|#.*|[!=]=|[{},;=]|[^\s{},;="#!]+/g)) {
      if (!token.startsWith('#')) tokens.push({ text: token, line: i + 1 });
    }
    tokens.push({ text: '\n', line: i + 1 });
  }
  return tokens;
}

function parse(text: string, skipIptables: boolean): { chains: Chain[]; sets: Sets } {
  const lines = text.split(/\r?\n/);
  const managed = new Set(
    lines.flatMap((line) => /^# Warning: table (\S+ \S+) is managed by iptables/.exec(line)?.[1] ?? []),
  );
  const tokens = tokensOf(text);
  const chains: Chain[] = [];
  const sets = new Map<string, string[]>();
  const bare: Chain = {
    name: '',
    table: '',
    families: ['ipv4', 'ipv6'],
    hook: 'prerouting',
    priority: -150,
    rules: [],
  };
  let at = 0;
  /** Words up to the end of a statement; braces are kept, with what is in them. */
  const statement = (): Statement | undefined => {
    while (tokens[at]?.text === '\n' || tokens[at]?.text === ';') at++;
    const first = tokens[at];
    if (first === undefined || first.text === '}') return undefined;
    const words: string[] = [];
    for (let depth = 0; at < tokens.length; at++) {
      const { text: word } = tokens[at]!;
      if (depth === 0 && (word === '\n' || word === ';' || word === '}')) break;
      if (word === '{') depth++;
      if (word === '}') depth--;
      if (word !== '\n') words.push(word);
    }
    return { number: first.line, text: lines[first.line - 1]!.trim(), words };
  };
  /** The words before a block, and the place behind its opening brace. */
  const head = (): string[] => {
    const words: string[] = [];
    while (at < tokens.length && tokens[at]!.text !== '{') words.push(tokens[at++]!.text);
    at++;
    return words.filter((word) => word !== '\n');
  };
  const isBlock = (name: string): boolean => tokens[at]?.text === name && tokens[at + 1]?.text !== '\n';
  const skipSpace = (): void => {
    while (tokens[at]?.text === '\n' || tokens[at]?.text === ';') at++;
  };
  const table = (): void => {
    const [, family = '', name = family] = head();
    const id = `${family} ${name}`;
    for (skipSpace(); at < tokens.length && tokens[at]!.text !== '}'; skipSpace()) {
      if (isBlock('chain')) {
        const chain = chainOf(head()[1] ?? '', id, FAMILIES[family] ?? []);
        for (let line = statement(); line !== undefined; line = statement()) enter(chain, line);
        at++;
        if (!skipIptables || !managed.has(id)) chains.push(chain);
      } else {
        const { words = [] } = statement() ?? {};
        const elements = words.indexOf('elements');
        if (words[0] === 'set' && elements > 0) sets.set(`@${words[1]}`, elementsOf(words.slice(elements + 2)));
      }
    }
    at++;
  };
  for (skipSpace(); at < tokens.length; skipSpace()) {
    if (tokens[at]!.text === '}') at++;
    else if (isBlock('table')) table();
    else {
      const line = statement();
      if (line !== undefined) enterBare(bare, line);
    }
  }
  return { chains: bare.rules.length > 0 ? [...chains, bare] : chains, sets };
}

const chainOf = (name: string, table: string, families: readonly Family[]): Chain => ({
  name,
  table,
  families,
  hook: undefined,
  priority: 0,
  rules: [],
});

function enter(chain: Chain, line: Statement): void {
  const [first = ''] = line.words;
  if (first === 'type') {
    const after = (word: string): string | undefined => line.words[line.words.indexOf(word) + 1];
    chain.hook = after('hook');
    const name = after('priority') ?? '0';
    const [sign, offset] = line.words.slice(line.words.indexOf('priority') + 2);
    const base = PRIORITIES[name] ?? Number(name);
    chain.priority = base + (sign === '+' ? Number(offset) : sign === '-' ? -Number(offset) : 0);
  } else if (first !== 'policy' && first !== 'comment') chain.rules.push(line);
}

/** A rule by itself, or `nft add rule ip mangle prerouting ...`. */
function enterBare(bare: Chain, line: Statement): void {
  const { words } = line;
  const start = words[0] === 'nft' ? 1 : 0;
  if (words[start] === 'flush' || (words[start] === 'add' && words[start + 1] !== 'rule')) return;
  if (words[start] !== 'add') {
    bare.rules.push({ ...line, words: words.slice(start) });
    return;
  }
  const hasFamily = ['ip', 'ip6', 'inet'].includes(words[start + 2] ?? '');
  bare.rules.push({ ...line, words: words.slice(start + (hasFamily ? 5 : 4)) });
}

/** `{ 80, 443 }`, with commas as words of their own. */
const elementsOf = (words: readonly string[]): string[] => words.filter((word) => !/^[{},]$/.test(word));

// Translating ------------------------------------------------------------------------------------------------------

const TRANSPORTS = ['tcp', 'udp', 'sctp'] as const;
const PROTOCOLS: Readonly<Record<string, (typeof TRANSPORTS)[number]>> = {
  tcp: 'tcp',
  6: 'tcp',
  udp: 'udp',
  17: 'udp',
  sctp: 'sctp',
  132: 'sctp',
};

function translate({ words, number, text }: Statement, chain: Chain, sets: Sets): SourceRule {
  if (chain.hook !== 'prerouting') {
    throw new Untranslatable(`it is in chain ${chain.name}, must be in a chain at hook prerouting`);
  }
  let families = chain.families;
  let protocols: readonly MarkRule['protocol'][] = [null];
  let networks: Pick<MarkDestination, 'family' | 'address' | 'prefix'>[] | undefined;
  let ports = [0];
  let mark: number | undefined;
  let partial = false;
  let ends: string | undefined;
  let at = 0;
  const next = (): string => words[at++] ?? '';
  const values = (): string[] => {
    if (words[at] === '==') at++;
    const first = next();
    if (first === '!=') throw new Untranslatable('it asks for what is not ("!=")');
    if (first.startsWith('@')) {
      const elements = sets.get(first);
      if (elements === undefined) throw new Untranslatable(`its set ${first} is not among what was read`);
      return [...elements];
    }
    if (first !== '{') return [first];
    const end = words.indexOf('}', at);
    const elements = elementsOf(words.slice(at, end));
    at = end + 1;
    return elements;
  };
  while (at < words.length) {
    const word = next();
    const second = words[at];
    if ((word === 'ip' || word === 'ip6') && second === 'daddr') {
      at++;
      networks = values().map(networkOf);
    } else if ((word === 'ip' && second === 'protocol') || (word === 'meta' && second === 'l4proto')) {
      at++;
      protocols = values().map(protocolOf);
      if (word === 'ip') families = ['ipv4'];
    } else if (word === 'ip6' && second === 'nexthdr') {
      at++;
      protocols = values().map(protocolOf);
      families = ['ipv6'];
    } else if (word === 'meta' && second === 'nfproto') {
      at++;
      families = values().map((name): Family => (name === 'ipv6' ? 'ipv6' : 'ipv4'));
    } else if ((TRANSPORTS as readonly string[]).includes(word) && second === 'dport') {
      at++;
      protocols = [protocolOf(word)];
      ports = values().flatMap((port) => portsOf(port, '-'));
    } else if (word === 'th' && second === 'dport') {
      at++;
      if (protocols[0] === null) protocols = TRANSPORTS;
      ports = values().flatMap((port) => portsOf(port, '-'));
    } else if (
      (word === 'meta' && second === 'mark' && words[at + 1] === 'set') ||
      (word === 'mark' && second === 'set')
    ) {
      at += word === 'meta' ? 2 : 1;
      ({ mark, partial } = markValue(next, () => words[at]));
    } else if (word === 'counter') {
      if (second === 'packets') at += 4;
    } else if (word === 'comment') at++;
    else if (word === 'accept' || word === 'return') ends = chainId(chain);
    else if (word !== 'continue') {
      throw new Untranslatable(`it says "${[word, second].join(' ').trim()}"; rules here know only where packets go`);
    }
  }
  if (mark === undefined) throw new Untranslatable('it sets no mark');
  const value = mark;
  const found = (networks ?? families.map(anywhere)).filter(({ family }) => families.includes(family));
  const rules = found.flatMap((network) =>
    protocols.flatMap((protocol) => ports.map((port) => ({ ...network, protocol, port, mark: value }))),
  );
  return { number, text, rules, partial, chain: chainId(chain), ...(ends === undefined ? {} : { ends }) };
}

const chainId = ({ table, name }: Chain): string => `${table} ${name}`;

function protocolOf(name: string): MarkRule['protocol'] {
  const protocol = PROTOCOLS[name];
  if (protocol === undefined) throw new Untranslatable(`its protocol is ${name}, must be tcp, udp or sctp`);
  return protocol;
}

/** `1`, or `meta mark | 0x1` and `mark or 0x1`, which leave other bits. */
function markValue(next: () => string, peek: () => string | undefined): { mark: number; partial: boolean } {
  let first = next();
  if (first === 'meta' && peek() === 'mark') first = next();
  if (first !== 'mark') return { mark: markOf(first), partial: false };
  const operator = next();
  if (operator !== '|' && operator !== 'or') {
    throw new Untranslatable(`it reckons its mark with "${operator}", must be a number`);
  }
  return { mark: markOf(next()), partial: true };
}
