/** The blocks of checks inside a real server. */
import { parseAddress } from '@ipvsd/director';
import type { CheckKind, UdpReply } from '../model/configuration.ts';
import type { CheckDraft, ConnectionDraft, UrlDraft } from '../model/draft.ts';
import { checks } from './keywords-lvs.ts';
import type { Word } from './lexer.ts';
import type { Statement } from './tree.ts';
import {
  booleanOf,
  type Complain,
  millisecondsOf,
  scriptOf,
  scriptUser,
  signedWeight,
  understandInherited,
} from './understand.ts';

export function isCheck(name: string): name is CheckKind {
  return Object.hasOwn(checks, name);
}

export function understandCheck(statement: Statement, kind: CheckKind, complain: Complain): CheckDraft {
  const draft: CheckDraft = { kind, position: statement.keyword.position, connection: {}, urls: [], hosts: [] };
  const block = statement.block ?? [];
  for (const line of block) {
    const known = understandInherited(line, draft) || understandConnection(line, draft.connection);
    if (!known) understandLine(line, draft, complain);
  }
  const weight = kind === 'FILE_CHECK' ? signedWeight(block) : undefined;
  if (weight !== undefined) draft.fileWeight = weight;
  return draft;
}

function understandConnection({ keyword, arguments: [first] }: Statement, connection: ConnectionDraft): boolean {
  const text = first?.text ?? '';
  switch (keyword.text) {
    case 'connect_ip':
      connection.address = parseAddress(text) ?? text;
      return true;
    case 'connect_port':
      connection.port = Number(text);
      return true;
    case 'bindto':
      connection.bindAddress = parseAddress(text) ?? text;
      return true;
    case 'bind_port':
      connection.bindPort = Number(text);
      return true;
    case 'bind_if':
      connection.bindInterface = text;
      return true;
    case 'fwmark':
      connection.fwmark = Number(text);
      return true;
    default:
      return false;
  }
}

function understandLine(
  { keyword, arguments: words, block = [] }: Statement,
  draft: CheckDraft,
  complain: Complain,
): void {
  const [first] = words;
  const text = first?.text ?? '';
  switch (keyword.text) {
    case 'log_all_failures':
      draft.logAllFailures = booleanOf(first);
      return;
    case 'virtualhost':
      draft.virtualHost = text;
      return;
    case 'http_protocol':
      draft.httpVersion = text === '1.1' ? '1.1' : text === '1.0' ? '1.0' : '1.0C';
      return;
    case 'fast_recovery':
      draft.fastRecovery = booleanOf(first);
      return;
    case 'enable_sni':
      draft.enableSni = booleanOf(first);
      return;
    case 'sni_name':
      draft.sniName = text;
      return;
    case 'url':
      draft.urls.push(understandUrl(block, keyword, complain));
      return;
    case 'helo_name':
      draft.heloName = text;
      return;
    case 'host': {
      const host: ConnectionDraft = {};
      for (const line of block) understandConnection(line, host);
      draft.hosts.push(host);
      return;
    }
    case 'type':
      draft.dnsType = text;
      return;
    case 'name':
      if (draft.kind === 'BFD_CHECK') draft.bfdInstance = text;
      else draft.dnsName = text;
      return;
    case 'payload':
      assignBytes(words, complain, ({ bytes }) => (draft.payload = bytes));
      return;
    case 'require_reply':
      assignBytes(words, complain, (reply) => (draft.reply = reply));
      return;
    case 'min_reply_length':
      draft.minimumLength = Number(text);
      return;
    case 'max_reply_length':
      draft.maximumLength = Number(text);
      return;
    case 'misc_path':
      draft.script = { ...scriptOf(words.slice(0, 1)), runAs: draft.script?.runAs };
      return;
    case 'misc_timeout':
      draft.timeoutMs = millisecondsOf(first);
      return;
    case 'misc_dynamic':
      draft.dynamic = true;
      return;
    case 'user':
      draft.script = { argv: draft.script?.argv ?? [], runAs: scriptUser(words) };
      return;
    case 'track_file':
      draft.trackFile = text;
  }
}

function understandUrl(block: readonly Statement[], { position }: Word, complain: Complain): UrlDraft {
  const url: UrlDraft = { position };
  for (const { keyword, arguments: words } of block) {
    const text = words[0]?.text ?? '';
    switch (keyword.text) {
      case 'path':
        url.path = text;
        break;
      case 'digest':
        if (url.digest !== undefined) complain('duplicateValue', keyword.position, 'digest');
        else if (/^[0-9a-fA-F]{32}$/.test(text)) url.digest = text.toLowerCase();
        else complain('invalidValue', words[0]!.position, 'digest', text, '32 hexadecimal digits, an MD5 sum');
        break;
      case 'status_code':
        url.statusCodes = [...(url.statusCodes ?? []), ...words.flatMap((word) => readCodes(word, complain))];
        break;
      case 'virtualhost':
        url.virtualHost = text;
        break;
      case 'regex':
        if (words[0]) url.regex = text;
        break;
      case 'regex_no_match':
        url.regexMustNotMatch = true;
        break;
      case 'regex_options':
        url.regexOptions = words.map((word) => word.text);
        break;
      case 'regex_min_offset':
        url.regexMinimumOffset = Number(text);
        break;
      case 'regex_max_offset':
        url.regexMaximumOffset = Number(text);
        break;
    }
  }
  return url;
}

function readCodes({ text, position }: Word, complain: Complain): (readonly [number, number])[] {
  const [, from = '', to = from] = /^([0-9]{3})(?:-([0-9]{3}))?$/.exec(text) ?? [];
  const [low, high] = [Number(from), Number(to)];
  if (low >= 100 && high <= 599 && low <= high) return [[low, high]];
  complain('invalidValue', position, 'status_code', text, 'a code or a range within 100..599');
  return [];
}

function assignBytes(
  words: readonly Word[],
  complain: Complain,
  assign: (bytes: Pick<UdpReply, 'bytes' | 'mask'>) => void,
) {
  const digits = words.map(({ text }) => text);
  const wrong = words.find(({ text }) => !/^[0-9a-fA-FxX]*$/.test(text));
  if (wrong) complain('invalidValue', wrong.position, 'payload', wrong.text, 'hexadecimal digits');
  else assign(readHex(digits));
}

/** Each word's digits pair up from its left, a single one standing for itself: `Ab12f 3` is AB 12 0F 03. */
export function readHex(words: readonly string[]): Pick<UdpReply, 'bytes' | 'mask'> {
  const full = words.flatMap((word) => word.match(/..?/g) ?? []).map((pair) => pair.padStart(2, '0'));
  const nibbles = (pick: (digit: string) => string) =>
    Uint8Array.from(full, (pair) => Number.parseInt([...pair].map(pick).join(''), 16));
  return {
    bytes: nibbles((digit) => (/[xX]/.test(digit) ? '0' : digit)),
    mask: nibbles((digit) => (/[xX]/.test(digit) ? '0' : 'f')),
  };
}
