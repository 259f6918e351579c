/** YAML or JSON text to drafts. What is wrong is said with line and column, as for keepalived.conf. */
import { fullMask, type Tunnel } from '@ipvsd/director';
import { type Document, isNode, LineCounter, parseDocument } from 'yaml';
import { type Diagnostic, diagnose } from '../conf/diagnostics.ts';
import type { Position } from '../conf/source.ts';
import { readHex } from '../conf/understand-check.ts';
import { readAddressRange } from '../model/addresses.ts';
import type { CheckKind, LoadFeedback, Script } from '../model/configuration.ts';
import {
  type CheckDraft,
  type Drafts,
  emptyDrafts,
  type GroupMember,
  type Method,
  type RealServerDraft,
  type VirtualServerDraft,
} from '../model/draft.ts';
import {
  configurationSchema,
  type NativeCheck,
  type NativeCommand,
  type NativeLoad,
  type NativeServer,
  type NativeService,
} from './schema.ts';

type Path = readonly (string | number)[];
type Locate = (path: Path) => Position;

export function readNative(file: string, text: string): { drafts: Drafts; diagnostics: readonly Diagnostic[] } {
  const counter = new LineCounter();
  const document = parseDocument(text, { lineCounter: counter });
  const locate: Locate = (path) => positionOf(document, path, file, counter);
  if (document.errors.length > 0) {
    const diagnostics = document.errors.map((error) => {
      const { line, col } = counter.linePos(error.pos[0]);
      const message = error.message.split('\n', 1)[0] ?? error.message;
      return diagnose('schema', { file, line, column: col, length: 1 }, message.replace(/ at line .*$/, ''));
    });
    return { drafts: emptyDrafts(), diagnostics };
  }
  const parsed = configurationSchema.safeParse(document.toJS());
  if (!parsed.success) {
    const diagnostics = parsed.error.issues.map(({ path, message }) => {
      const names = path.map((part) => (typeof part === 'number' ? part : String(part)));
      return diagnose('schema', locate(names), `${names.join('.') || 'The configuration'}: ${message}`);
    });
    return { drafts: emptyDrafts(), diagnostics };
  }
  const { timeouts, commandUser, services, load, slowStart } = parsed.data;
  const drafts = emptyDrafts();
  if (timeouts) drafts.global.timeouts = timeouts;
  if (commandUser) drafts.global.scriptUser = { user: commandUser.user, ...defined({ group: commandUser.group }) };
  const diagnostics: Diagnostic[] = [];
  for (const [index, own] of services.entries()) {
    const service = { ...defined({ load, slowStart }), ...own };
    const draft = readService(service, ['services', index], locate, drafts);
    if (draft) drafts.virtualServers.push(draft);
    else {
      const what = 'needs either an address (with ranges that can be read) or a fwmark';
      diagnostics.push(diagnose('schema', locate(['services', index]), `services.${index}: ${what}`));
    }
  }
  return { drafts, diagnostics };
}

/** The value's own place, or that of the nearest thing around it that is there. */
function positionOf(document: Document, path: Path, file: string, counter: LineCounter): Position {
  for (let length = path.length; length >= 0; length--) {
    const node = length === 0 ? document.contents : document.getIn(path.slice(0, length), true);
    if (!isNode(node) || !node.range) continue;
    const { line, col } = counter.linePos(node.range[0]);
    return { file, line, column: col, length: 1 };
  }
  return { file, line: 1, column: 1, length: 1 };
}

function readService(
  service: NativeService,
  path: Path,
  locate: Locate,
  drafts: Drafts,
): VirtualServerDraft | undefined {
  const target = readTarget(service, path, locate, drafts);
  if (target === undefined) return undefined;
  const { persistence, sorryServer, checks = [] } = service;
  const flags = { fallback: 1, port: 2, 'flag-3': 4 } as const;
  const localGroup = `services.${path.at(-1)}`;
  if (service.localAddresses) drafts.localGroups.set(localGroup, service.localAddresses);
  const isIPv6 = typeof service.address === 'string' && service.address.includes(':');
  return {
    target,
    position: locate(path),
    realServers: service.realServers.map((server, index) =>
      readServer(server, [...path, 'realServers', index], locate, { checks, path: [...path, 'checks'], drafts }),
    ),
    scheduler: service.scheduler ?? 'wlc',
    schedulerFlags: (service.schedulerFlags ?? []).reduce((all, flag) => all | flags[flag], 0),
    method: readMethod(service.forwarding ?? 'nat', service.tunnel),
    ...(service.localAddresses && { localGroup }),
    ...(service.fwmark === undefined && { protocol: service.protocol ?? 'tcp' }),
    ...(persistence && { persistenceSeconds: persistence.seconds }),
    ...(persistence?.engine !== undefined && { persistenceEngine: persistence.engine }),
    ...(persistence?.prefix !== undefined && {
      persistenceNetmask: isIPv6 ? persistence.prefix : (fullMask.ipv4 << (32 - persistence.prefix)) >>> 0,
    }),
    ...(sorryServer && {
      sorryServer: {
        address: sorryServer.address,
        port: sorryServer.port ?? 0,
        position: locate([...path, 'sorryServer']),
      },
      sorryInhibit: sorryServer.keep ?? false,
    }),
    ...(service.load && { load: readLoad(service.load) }),
    ...(service.slowStart !== undefined && { slowStartMs: service.slowStart * 1000 }),
    ...(service.whenQuorumGained && { quorumUp: readCommand(service.whenQuorumGained) }),
    ...(service.whenQuorumLost && { quorumDown: readCommand(service.whenQuorumLost) }),
    ...defined({
      onePacket: service.onePacket,
      proxyProtocol: service.proxyProtocol,
      segmentSize: service.mss,
      idle: service.idle && { timeoutSeconds: service.idle.seconds ?? 0, reset: service.idle.reset ?? false },
      quorum: service.quorum,
      hysteresis: service.hysteresis,
      omega: service.notifyAtStop,
      haSuspend: service.onlyWhereAddressIs,
    }),
  };
}

function readTarget({ address, port = 0, fwmark }: NativeService, path: Path, locate: Locate, drafts: Drafts) {
  if (fwmark !== undefined) return { kind: 'fwmark', fwmark } as const;
  if (typeof address === 'string') return { kind: 'address', address, port } as const;
  if (address === undefined) return undefined;
  const members: GroupMember[] = [];
  for (const text of address) {
    const range = readAddressRange(text);
    if (range === undefined || 'wrong' in range) return undefined;
    members.push({ kind: 'addresses', addresses: range, port });
  }
  const group = `services.${path.at(-1)}`;
  drafts.groups.set(group, { members, position: locate(path) });
  return { kind: 'group', group } as const;
}

interface Shared {
  readonly checks: readonly NativeCheck[];
  readonly path: Path;
  readonly drafts: Drafts;
}

function readServer(server: NativeServer, path: Path, locate: Locate, shared: Shared): RealServerDraft {
  const own = server.checks !== undefined;
  const checks = (server.checks ?? shared.checks).map((check, index) => {
    const place = [...(own ? [...path, 'checks'] : shared.path), index];
    return readCheck(check, locate(place), shared.drafts);
  });
  return {
    address: server.address,
    port: server.port ?? 0,
    position: locate(path),
    checks,
    ...(server.forwarding && { method: readMethod(server.forwarding, server.tunnel) }),
    ...(server.whenUp && { notifyUp: readCommand(server.whenUp) }),
    ...(server.whenDown && { notifyDown: readCommand(server.whenDown) }),
    ...defined({
      weight: server.weight,
      upperThreshold: server.upperThreshold,
      lowerThreshold: server.lowerThreshold,
      inhibitOnFailure: server.keepWhenDown,
    }),
  };
}

type Forwarding = NonNullable<NativeService['forwarding']>;
const METHODS = { nat: 'masq', dr: 'route', tunnel: 'tunnel', fullnat: 'fullnat' } as const satisfies Record<
  Forwarding,
  Method['forwarding']
>;

function readMethod(forwarding: Forwarding, tunnel: NativeService['tunnel']): Method {
  const { type = 'ipip', port = 0, checksum = 'none' } = tunnel ?? {};
  const full: Tunnel = { type, port, checksum };
  return { forwarding: METHODS[forwarding], tunnel: full };
}

function readCommand({ run, user, group }: NativeCommand): Script {
  return { argv: run, runAs: user === undefined ? undefined : { user, ...(group !== undefined && { group }) } };
}

function readLoad({ from, every = 1, stale, halfLife, change, least, most }: NativeLoad): LoadFeedback {
  const times = (value: number | undefined, factor: number): number | undefined =>
    value === undefined ? undefined : value * factor;
  return {
    source: from,
    everyMs: every * 1000,
    settings: defined({
      staleMs: times(stale, 1000),
      halfLifeMs: times(halfLife, 1000),
      mostPerSecond: times(change, 0.01),
      minimumFactor: times(least, 0.01),
      maximumFactor: times(most, 0.01),
    }),
  };
}

const KINDS = {
  tcp: 'TCP_CHECK',
  http: 'HTTP_GET',
  https: 'SSL_GET',
  smtp: 'SMTP_CHECK',
  dns: 'DNS_CHECK',
  udp: 'UDP_CHECK',
  ping: 'PING_CHECK',
  command: 'MISC_CHECK',
  file: 'FILE_CHECK',
} as const satisfies Record<NativeCheck['type'], CheckKind>;

function readCheck(check: NativeCheck, position: Position, drafts: Drafts): CheckDraft {
  const ms = (seconds: number | undefined): number | undefined => (seconds === undefined ? undefined : seconds * 1000);
  const connection =
    'address' in check || 'port' in check || 'bindAddress' in check || 'bindPort' in check ? check : {};
  const { address, port, bindAddress, bindPort } = connection as Partial<Extract<NativeCheck, { type: 'tcp' }>>;
  return {
    kind: KINDS[check.type],
    position,
    connection: defined({ address, port, bindAddress, bindPort }),
    urls: 'urls' in check ? check.urls.map((url) => readUrl(url, position)) : [],
    hosts: [],
    ...defined({
      delayLoopMs: ms(check.every),
      connectTimeoutMs: ms(check.timeout),
      retry: check.retries,
      delayBeforeRetryMs: ms(check.retryAfter),
      warmupMs: ms(check.warmup),
      alpha: check.startDown,
    }),
    ...readSpecific(check, drafts),
  };
}

function readSpecific(check: NativeCheck, drafts: Drafts): Partial<CheckDraft> {
  switch (check.type) {
    case 'http':
      return defined({ virtualHost: check.host, httpVersion: check.version, fastRecovery: check.fastRecovery });
    case 'https': {
      const { host, version, fastRecovery, serverName } = check;
      return {
        enableSni: true,
        ...defined({ virtualHost: host, httpVersion: version, fastRecovery, sniName: serverName }),
      };
    }
    case 'smtp':
      return defined({ heloName: check.hello });
    case 'dns':
      return defined({ dnsType: check.record, dnsName: check.name });
    case 'udp':
      return defined({
        payload: check.payload === undefined ? undefined : readHex(check.payload.split(' ')).bytes,
        reply: check.reply === undefined ? undefined : readHex(check.reply.split(' ')),
      });
    case 'command':
      return {
        script: readCommand(check.command),
        ...defined({
          dynamic: check.statusIsWeight,
          timeoutMs: check.timeout === undefined ? undefined : check.timeout * 1000,
        }),
      };
    case 'file':
      // Here the check names its file itself; the model knows files by name.
      drafts.trackFiles.set(check.path, { path: check.path, weight: check.weight ?? 1 });
      return { trackFile: check.path, fileWeight: check.weight ?? 1 };
    default:
      return {};
  }
}

type NativeUrl = Extract<NativeCheck, { type: 'http' }>['urls'][number];

function readUrl({ path, status, md5, host, regex, regexMustNotMatch }: NativeUrl, position: Position) {
  const statusCodes = status?.map((code): readonly [number, number] => {
    const [from = 0, to = from] = String(code).split('-').map(Number);
    return [from, to];
  });
  return { path, position, ...defined({ statusCodes, digest: md5, virtualHost: host, regex, regexMustNotMatch }) };
}

/** Without the fields that are undefined: absent is absent. */
function defined<T extends object>(fields: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as ReturnType<
    typeof defined<T>
  >;
}
