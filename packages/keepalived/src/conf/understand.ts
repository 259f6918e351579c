/** The LVS part of the tree to drafts: which keyword means what. Defaults are not its business. */
import { type Address, parseAddress } from '@ipvsd/director';
import { readAddressRange } from '../model/addresses.ts';
import type { Script, ScriptUser } from '../model/configuration.ts';
import { type Drafts, emptyDrafts, type GroupMember, type InheritedDraft } from '../model/draft.ts';
import { type Diagnostic, type DiagnosticCode, diagnose } from './diagnostics.ts';
import { readBoolean, readTimer } from './keyword.ts';
import { splitCommand, type Word } from './lexer.ts';
import type { Position } from './source.ts';
import type { Statement } from './tree.ts';
import { understandVirtualServer } from './understand-service.ts';

export interface Understood {
  readonly drafts: Drafts;
  readonly diagnostics: readonly Diagnostic[];
}

export type Complain = (code: DiagnosticCode, position: Position, ...words: readonly string[]) => void;

export function understand(statements: readonly Statement[]): Understood {
  const drafts = emptyDrafts();
  const diagnostics: Diagnostic[] = [];
  const complain: Complain = (code, position, ...words) => diagnostics.push(diagnose(code, position, ...words));
  for (const statement of statements) understandStatement(statement, drafts, complain);
  return { drafts, diagnostics };
}

function understandStatement(statement: Statement, drafts: Drafts, complain: Complain): void {
  const { keyword, arguments: words, block = [] } = statement;
  const name = words[0]?.text ?? '';
  switch (keyword.text) {
    case 'global_defs':
      for (const line of block) understandGlobal(line, drafts, complain);
      return;
    case 'SSL':
      for (const { keyword: part, arguments: values } of block) {
        drafts.global.tls = { ...drafts.global.tls, [part.text]: values[0]?.text ?? '' };
      }
      return;
    case 'track_file':
    case 'vrrp_track_file':
      drafts.trackFiles.set(name, { path: textOf(block, 'file') ?? '', weight: signedWeight(block) ?? 1 });
      return;
    case 'bfd_instance':
      drafts.bfdInstances.add(name);
      return;
    case 'virtual_server_group': {
      if (drafts.groups.has(name)) complain('duplicateGroup', keyword.position, name);
      else
        drafts.groups.set(name, {
          members: block.flatMap((line) => readMember(line, complain)),
          position: keyword.position,
        });
      return;
    }
    case 'local_address_group': {
      if (drafts.localGroups.has(name)) complain('duplicateGroup', keyword.position, name);
      else
        drafts.localGroups.set(
          name,
          block.flatMap((line) => readLocalAddresses(line, complain)),
        );
      return;
    }
    case 'virtual_server': {
      const draft = understandVirtualServer(statement, complain);
      if (draft) drafts.virtualServers.push(draft);
      return;
    }
    case 'net_namespace':
    case 'net_namespace_ipvs':
      complain('ignoredForNow', keyword.position, `"${keyword.text}" (run ipvsd inside the namespace instead)`);
  }
}

function understandGlobal(
  { keyword, arguments: words, block }: Statement,
  { global }: Drafts,
  complain: Complain,
): void {
  const [first] = words;
  switch (keyword.text) {
    case 'lvs_timeouts':
      global.timeouts = readTimeouts(keyword, words, complain);
      return;
    case 'lvs_sync_daemon':
      readSyncDaemon(keyword, words, global, complain);
      return;
    case 'lvs_flush':
      global.flushAtStart = true;
      return;
    case 'lvs_flush_on_stop':
      global.flushAtStop = first?.text === 'VS' ? 'services' : 'all';
      return;
    case 'script_user':
      global.scriptUser = scriptUser(words) ?? { user: '' };
      return;
    case 'notify_fifo':
      global.notifyFifo = first?.text ?? '';
      return;
    case 'lvs_notify_fifo':
      global.lvsNotifyFifo = first?.text ?? '';
      return;
    case 'enable_script_security':
      global.scriptSecurity = true;
      return;
    case 'reload_check_config':
      global.reloadCheck = first === undefined || booleanOf(first);
      return;
    case 'rs_init_notifies':
      global.initNotifies = true;
      return;
    case 'checker_log_all_failures':
      global.logAllFailures = booleanOf(first);
      return;
    case 'notification_email':
      if (block?.length === 0) complain('emptyList', keyword.position, keyword.text);
      complain('ignoredForNow', keyword.position, '"notification_email"');
      return;
    case 'enable_snmp_checker':
    case 'enable_dbus':
    case 'notify_fifo_script':
    case 'lvs_notify_fifo_script':
      complain('ignoredForNow', keyword.position, `"${keyword.text}"`);
  }
}

function readTimeouts(keyword: Word, words: readonly Word[], complain: Complain) {
  const found = { tcp: 0, tcpFin: 0, udp: 0 };
  const names = { tcp: 'tcp', tcpfin: 'tcpFin', udp: 'udp' } as const;
  for (let at = 0; at < words.length; at += 2) {
    const name = words[at]!;
    const value = Number(words[at + 1]?.text);
    const field = names[name.text as keyof typeof names];
    if (field !== undefined && Number.isInteger(value) && value > 0) found[field] = value;
    else complain('invalidValue', name.position, keyword.text, name.text, 'tcp, tcpfin or udp with seconds');
  }
  return found;
}

/** `eth0 [[inst] VI_1] [id 5] [maxlen n] [port n] [ttl n] [group a]`; with an instance it is VRRP's. */
function readSyncDaemon(keyword: Word, words: readonly Word[], global: Drafts['global'], complain: Complain): void {
  const [interfaceName, ...rest] = words.map(({ text }) => text);
  const options = new Map<string, string>();
  let instance: string | undefined;
  for (let at = 0; at < rest.length; at++) {
    const word = rest[at]!;
    if (['id', 'maxlen', 'port', 'ttl', 'group', 'inst'].includes(word)) options.set(word, rest[++at] ?? '');
    else instance = word;
  }
  if (instance !== undefined || options.has('inst')) {
    complain('ignoredForNow', keyword.position, '"lvs_sync_daemon" with a VRRP instance');
    return;
  }
  const number = (name: string): number | undefined => (options.has(name) ? Number(options.get(name)) : undefined);
  const group = parseAddress(options.get('group') ?? '');
  const [maximumLength, port, ttl] = [number('maxlen'), number('port'), number('ttl')];
  global.syncDaemon = {
    interfaceName: interfaceName ?? '',
    syncId: number('id') ?? 0,
    ...(maximumLength !== undefined && { maximumLength }),
    ...(port !== undefined && { port }),
    ...(ttl !== undefined && { ttl }),
    ...(group !== undefined && { group }),
  };
}

/** An address or a range of them, and in DPVS the interface; routes say that here. */
function readLocalAddresses({ keyword }: Statement, complain: Complain): readonly Address[] {
  const range = readAddressRange(keyword.text);
  if (range !== undefined && !('wrong' in range)) return range;
  if (range !== undefined) complain(range.wrong, keyword.position, keyword.text);
  else complain('invalidValue', keyword.position, 'local_address_group', keyword.text, 'an address or a range');
  return [];
}

function readMember({ keyword, arguments: words }: Statement, complain: Complain): GroupMember[] {
  if (keyword.text === 'fwmark') {
    const fwmark = Number(words[0]?.text ?? '');
    if (Number.isInteger(fwmark) && fwmark >= 0 && fwmark <= 0xffffffff && words[0]) {
      return [{ kind: 'fwmark', fwmark, family: familyWord(words[1]?.text) }];
    }
    complain('invalidValue', keyword.position, 'fwmark', words[0]?.text ?? '', 'a whole number 0..4294967295');
    return [];
  }
  const range = readAddressRange(keyword.text);
  const port = words[0] === undefined ? 0 : readPort(words[0].text);
  if (range === undefined)
    complain(
      'invalidValue',
      keyword.position,
      'virtual_server_group',
      keyword.text,
      'an address, a range, a network or fwmark',
    );
  else if ('wrong' in range) complain(range.wrong, keyword.position, keyword.text);
  else if (port === undefined)
    complain('invalidValue', words[0]!.position, keyword.text, words[0]!.text, 'a port 1..65535');
  else return [{ kind: 'addresses', addresses: range, port }];
  return [];
}

export function familyWord(text: string | undefined): 'ipv4' | 'ipv6' | undefined {
  return text === 'inet6' ? 'ipv6' : text === 'inet' ? 'ipv4' : undefined;
}

export function readPort(text: string): number | undefined {
  const port = /^[0-9]{1,5}$/.test(text) ? Number(text) : 0;
  return port >= 1 && port <= 65_535 ? port : undefined;
}

/** A boolean keyword without its value means yes. */
export function booleanOf(word: Word | undefined): boolean {
  return word === undefined || (readBoolean(word.text) ?? true);
}

export function millisecondsOf(word: Word | undefined): number {
  return readTimer(word?.text ?? '') ?? 0;
}

/** Quoted, the first word is a whole command line; bare, it is the program alone. User and group follow. */
export function scriptOf([command, ...user]: readonly Word[]): Script {
  const text = command?.text ?? '';
  return { argv: command?.quoted ? splitCommand(text) : [text], runAs: scriptUser(user) };
}

export function scriptUser([user, group]: readonly Word[]): ScriptUser | undefined {
  return user && { user: user.text, ...(group && { group: group.text }) };
}

/** The keywords that virtual servers, real servers and checks share; false when it is none of them. */
export function understandInherited({ keyword, arguments: [first] }: Statement, draft: InheritedDraft): boolean {
  switch (keyword.text) {
    case 'alpha':
      draft.alpha = booleanOf(first);
      return true;
    case 'connect_timeout':
      draft.connectTimeoutMs = millisecondsOf(first);
      return true;
    case 'retry':
    case 'nb_get_retry':
      draft.retry = Number(first?.text);
      return true;
    case 'delay_before_retry':
      draft.delayBeforeRetryMs = millisecondsOf(first);
      return true;
    case 'warmup':
      draft.warmupMs = millisecondsOf(first);
      return true;
    case 'delay_loop':
      draft.delayLoopMs = millisecondsOf(first);
      return true;
    default:
      return false;
  }
}

function textOf(block: readonly Statement[], name: string): string | undefined {
  return block.findLast(({ keyword }) => keyword.text === name)?.arguments[0]?.text;
}

/** `weight N [reverse]` of a file. */
export function signedWeight(block: readonly Statement[]): number | undefined {
  const [number, reverse] = block.findLast(({ keyword }) => keyword.text === 'weight')?.arguments ?? [];
  if (number === undefined) return undefined;
  return Number(number.text) * (reverse?.text === 'reverse' ? -1 : 1);
}
