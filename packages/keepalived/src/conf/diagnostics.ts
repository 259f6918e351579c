/**
 * Everything the reader of a configuration can have to say, in one catalogue. A diagnostic points at a place; printing
 * shows that line and a caret, because "line 312" of a generated file helps nobody.
 */
import type { Position } from './source.ts';

/**
 * `fatal`: keepalived would not run at all. `error`: it drops or changes something and runs. `warning`: it says
 * nothing, or sets a default that the operator may not have meant. `security`: it runs, and has an exit status for it.
 * `finding`: ours, keepalived does not look.
 */
export type Severity = 'fatal' | 'error' | 'security' | 'warning' | 'finding';

export interface Diagnostic {
  readonly code: DiagnosticCode;
  readonly severity: Severity;
  readonly message: string;
  readonly position: Position;
}

type Sentence = (...words: readonly string[]) => string;

const CATALOGUE = {
  unknownKeyword: [
    'error',
    (word, where, hint) => `There is no keyword "${word}" in ${where}${hint}; the line is ignored`,
  ],
  unexpectedBrace: [
    'error',
    (word) => `"${word}" opens no block: the "{" is ignored, and its "}" will close the block around it`,
  ],
  extraBrace: ['error', () => 'This "}" closes nothing'],
  missingBrace: ['error', (word) => `The block of "${word}" lacks its "{"`],
  unclosedBlock: ['error', (word) => `The block of "${word}" is never closed`],
  unmatchedQuote: ['error', (quote) => `The quote ${quote} is never closed on this line; the line is ignored`],
  missingArgument: ['fatal', (word, what) => `"${word}" needs ${what}: keepalived refuses to run`],
  missingValue: ['error', (word, what) => `"${word}" needs ${what}; the line is ignored`],
  duplicateValue: ['error', (word) => `"${word}" is there already; the line is ignored`],
  emptyList: ['error', (word) => `"${word}" is empty`],
  surplusArgument: ['warning', (word, surplus) => `"${word}" takes no "${surplus}"; it is ignored`],
  invalidValue: ['error', (word, value, what) => `"${word}" is "${value}", must be ${what}; the line is ignored`],
  includeMissing: ['error', (path) => `No file "${path}" to include`],
  includeUnreadable: ['error', (path, why) => `Cannot read "${path}": ${why}`],
  includeLoop: ['error', (path) => `"${path}" includes itself; the line is ignored`],
  tooLarge: ['error', (what) => `The definitions expand to more than ${what}; the rest is ignored`],
  badSequence: [
    'error',
    (text) => `Cannot read the sequence "${text}", must be ~SEQ(name, [[start,] step,] end) or ~LST(name, values)`,
  ],
  unreadableFile: ['fatal', (path, why) => `Cannot read "${path}": ${why}`],

  noRealServers: ['error', (name) => `Virtual server ${name} has no real servers and is ignored`],
  noSuchGroup: ['error', (name) => `There is no virtual_server_group "${name}"; the virtual server is ignored`],
  noSuchLocalGroup: [
    'error',
    (name) => `There is no local_address_group "${name}"; the virtual server has no local addresses`,
  ],
  noLocalAddress: [
    'error',
    (name, family) =>
      `Virtual server ${name} forwards by FNAT, and has no local address of ${family}: it serves nobody`,
  ],
  emptyGroup: ['error', (name) => `Group ${name} has no members; the virtual server is ignored`],
  duplicateService: [
    'error',
    (name, where) => `Virtual server ${name} is there already, at ${where}; this one is ignored`,
  ],
  duplicateServer: [
    'error',
    (name, service) => `Real server ${name} is there already in ${service}; this one is ignored`,
  ],
  duplicateGroup: ['error', (name) => `Group ${name} is there already; this one is ignored`],
  familyMismatch: [
    'error',
    (name, family) =>
      `Real server ${name} is not ${family} as its virtual server, which only a tunnel may do, and FNAT from IPv6 to IPv4; it is ignored`,
  ],
  protocolDefault: ['error', (name) => `Virtual server ${name} says no protocol; keepalived takes UDP`],
  fwmarkProtocol: ['error', (name) => `Virtual server ${name} is a firewall mark, its protocol is ignored`],
  schedulerDefault: ['error', (name) => `Virtual server ${name} says no lvs_sched; keepalived takes wlc`],
  unknownScheduler: ['error', (name) => `There is no scheduler "${name}"; the line is ignored`],
  methodDefault: ['error', (name) => `Virtual server ${name} says no lvs_method; keepalived takes NAT`],
  flagWithoutScheduler: [
    'error',
    (flag, scheduler) => `"${flag}" belongs to the scheduler ${scheduler}; the line is ignored`,
  ],
  portZero: ['error', (name) => `Virtual server ${name} has no port, which needs persistence: 360 s are set`],
  opsNeedsUdp: ['error', (name) => `"ops" works for UDP only; virtual server ${name} goes without`],
  mssNeedsTcp: ['error', (name) => `"mss" works for TCP only; virtual server ${name} goes without`],
  quorumTooHigh: [
    'error',
    (quorum, total) => `The quorum ${quorum} is more than all weights together, ${total}; it becomes ${total}`,
  ],
  quorumOfNothing: ['error', (name) => `All weights of ${name} together are 0, so its quorum can never be gained`],
  hysteresisTooHigh: [
    'error',
    (hysteresis, quorum) => `The hysteresis ${hysteresis} must be below the quorum ${quorum}; it becomes one less`,
  ],
  portForced: [
    'error',
    (name, port) => `Real server ${name} is reached by DR or TUN, which keep the port: it becomes ${port}`,
  ],
  tunnelNeedsPort: ['error', () => 'A gue tunnel needs its port; the line is ignored'],
  tunnelChecksum: ['error', (type, checksum) => `A ${type} tunnel has no ${checksum}; the line is ignored`],
  noUrl: ['error', (check) => `${check} has no url with a path; the check is ignored`],
  noConnectPort: [
    'error',
    (check, server) => `${check} of real server ${server} has no port to connect to; the check is ignored`,
  ],
  noMiscPath: ['error', () => 'MISC_CHECK has no misc_path; the check is ignored'],
  noTrackFile: ['error', (name) => `There is no track_file "${name}"; the check is ignored`],
  noBfdInstance: ['error', (name) => `There is no bfd_instance "${name}"; the check is ignored`],
  badRegex: ['error', (why) => `Cannot compile the regular expression: ${why}; it is ignored`],
  regexOption: ['warning', (option) => `The regex option "${option}" has no meaning here and is ignored`],
  suspendFwmark: ['error', (name) => `"ha_suspend" has no address to watch for ${name}; it is ignored`],
  rangeReversed: ['error', (text) => `The range "${text}" ends before it begins; the line is ignored`],
  rangeHostBits: ['error', (text) => `"${text}" has bits set outside its mask; the line is ignored`],
  rangeTooLarge: ['error', (text) => `"${text}" is more than 65536 addresses; the line is ignored`],
  ignoredForNow: ['warning', (what) => `${what} is read and kept but not acted upon yet`],
  schema: ['fatal', (what) => what],

  scriptsAsRoot: [
    'security',
    (path) =>
      `"${path}" runs as root and enable_script_security is not set: whoever can write it or its folders is root`,
  ],
  differentWeights: [
    'finding',
    (name, first, second) =>
      `Real server ${name} has weight ${first} here and ${second} elsewhere: is one of them forgotten?`,
  ],
  checkNeverFails: ['finding', (check, why) => `${check} can never fail: ${why}`],
  noChecks: ['finding', (name) => `Real server ${name} has no check: it stays in service when it is dead`],
  allWeightsZero: ['finding', (name) => `Every real server of ${name} has weight 0: no connection is ever accepted`],
  unreachableQuorum: ['finding', (name, why) => `The quorum of ${name} can never be gained: ${why}`],
  quorumNeedsAll: [
    'finding',
    (name) => `${name} loses its quorum with its first real server: quorum minus hysteresis is all weight there is`,
  ],
  serviceCheckedElsewhere: [
    'finding',
    (name, port) => `The check of real server ${name} goes to port ${port}: what it says is of another service`,
  ],
  timeoutBeyondLoop: [
    'finding',
    (timeout, loop) =>
      `connect_timeout ${timeout} s is longer than delay_loop ${loop} s: a hanging real server is checked less often than asked`,
  ],
  ownScheduler: ['finding', (name) => `The scheduler ${name} is ours; keepalived would ignore the line and take wlc`],
  weightIgnored: [
    'finding',
    (name, scheduler, what) =>
      `${name} is scheduled by ${scheduler}, which does not go by weight: ${what} has no effect`,
  ],
  sorryIsReal: ['finding', (name) => `Sorry server ${name} is also one of the real servers it stands in for`],
  overlap: [
    'finding',
    (name, other) => `${name} is also a member of ${other}: which of the two a client gets depends on the order`,
  ],
} as const satisfies Record<string, readonly [Severity, Sentence]>;

export type DiagnosticCode = keyof typeof CATALOGUE;

export function diagnose(code: DiagnosticCode, position: Position, ...words: readonly string[]): Diagnostic {
  const [severity, sentence]: readonly [Severity, Sentence] = CATALOGUE[code];
  return { code, severity, message: sentence(...words), position };
}

export type Verdict = 'good' | 'errors' | 'security' | 'refused';

/** Findings and warnings are advice: keepalived's own verdict knows errors only. */
export function verdictOf(diagnostics: readonly Diagnostic[]): Verdict {
  if (diagnostics.some(({ severity }) => severity === 'fatal')) return 'refused';
  if (diagnostics.some(({ severity }) => severity === 'error')) return 'errors';
  return diagnostics.some(({ severity }) => severity === 'security') ? 'security' : 'good';
}

/** As compilers print it: `file:line:column: error: sentence`, the line, a caret. */
export function formatDiagnostic(diagnostic: Diagnostic, lineOf: (position: Position) => string | undefined): string {
  const { position, severity, message } = diagnostic;
  const { file, line, column, length } = position;
  const head = `${file}:${line}:${column}: ${severity}: ${message}`;
  const text = lineOf(position);
  if (text === undefined) return head;
  // A tab before the caret keeps caret and text aligned whatever a tab is worth.
  const indent = text.slice(0, column - 1).replace(/[^\t]/g, ' ');
  return `${head}\n  ${text}\n  ${indent}${'^'.repeat(Math.max(1, length))}`;
}

/** The known word nearest to a misspelt one, where it is near enough to be meant. */
export function didYouMean(word: string, known: Iterable<string>): string {
  let best: string | undefined;
  let bestDistance = Math.min(3, Math.ceil(word.length / 3) + 1);
  for (const candidate of known) {
    const distance = editDistance(word, candidate, bestDistance);
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return best === undefined ? '' : ` (did you mean "${best}"?)`;
}

/** Levenshtein, given up as soon as every way costs `limit`. */
function editDistance(a: string, b: string, limit: number): number {
  if (Math.abs(a.length - b.length) >= limit) return limit;
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(change, row[j]! + 1, next[j - 1]! + 1));
    }
    if (Math.min(...next) >= limit) return limit;
    row = next;
  }
  return row[b.length]!;
}
