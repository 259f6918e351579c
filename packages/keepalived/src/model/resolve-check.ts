/** One check with its defaults, which differ from kind to kind. */
import type { Check, CheckKind, Connection, HttpUrl, RegexTest, Timing } from './configuration.ts';
import type {
  CheckDraft,
  ConnectionDraft,
  Drafts,
  InheritedDraft,
  RealServerDraft,
  UrlDraft,
  VirtualServerDraft,
} from './draft.ts';
import type { Complain } from './resolve.ts';

export interface CheckContext {
  readonly inherited: InheritedDraft;
  readonly server: RealServerDraft;
  readonly draft: VirtualServerDraft;
  readonly drafts: Drafts;
  /** Of the real server, as configured. */
  readonly weight: number;
  readonly name: string;
}

const DELAY_LOOP_MS = 60_000;
const CONNECT_TIMEOUT_MS = 5000;
const DEFAULT_RETRY: Readonly<Partial<Record<CheckKind, number>>> = { DNS_CHECK: 3, MISC_CHECK: 0 };
const DEFAULT_HELO = 'smtpchecker.keepalived.org';
const DEFAULT_PAYLOAD = 'keepalived check - keepalived check - '.slice(0, 32);
const DNS_TYPES: Readonly<Record<string, number>> = {
  A: 1,
  NS: 2,
  CNAME: 5,
  SOA: 6,
  MX: 15,
  TXT: 16,
  AAAA: 28,
  RRSIG: 46,
  DNSKEY: 48,
};

/** No check, or one: what cannot work is left out. */
export function resolveCheck(draft: CheckDraft, context: CheckContext, complain: Complain): Check[] {
  const { drafts, inherited, name } = context;
  const base = {
    timing: timingOf(draft, context),
    alpha: draft.alpha ?? inherited.alpha ?? false,
    logAllFailures: draft.logAllFailures ?? drafts.global.logAllFailures ?? false,
    position: draft.position,
  };
  const connection = connectionOf(draft.connection, context);
  if (draft.connection.fwmark !== undefined) complain('ignoredForNow', draft.position, `"fwmark" of ${draft.kind}`);
  if (draft.connection.bindInterface !== undefined && !isLinkLocal(connection.address)) {
    complain('ignoredForNow', draft.position, `"bind_if" of ${draft.kind}`);
  }
  if (needsPort(draft) && connection.port === 0) {
    complain('noConnectPort', draft.position, draft.kind, name);
    return [];
  }
  switch (draft.kind) {
    case 'TCP_CHECK':
    case 'PING_CHECK':
      return [{ ...base, kind: draft.kind, connection }];
    case 'HTTP_GET':
    case 'SSL_GET':
      return resolveGet(draft, context, base, connection, complain);
    case 'SMTP_CHECK': {
      const hosts = draft.hosts.length > 0 ? draft.hosts : [draft.connection];
      const connections = hosts.map((host) => connectionOf({ ...draft.connection, ...host }, context));
      return [{ ...base, kind: 'SMTP_CHECK', connections, heloName: draft.heloName ?? DEFAULT_HELO }];
    }
    case 'DNS_CHECK': {
      const type = DNS_TYPES[draft.dnsType ?? 'SOA'] ?? dnsTypeNumber(draft.dnsType);
      if (type === undefined)
        complain('invalidValue', draft.position, 'type', draft.dnsType ?? '', Object.keys(DNS_TYPES).join(', '));
      return [{ ...base, kind: 'DNS_CHECK', connection, type: type ?? DNS_TYPES['SOA']!, name: draft.dnsName ?? '.' }];
    }
    case 'UDP_CHECK':
      return [
        {
          ...base,
          kind: 'UDP_CHECK',
          connection,
          payload: draft.payload ?? new TextEncoder().encode(DEFAULT_PAYLOAD),
          reply: replyOf(draft),
        },
      ];
    case 'MISC_CHECK': {
      const { script, dynamic = false, timeoutMs = base.timing.delayLoopMs } = draft;
      if (script?.argv[0]) {
        const runAs = script.runAs ?? drafts.global.scriptUser;
        return [
          {
            ...base,
            kind: 'MISC_CHECK',
            script: { argv: script.argv, runAs },
            timeoutMs,
            dynamic,
            weight: context.weight,
          },
        ];
      }
      complain('noMiscPath', draft.position);
      return [];
    }
    case 'FILE_CHECK': {
      const file = drafts.trackFiles.get(draft.trackFile ?? '');
      if (file) return [{ ...base, kind: 'FILE_CHECK', path: file.path, weight: draft.fileWeight ?? file.weight }];
      complain('noTrackFile', draft.position, draft.trackFile ?? '');
      return [];
    }
    case 'BFD_CHECK': {
      const instance = draft.bfdInstance ?? '';
      complain('ignoredForNow', draft.position, 'BFD_CHECK');
      if (drafts.bfdInstances.has(instance)) return [{ ...base, kind: 'BFD_CHECK', instance }];
      complain('noBfdInstance', draft.position, instance);
      return [];
    }
  }
}

function isLinkLocal(address: string): boolean {
  return /^fe[89ab]/i.test(address);
}

function needsPort({ kind }: CheckDraft): boolean {
  return (
    kind !== 'PING_CHECK' &&
    kind !== 'MISC_CHECK' &&
    kind !== 'FILE_CHECK' &&
    kind !== 'BFD_CHECK' &&
    kind !== 'DNS_CHECK'
  );
}

function timingOf(draft: CheckDraft, { inherited }: CheckContext): Timing {
  const own = { ...inherited, ...definedOf(draft) };
  const delayLoopMs = own.delayLoopMs ?? DELAY_LOOP_MS;
  const isGet = draft.kind === 'HTTP_GET' || draft.kind === 'SSL_GET';
  const beforeRetry = draft.kind === 'DNS_CHECK' ? delayLoopMs : isGet ? 3000 : 1000;
  return {
    delayLoopMs,
    retry: own.retry ?? DEFAULT_RETRY[draft.kind] ?? 1,
    delayBeforeRetryMs: own.delayBeforeRetryMs ?? beforeRetry,
    warmupMs: own.warmupMs ?? delayLoopMs,
    connectTimeoutMs: own.connectTimeoutMs ?? CONNECT_TIMEOUT_MS,
  };
}

function definedOf(draft: CheckDraft): InheritedDraft {
  const { connectTimeoutMs, retry, delayBeforeRetryMs, warmupMs, delayLoopMs } = draft;
  return {
    ...(connectTimeoutMs !== undefined && { connectTimeoutMs }),
    ...(retry !== undefined && { retry }),
    ...(delayBeforeRetryMs !== undefined && { delayBeforeRetryMs }),
    ...(warmupMs !== undefined && { warmupMs }),
    ...(delayLoopMs !== undefined && { delayLoopMs }),
  };
}

function connectionOf(own: ConnectionDraft, { server }: CheckContext): Connection {
  return {
    address: own.address ?? server.address,
    port: own.port ?? server.port,
    bindAddress: own.bindAddress,
    bindPort: own.bindPort,
    bindInterface: own.bindInterface,
    fwmark: own.fwmark,
  };
}

function resolveGet(
  draft: CheckDraft,
  context: CheckContext,
  base: Pick<Check, 'timing' | 'alpha' | 'logAllFailures' | 'position'>,
  connection: Connection,
  complain: Complain,
): Check[] {
  const kind = draft.kind === 'SSL_GET' ? 'SSL_GET' : 'HTTP_GET';
  const host = draft.virtualHost ?? context.server.virtualHost ?? context.draft.virtualHost;
  const urls = draft.urls.flatMap((url) => (url.path === undefined ? [] : [resolveUrl(url, url.path, host, complain)]));
  if (urls.length === 0) {
    complain('noUrl', draft.position, kind);
    return [];
  }
  const serverName = draft.sniName ?? (draft.enableSni ? (host ?? urls[0]?.host) : undefined);
  return [
    {
      ...base,
      kind,
      connection,
      urls,
      version: draft.httpVersion ?? '1.0',
      fastRecovery: draft.fastRecovery ?? false,
      serverName,
      tls: context.drafts.global.tls ?? {},
    },
  ];
}

function resolveUrl(url: UrlDraft, path: string, host: string | undefined, complain: Complain): HttpUrl {
  return {
    path,
    statusCodes: url.statusCodes ?? [[200, 299]],
    digest: url.digest,
    host: url.virtualHost ?? host,
    regex: url.regex === undefined ? undefined : resolveRegex(url, url.regex, complain),
  };
}

/** PCRE2's words for what JavaScript's flags say; the rest are about PCRE2's own machinery. */
const REGEX_FLAGS: Readonly<Record<string, string>> = {
  caseless: 'i',
  multiline: 'm',
  dotall: 's',
  utf: 'u',
  ucp: 'u',
};
const REGEX_HARMLESS =
  /^(no_auto_possess|no_start_optimize|no_dotstar_anchor|no_auto_capture|never_|auto_callout|use_offset_limit|dollar_endonly)/;

function resolveRegex(url: UrlDraft, pattern: string, complain: Complain): RegexTest | undefined {
  const flags = new Set<string>();
  let source = pattern;
  for (const option of url.regexOptions ?? []) {
    if (option === 'anchored') source = `^(?:${source})`;
    else if (option === 'endanchored') source = `(?:${source})$`;
    else if (option === 'literal') source = source.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&');
    else if (option === 'extended')
      source = source.replace(/\\.|#.*|\s+/gs, (part) => (part.startsWith('\\') ? part : ''));
    else if (REGEX_FLAGS[option]) flags.add(REGEX_FLAGS[option]);
    else if (!REGEX_HARMLESS.test(option)) complain('regexOption', url.position, option);
  }
  // PCRE2's inline options at the head of a pattern have no place in JavaScript.
  source = source.replace(/^\(\?([ims]+)\)/, (_, letters: string) => {
    for (const letter of letters) flags.add(letter);
    return '';
  });
  try {
    new RegExp(source, [...flags].join(''));
  } catch (error) {
    complain('badRegex', url.position, error instanceof Error ? error.message : String(error));
    return undefined;
  }
  return {
    source,
    flags: [...flags].join(''),
    mustNotMatch: url.regexMustNotMatch ?? false,
    minimumOffset: url.regexMinimumOffset ?? 0,
    maximumOffset: url.regexMaximumOffset,
  };
}

/** `TYPE65` or plain `65`. */
function dnsTypeNumber(text: string | undefined): number | undefined {
  const number = Number(/^(?:TYPE)?([0-9]{1,5})$/.exec(text ?? '')?.[1] ?? 'none');
  return number > 0 && number < 65_536 ? number : undefined;
}

function replyOf({ reply, minimumLength = 0, maximumLength = 255 }: CheckDraft) {
  return reply && { ...reply, minimumLength, maximumLength };
}
