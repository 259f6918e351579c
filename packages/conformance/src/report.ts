/** What came of a scenario: it agrees, or it differs and says where. */

export interface Difference {
  /** Number of the event in the recording, from 0. */
  readonly event: number;
  readonly what: string;
  readonly expected: string;
  readonly actual: string;
}

export interface Result {
  readonly topic: string;
  readonly scenario: string;
  readonly differences: readonly Difference[];
  /** Events that it is made of, where an excuse may be for one of them. */
  readonly ops?: readonly string[];
  /** Why it may differ, from excused.json. */
  readonly excuse?: string;
}

/** What may differ, with a sentence each: scenarios as `topic/scenario`, or all that have an event as `op NAME`. */
export type Excuses = Readonly<Record<string, string>>;

export const nameOf = ({ topic, scenario }: Pick<Result, 'topic' | 'scenario'>): string => `${topic}/${scenario}`;

export function formatResult(result: Result): string {
  const [first] = result.differences;
  if (first === undefined) return `${nameOf(result)}: agree`;
  if (result.excuse !== undefined) return `${nameOf(result)}: excused: ${result.excuse}`;
  const more = result.differences.length > 1 ? ` (and ${result.differences.length - 1} more)` : '';
  const { event, what, expected, actual } = first;
  return `${nameOf(result)}: differs at event ${event}, ${what}: expected ${short(expected)}, got ${short(actual)}${more}`;
}

const short = (text: string): string =>
  text.length > 400 ? `${JSON.stringify(text.slice(0, 400))}...` : JSON.stringify(text);

export interface Score {
  total: number;
  agree: number;
}

export interface Summary extends Score {
  excused: number;
  readonly topics: Record<string, Score>;
}

export function emptySummary(): Summary {
  return { total: 0, agree: 0, excused: 0, topics: {} };
}

export function count(summary: Summary, result: Result): void {
  summary.topics[result.topic] ??= { total: 0, agree: 0 };
  const topic = summary.topics[result.topic]!;
  summary.total++;
  topic.total++;
  if (result.differences.length === 0) {
    summary.agree++;
    topic.agree++;
  } else if (result.excuse !== undefined) {
    summary.excused++;
  }
}
