/** Two results of the same bench: what got slower, and what faster, beyond what both are uncertain by. */

/** One figure of a result. Ratios to routing are better when higher, nanoseconds, bytes and steps when lower. */
export interface Row {
  readonly load: string;
  readonly system: string;
  readonly ratio?: number;
  readonly value?: number;
  readonly unit?: string;
  readonly spread: number;
  /** The ratio by CPU time, which holds on a machine that is shared. */
  readonly cpuRatio?: number;
  readonly cpuSpread?: number;
}

export interface Result {
  readonly bench: string;
  readonly rows: readonly Row[];
  readonly noise?: { readonly noisy: boolean };
}

export type Verdict = 'slower' | 'faster' | 'same' | 'new' | 'gone';

export interface Change {
  readonly load: string;
  readonly system: string;
  readonly before: number | undefined;
  readonly after: number | undefined;
  /** Above 1: better. */
  readonly gain: number | undefined;
  readonly verdict: Verdict;
}

/** Counted figures have no spread; a difference of less than this share is still none. */
const LEAST = 0.005;

export function compare(before: Result, after: Result): Change[] {
  if (before.bench !== after.bench) {
    throw new Error(`Cannot compare results: one is of "${before.bench}", the other of "${after.bench}"`);
  }
  // Rates of a shared machine say little, so where one run was noisy both are compared by CPU time.
  const noisy = before.noise?.noisy === true || after.noise?.noisy === true;
  const [beforeRows, afterRows] = [before, after].map(({ rows }) => (noisy ? rows.map(byCpu) : rows)) as [Row[], Row[]];
  const old = new Map(beforeRows.map((row) => [keyOf(row), row]));
  const changes = afterRows.map((row) => changeOf(old.get(keyOf(row)), row));
  const fresh = new Set(afterRows.map(keyOf));
  const gone = beforeRows.filter((row) => !fresh.has(keyOf(row))).map((row) => changeOf(row, undefined));
  return [...changes, ...gone];
}

function byCpu(row: Row): Row {
  const { cpuRatio: ratio, cpuSpread: spread } = row;
  return ratio === undefined || spread === undefined ? row : { ...row, ratio, spread };
}

function changeOf(before: Row | undefined, after: Row | undefined): Change {
  const { load, system } = (after ?? before)!;
  const [from, to] = [figureOf(before), figureOf(after)];
  const base = { load, system, before: from, after: to };
  if (from === undefined || to === undefined || from === 0 || to === 0) {
    return { ...base, gain: undefined, verdict: before === undefined ? 'new' : after === undefined ? 'gone' : 'same' };
  }
  const higherIsBetter = after?.ratio !== undefined;
  const gain = higherIsBetter ? to / from : from / to;
  const uncertain = Math.max(before!.spread + after!.spread, LEAST * from);
  if (Math.abs(to - from) <= uncertain) return { ...base, gain, verdict: 'same' };
  return { ...base, gain, verdict: gain < 1 ? 'slower' : 'faster' };
}

const figureOf = (row: Row | undefined): number | undefined => row?.ratio ?? row?.value;
const keyOf = (row: Row): string => `${row.load} ${row.system}`;

/** A result, from a file that holds it alone or a whole output whose last line it is. */
export function parseResult(text: string): Result {
  const last = text.trim().split('\n').at(-1) ?? '';
  for (const candidate of [text, last]) {
    try {
      const result = JSON.parse(candidate) as Result;
      if (Array.isArray(result.rows)) return result;
    } catch {
      // The other one, then.
    }
  }
  throw new Error('Cannot read the result: neither the text nor its last line is JSON with "rows"');
}
