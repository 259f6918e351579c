/**
 * Comparing what the kernel listed with what we list, as exactly as the recordings' README allows: expiry within a second
 * (more where the end hosts had to send again), listings in hash order as sets, rates with a tolerance.
 *
 * An entry with 0 seconds left is one whose time is over but which the kernel's timer wheel has not reached (its slots for
 * long timeouts are up to an eighth of them wide). It may be missing on our side, and then is taken off the counts of its real server.
 */
import type { ConnectionEntry } from '@ipvsd/director';

export interface RecordedConnection {
  readonly proto: string;
  readonly client: string;
  readonly virtual: string;
  readonly dest: string;
  readonly state: string;
  readonly expires: number;
  /** Engine and its data. */
  readonly pe?: readonly string[];
}

export interface Found {
  readonly what: string;
  readonly expected: string;
  readonly actual: string;
}

const SECOND_TOLERANCE = 1;
/**
 * A persistence template that fires while it controls connections is armed again for 60 s from then, and then is up to 5.12 s
 * late each time (the wheel's slots for 41 to 327 s at HZ=100): so much longer may it last than ours.
 */
const TEMPLATE_LATENESS = 12;
/** After retransmissions of the end hosts, whose timers are late on the same wheel. */
const RETRY_TOLERANCE = 6;

export function recordedForm(entry: ConnectionEntry): RecordedConnection {
  const end = ({ address, port }: ConnectionEntry['client']): string =>
    address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
  const engine = entry.persistenceEngine === null ? [] : [entry.persistenceEngine, entry.persistenceData ?? ''];
  return {
    proto: entry.protocol.toUpperCase(),
    client: end(entry.client),
    virtual: end(entry.virtual),
    dest: end(entry.real),
    state: entry.state,
    expires: entry.expiresSeconds,
    ...(engine.length > 0 && { pe: engine }),
  };
}

/** All but the time left. */
const identity = (c: RecordedConnection): string =>
  [c.proto, c.client, c.virtual, c.dest, c.state, ...(c.pe ?? [])].join(' ');
const describe = (c: RecordedConnection): string => `${identity(c)} ${c.expires}`;

export interface ConnectionComparison {
  readonly found: readonly Found[];
  /** Recorded entries of 0 seconds that we no longer have, and ours that the recording no longer has. */
  readonly overdue: readonly RecordedConnection[];
  readonly early: readonly RecordedConnection[];
}

export function compareConnections(
  recorded: readonly RecordedConnection[],
  ours: readonly RecordedConnection[],
  retried: boolean,
): ConnectionComparison {
  const rest = new Map<string, RecordedConnection[]>();
  for (const entry of ours) rest.set(identity(entry), [...(rest.get(identity(entry)) ?? []), entry]);
  const missing: RecordedConnection[] = [];
  const overdue: RecordedConnection[] = [];
  const found: Found[] = [];
  for (const entry of recorded) {
    const candidates = rest.get(identity(entry)) ?? [];
    const near = [...candidates].sort(
      (a, b) => Math.abs(a.expires - entry.expires) - Math.abs(b.expires - entry.expires),
    )[0];
    if (near === undefined) {
      const late = isTemplate(entry) ? TEMPLATE_LATENESS : 0;
      (entry.expires <= late ? overdue : missing).push(entry);
      continue;
    }
    candidates.splice(candidates.indexOf(near), 1);
    const tolerance = retried && entry.proto === 'TCP' ? RETRY_TOLERANCE : SECOND_TOLERANCE;
    if (!isNear(entry, near, tolerance)) {
      found.push({ what: `expiry of ${identity(entry)}`, expected: `${entry.expires}`, actual: `${near.expires}` });
    }
  }
  const left = [...rest.values()].flat();
  // What is about to end may have ended on the other side.
  const early = left.filter(({ expires }) => expires === 0);
  const extra = left.filter(({ expires }) => expires > 0);
  if (missing.length + extra.length > 0) {
    found.unshift({
      what: 'connections',
      expected: missing.map(describe).join('; ') || 'no more',
      actual: extra.map(describe).join('; ') || 'no more',
    });
  }
  return { found, overdue, early };
}

function isNear(recorded: RecordedConnection, ours: RecordedConnection, tolerance: number): boolean {
  const later = recorded.expires - ours.expires;
  if (Math.abs(later) <= tolerance) return true;
  if (!isTemplate(recorded)) return false;
  // Late, or so late that ours has already been armed for the next 60 s.
  return (
    (later > 0 && later <= TEMPLATE_LATENESS) ||
    (ours.expires <= 60 && later + 60 >= 0 && later + 60 <= TEMPLATE_LATENESS)
  );
}

const ACTIVE = new Set(['ESTABLISHED', 'SYN_SENT', 'SYN_RECV', 'SYNACK']);
/** SCTP counts only ESTABLISHED as active, which has the same name. */
const isActive = (c: RecordedConnection): boolean => ACTIVE.has(c.state);
const isTemplate = (c: RecordedConnection): boolean => ['ASSURED', 'NONE'].includes(c.state) && c.client.endsWith(':0');

/**
 * `Ln`: the text as it is. Where entries are overdue, ActiveConn and InActConn of their real servers count one less each; a
 * real server's row is told by its address alone, as connections do not say through which virtual service they came.
 */
export function compareTable(
  what: string,
  expected: string,
  actual: string,
  { overdue, early }: Pick<ConnectionComparison, 'overdue' | 'early'>,
): Found[] {
  if (expected === actual) return [];
  if (overdue.length + early.length > 0 && sameButFor(expected, actual, overdue, early)) return [];
  return [{ what, ...firstDifference(expected, actual) }];
}

function sameButFor(
  expected: string,
  actual: string,
  overdue: readonly RecordedConnection[],
  early: readonly RecordedConnection[],
): boolean {
  const a = expected.split('\n');
  const b = actual.split('\n');
  if (a.length !== b.length) return false;
  const allowed = (list: readonly RecordedConnection[], address: string, active: boolean): number =>
    list.filter((c) => !isTemplate(c) && c.dest === address && isActive(c) === active).length;
  return a.every((line, i) => {
    if (line === b[i]) return true;
    const [x, y] = [rowOf(line), rowOf(b[i]!)];
    if (x === undefined || y === undefined || x.head !== y.head) return false;
    return [true, false].every((active) => {
      const difference = active ? x.active - y.active : x.inactive - y.inactive;
      return difference <= allowed(overdue, x.address, active) && -difference <= allowed(early, x.address, active);
    });
  });
}

function rowOf(line: string): { head: string; address: string; active: number; inactive: number } | undefined {
  const match = /^( {2}-> (\S+) .*?)(\d+) +(\d+) *$/.exec(line);
  if (match === null) return undefined;
  return { head: match[1]!.trimEnd(), address: match[2]!, active: Number(match[3]), inactive: Number(match[4]) };
}

function firstDifference(expected: string, actual: string): Pick<Found, 'expected' | 'actual'> {
  const a = expected.split('\n');
  const b = actual.split('\n');
  const at = a.findIndex((line, i) => line !== b[i]);
  if (at < 0) return { expected: '(end)', actual: b.slice(a.length).join('\n') };
  return { expected: a[at]!, actual: b[at] ?? '(end)' };
}

/** Lines of `-Lnc` (and -Lc): a set, times within a second. Its head comes first. */
export function compareConnectionLines(
  what: string,
  expected: string,
  actual: string,
  retried: boolean,
  time: RegExp = /^(\S+ +)(\d+):(\d+)/,
): Found[] {
  if (expected === actual) return [];
  const parse = (text: string): RecordedConnection[] =>
    text
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => {
        const match = time.exec(line);
        const seconds =
          match === null ? 1 : match[3] === undefined ? Number(match[2]) : Number(match[2]) * 60 + Number(match[3]);
        const rest = match === null ? line : line.slice(match[0].length);
        const head = match?.[1] ?? '';
        // One space or many: only where columns begin depends on the time's width.
        return {
          proto: line.slice(0, 3).trim(),
          client: `${head}${rest}`,
          virtual: '',
          dest: '',
          state: '',
          expires: seconds,
        };
      });
  const { found } = compareConnections(parse(expected), parse(actual), retried);
  return found.map((each) => ({ ...each, what: `${what}, ${each.what}` }));
}

/** `/proc/net/ip_vs_conn` and `ip_vs_conn_sync`: the same, the time stands behind the state or the origin. */
export function compareProcConnections(what: string, expected: string, actual: string, retried: boolean): Found[] {
  const normal = (text: string): string =>
    text
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => {
        const words = line.split(/ +/);
        const sync = words[8] === 'LOCAL' || words[8] === 'SYNC';
        const at = sync ? 9 : 8;
        const seconds = /^\d+$/.test(words[at] ?? '') ? Number(words[at]) : undefined;
        if (seconds === undefined) return line;
        // Column widths are checked by the part before the number.
        const match = new RegExp(`^(.{0,400}?\\s)(${seconds})(\\s.*)?$`).exec(line.replace(/\s+$/, ''));
        const width = line.length;
        return `${words[0]} ${Math.floor(seconds / 60)}:${seconds % 60} ${words.filter((_, i) => i !== at).join(' ')} ${match?.[3] === undefined ? width : ''}`;
      })
      .join('\n');
  return compareConnectionLines(what, normal(expected), normal(actual), retried);
}

/** Where chance chose the real server: the same connections, but for whom they went to. */
export const withoutServer = (connection: RecordedConnection): RecordedConnection => ({ ...connection, dest: '*' });

/** Where chance chose the real server: the sum over each service's real servers of each number in the last columns. */
export function sumsByService(listing: string, columns: number): string {
  const sums: [string, number[]][] = [];
  for (const line of listing.split('\n')) {
    if (/^(TCP|UDP|SCTP|FWM) /.test(line)) sums.push([line, []]);
    const numbers = line.trim().split(/\s+/).slice(-columns).map(Number);
    const sum = sums.at(-1)?.[1];
    if (line.startsWith('  ->') && sum !== undefined)
      for (const [i, n] of numbers.entries()) sum[i] = (sum[i] ?? 0) + n;
  }
  return sums.map(([line, numbers]) => `${line}: ${numbers.join(' ')}`).join('\n');
}

/** One reading of rates against ours at the readings around it, as the phase of the recording machine's ticks is not known. */
export function compareReading(
  what: string,
  expected: readonly string[],
  around: readonly (readonly string[])[],
): Found[] {
  const found = around.map((rows) => compareRates(what, expected, rows));
  if (found.some((each) => each.length === 0)) return [];
  const numbers = (rows: readonly string[], row: number): number[] =>
    (rows[row] ?? '').trim().split(/\s+/).slice(-5).map(Number);
  const between = expected.every((line, row) =>
    numbers([line], 0).every((n, i) => {
      const ours = around.map((rows) => numbers(rows, row)[i] ?? 0);
      const [low, high] = [Math.min(...ours), Math.max(...ours)];
      const margin = i < 3 ? 2 : 100;
      return n >= low * 0.65 - margin && n <= high * 1.35 + margin;
    }),
  );
  return between ? [] : (found[Math.floor(found.length / 2)] ?? []);
}

/** Rates: of the same rows, each number within 35 % or 2 (bytes: 100) of the other. */
export function compareRates(what: string, expected: readonly string[], actual: readonly string[]): Found[] {
  const rows = (lines: readonly string[]): string[] =>
    lines.map((line) => line.trimEnd()).filter((line) => line !== '');
  const [a, b] = [rows(expected), rows(actual)];
  const at = a.findIndex((line, i) => !nearRow(line, b[i] ?? ''));
  if (at < 0 && a.length === b.length) return [];
  const line = at < 0 ? a.length : at;
  return [{ what: `${what}, row ${line}`, expected: a[line] ?? '(end)', actual: b[line] ?? '(end)' }];
}

function nearRow(expected: string, actual: string): boolean {
  if (expected === actual) return true;
  const split = (line: string): [string, number[]] => {
    const match = /^(.*?)((?:\s+\d+){5})$/.exec(line);
    return match === null ? [line, []] : [match[1]!, match[2]!.trim().split(/\s+/).map(Number)];
  };
  const [headA, a] = split(expected);
  const [headB, b] = split(actual);
  if (headA !== headB || a.length === 0 || a.length !== b.length) return false;
  return a.every((number, i) => Math.abs(number - b[i]!) <= Math.max(0.35 * Math.max(number, b[i]!), i < 3 ? 2 : 100));
}
