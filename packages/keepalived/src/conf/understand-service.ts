/** `virtual_server` and `real_server` blocks. */
import {
  fullMask,
  ipv4Number,
  type ProxyProtocol,
  parseAddress,
  plainTunnel,
  schedulerFlag,
  type TunnelType,
} from '@ipvsd/director';
import type { Method, RealServerDraft, Target, VirtualServerDraft } from '../model/draft.ts';
import type { Word } from './lexer.ts';
import type { Statement } from './tree.ts';
import { booleanOf, type Complain, familyWord, readPort, scriptOf, understandInherited } from './understand.ts';
import { isCheck, understandCheck } from './understand-check.ts';

/** keepalived and ipvsadm know these; a scheduler of the user's own comes through our own configuration. */
const SCHEDULERS = new Set([
  'rr',
  'wrr',
  'lc',
  'wlc',
  'lblc',
  'lblcr',
  'sh',
  'dh',
  'mh',
  'sed',
  'nq',
  'fo',
  'ovf',
  'twos',
]);
/** Least load: not keepalived's. */
const OWN_SCHEDULER = 'll';

const FLAGS: Readonly<Record<string, readonly [flag: number, scheduler: string | undefined]>> = {
  'flag-1': [schedulerFlag.first, undefined],
  'flag-2': [schedulerFlag.second, undefined],
  'flag-3': [schedulerFlag.third, undefined],
  'sh-fallback': [schedulerFlag.first, 'sh'],
  'sh-port': [schedulerFlag.second, 'sh'],
  'mh-fallback': [schedulerFlag.first, 'mh'],
  'mh-port': [schedulerFlag.second, 'mh'],
};

export function understandVirtualServer(statement: Statement, complain: Complain): VirtualServerDraft | undefined {
  const target = readTarget(statement, complain);
  if (target === undefined) return undefined;
  const draft: VirtualServerDraft = { target, position: statement.keyword.position, realServers: [] };
  for (const line of statement.block ?? []) {
    if (!understandInherited(line, draft)) understandLine(line, draft, complain);
  }
  return draft;
}

function readTarget({ keyword, arguments: [first, second] }: Statement, complain: Complain): Target | undefined {
  const name = first?.text ?? '';
  if (name === 'group') return { kind: 'group', group: second?.text ?? '' };
  if (name === 'fwmark') {
    const fwmark = Number(second?.text ?? 'nothing');
    if (Number.isInteger(fwmark) && fwmark >= 0 && fwmark <= 0xffffffff) return { kind: 'fwmark', fwmark };
    complain(
      'invalidValue',
      (second ?? keyword).position,
      'fwmark',
      second?.text ?? '',
      'a whole number 0..4294967295',
    );
    return undefined;
  }
  const place = readPlace(first, second, keyword, complain);
  return place && { kind: 'address', ...place };
}

function readPlace(first: Word | undefined, second: Word | undefined, keyword: Word, complain: Complain) {
  const address = parseAddress(first?.text ?? '');
  const port = second === undefined ? 0 : readPort(second.text);
  if (address === undefined) {
    complain('invalidValue', (first ?? keyword).position, keyword.text, first?.text ?? '', 'an IPv4 or IPv6 address');
  } else if (port === undefined) {
    complain('invalidValue', second!.position, keyword.text, second!.text, 'a port 1..65535');
  } else return { address, port };
  return undefined;
}

function understandLine(line: Statement, draft: VirtualServerDraft, complain: Complain): void {
  const { keyword, arguments: words } = line;
  const [first] = words;
  const text = first?.text ?? '';
  switch (keyword.text) {
    case 'ip_family': {
      const family = familyWord(text);
      if (family) draft.family = family;
      return;
    }
    case 'lvs_sched':
    case 'lb_algo':
      if (!SCHEDULERS.has(text) && text !== OWN_SCHEDULER) complain('unknownScheduler', first!.position, text);
      else {
        draft.scheduler = text;
        if (text === OWN_SCHEDULER) complain('ownScheduler', first!.position, text);
      }
      return;
    case 'lvs_method':
    case 'lb_kind':
      assignMethod(words, complain, (method) => (draft.method = method));
      return;
    case 'protocol':
      draft.protocol = text.toLowerCase() as 'tcp' | 'udp' | 'sctp';
      return;
    case 'proxy_protocol':
      draft.proxyProtocol = text as ProxyProtocol;
      return;
    case 'mss':
      draft.segmentSize = text === 'auto' ? text : Number(text);
      return;
    case 'laddr_group_name':
      draft.localGroup = text;
      return;
    case 'establish_timeout':
      draft.idle = { timeoutSeconds: Number(text), reset: false };
      return;
    case 'ops':
      draft.onePacket = true;
      return;
    case 'persistence_timeout':
      draft.persistenceSeconds = first ? Number(text) : 360;
      return;
    case 'persistence_granularity':
      readGranularity(first!, draft, complain);
      return;
    case 'persistence_engine':
      draft.persistenceEngine = text;
      return;
    case 'ha_suspend':
      draft.haSuspend = true;
      return;
    case 'omega':
      draft.omega = booleanOf(first);
      return;
    case 'quorum':
      draft.quorum = Number(text);
      return;
    case 'hysteresis':
      draft.hysteresis = Number(text);
      return;
    case 'quorum_up':
      draft.quorumUp = scriptOf(words);
      return;
    case 'quorum_down':
      draft.quorumDown = scriptOf(words);
      return;
    case 'inhibit_on_failure':
      draft.inhibitOnFailure = booleanOf(first);
      return;
    case 'weight':
      draft.weight = Number(text);
      return;
    case 'virtualhost':
      draft.virtualHost = text;
      return;
    case 'sorry_server': {
      const place = readPlace(first, words[1], keyword, complain);
      if (place) draft.sorryServer = { ...place, position: keyword.position };
      return;
    }
    case 'sorry_server_inhibit':
      draft.sorryInhibit = true;
      return;
    case 'sorry_server_lvs_method':
      assignMethod(words, complain, (method) => (draft.sorryMethod = method));
      return;
    case 'real_server': {
      const server = understandRealServer(line, complain);
      if (server) draft.realServers.push(server);
      return;
    }
    default:
      readFlag(keyword, draft, complain);
  }
}

function readFlag(keyword: Word, draft: VirtualServerDraft, complain: Complain): void {
  const [flag, scheduler] = FLAGS[keyword.text] ?? [];
  if (flag === undefined) return;
  if (scheduler === undefined || scheduler === draft.scheduler)
    draft.schedulerFlags = (draft.schedulerFlags ?? 0) | flag;
  else complain('flagWithoutScheduler', keyword.position, keyword.text, scheduler);
}

/** A mask in dotted form, or a prefix length of either family. */
function readGranularity(word: Word, draft: VirtualServerDraft, complain: Complain): void {
  const dotted = parseAddress(word.text);
  const length = /^[0-9]{1,3}$/.test(word.text) ? Number(word.text) : 0;
  if (dotted !== undefined && !dotted.includes(':')) draft.persistenceNetmask = ipv4Number(dotted);
  else if (length > 32 && length <= 128) draft.persistenceNetmask = length;
  else if (length >= 1 && length <= 32) {
    // Which of the two a short length is, the family of the service decides.
    const isIPv6 = draft.target.kind === 'address' && draft.target.address.includes(':');
    draft.persistenceNetmask = isIPv6 ? length : (fullMask.ipv4 << (32 - length)) >>> 0;
  } else complain('invalidValue', word.position, 'persistence_granularity', word.text, 'a mask or a prefix length');
}

function assignMethod(words: readonly Word[], complain: Complain, assign: (method: Method) => void): void {
  const method = readMethod(words, complain);
  if (method) assign(method);
}

/** `NAT`, `DR`, `FNAT`, or `TUN [type ipip|gue|gre [port N] [nocsum|csum|remcsum]]`. */
function readMethod([kind, ...options]: readonly Word[], complain: Complain): Method | undefined {
  if (kind?.text === 'NAT') return { forwarding: 'masq', tunnel: plainTunnel };
  if (kind?.text === 'FNAT') return { forwarding: 'fullnat', tunnel: plainTunnel };
  if (kind?.text === 'DR') return { forwarding: 'route', tunnel: plainTunnel };
  let type: TunnelType = 'ipip';
  let port = 0;
  let checksum: 'none' | 'full' | 'remote' | undefined;
  for (let at = 0; at < options.length; at++) {
    const { text, position } = options[at]!;
    const next = options[at + 1]?.text ?? '';
    if (text === 'type' && ['ipip', 'gue', 'gre'].includes(next)) type = options[++at]!.text as TunnelType;
    else if (text === 'port' && readPort(next) !== undefined) port = Number(options[++at]!.text);
    else if (text === 'nocsum') checksum = 'none';
    else if (text === 'csum') checksum = 'full';
    else if (text === 'remcsum') checksum = 'remote';
    else {
      complain('invalidValue', position, 'lvs_method', text, 'type ipip|gue|gre, port, nocsum, csum or remcsum');
      return undefined;
    }
  }
  const wrongChecksum = type === 'ipip' ? checksum !== undefined : type === 'gre' && checksum === 'remote';
  if (type === 'gue' && port === 0) complain('tunnelNeedsPort', kind!.position);
  else if (wrongChecksum)
    complain('tunnelChecksum', kind!.position, type, checksum === 'remote' ? 'remcsum' : 'checksum');
  else return { forwarding: 'tunnel', tunnel: { type, port: type === 'gue' ? port : 0, checksum: checksum ?? 'none' } };
  return undefined;
}

function understandRealServer(statement: Statement, complain: Complain): RealServerDraft | undefined {
  const { keyword, arguments: header, block = [] } = statement;
  const place = readPlace(header[0], header[1], keyword, complain);
  if (place === undefined) return undefined;
  const draft: RealServerDraft = { ...place, position: keyword.position, checks: [] };
  for (const line of block) {
    if (understandInherited(line, draft)) continue;
    const { keyword: name, arguments: words } = line;
    if (isCheck(name.text)) draft.checks.push(understandCheck(line, name.text, complain));
    else understandServerLine(name.text, words, draft, complain);
  }
  return draft;
}

function understandServerLine(name: string, words: readonly Word[], draft: RealServerDraft, complain: Complain): void {
  const [first] = words;
  switch (name) {
    case 'weight':
      draft.weight = Number(first?.text);
      return;
    case 'lvs_method':
    case 'lb_kind':
      assignMethod(words, complain, (method) => (draft.method = method));
      return;
    case 'uthreshold':
      draft.upperThreshold = Number(first?.text);
      return;
    case 'lthreshold':
      draft.lowerThreshold = Number(first?.text);
      return;
    case 'inhibit_on_failure':
      draft.inhibitOnFailure = booleanOf(first);
      return;
    case 'notify_up':
      draft.notifyUp = scriptOf(words);
      return;
    case 'notify_down':
      draft.notifyDown = scriptOf(words);
      return;
    case 'virtualhost':
      draft.virtualHost = first?.text ?? '';
  }
}
