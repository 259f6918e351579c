/**
 * HAProxy's agent-check protocol: one line of words, in any order and case. The last word of a kind wins; a word that
 * nobody knows is reported and the rest still applies. What is not mentioned does not change.
 */
import type { LoadReport } from './report.ts';

export interface AgentAnswer {
  readonly report: LoadReport;
  /** The first word that means nothing. */
  readonly unknown: string | undefined;
}

/** What a line says, kind by kind; what it does not mention is missing. */
export interface AgentWords {
  /** Until it says otherwise; `down` is another kind, so an agent that is ready and down is down. */
  readonly admin?: 'ready' | 'drain' | 'maint';
  readonly health?: 'up' | 'down';
  readonly reason?: string;
  /** Percent of the configured weight, or one in its place. */
  readonly weight?: { readonly percent: number } | { readonly absolute: number };
  readonly maxConnections?: number;
}

const HEALTH = new Set(['up', 'down', 'fail', 'stopped']);

export function parseAgentLine(line: string): AgentAnswer {
  const { words, unknown } = parseAgentWords(line);
  return { report: reportOf(words), unknown };
}

export function parseAgentWords(line: string): { readonly words: AgentWords; readonly unknown: string | undefined } {
  const [text = '', ...reason] = (line.split(/[\r\n\0]/, 1)[0] ?? '').split('#');
  let words: AgentWords = reason.length > 0 ? { reason: reason.join('#').trim() } : {};
  let unknown: string | undefined;
  for (const word of text.toLowerCase().split(/[ \t,]+/)) {
    const percent = /^(?:weight:)?([0-9]{1,5})%$/.exec(word);
    const weight = /^weight:([0-9]{1,5})$/.exec(word);
    const most = /^maxconn:([0-9]{1,9})$/.exec(word);
    if (percent) words = { ...words, weight: { percent: Number(percent[1]) } };
    else if (weight) words = { ...words, weight: { absolute: Number(weight[1]) } };
    else if (most) words = { ...words, maxConnections: Number(most[1]) };
    else if (word === 'ready' || word === 'drain' || word === 'maint') words = { ...words, admin: word };
    else if (HEALTH.has(word)) words = { ...words, health: word === 'up' ? 'up' : 'down' };
    else if (word !== '') unknown ??= word;
  }
  return { words, unknown };
}

/** What is not mentioned stays; a reason is that of the health it came with. */
export function mergeAgentWords(before: AgentWords, now: AgentWords): AgentWords {
  const { reason, ...rest } = before;
  return now.health === undefined && reason !== undefined ? { reason, ...rest, ...now } : { ...rest, ...now };
}

export function reportOf({ admin, health, reason, weight, maxConnections }: AgentWords): LoadReport {
  // The stricter of the two speaks.
  const state = health === 'down' ? 'down' : (admin ?? health);
  return {
    ...(reason !== undefined && { detail: reason }),
    ...(weight !== undefined &&
      ('percent' in weight ? { weightPercent: weight.percent } : { weight: weight.absolute })),
    ...(maxConnections !== undefined && { maxConnections }),
    ...(state !== undefined && { state }),
  };
}

export function formatAgentLine({ load, weightPercent, weight, maxConnections, state, detail }: LoadReport): string {
  const words: string[] = [];
  if (state === 'drain' || state === 'maint' || state === 'ready') words.push(state);
  if (state === 'up' || state === 'down') words.push(state);
  if (weight !== undefined) words.push(`weight:${weight}`);
  else if (weightPercent !== undefined) words.push(`${Math.round(weightPercent)}%`);
  else if (load !== undefined) words.push(`${idlePercent(load)}%`);
  if (maxConnections !== undefined) words.push(`maxconn:${maxConnections}`);
  if (state === 'down' && detail) words.push(`#${detail}`);
  return `${words.join(' ')}\n`;
}

/** Never 0, which would drain a server for being busy. */
export function idlePercent(load: number): number {
  return Math.max(1, Math.round(100 * (1 - Math.min(1, load))));
}
