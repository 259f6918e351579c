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

const HEALTH = new Set(['up', 'down', 'fail', 'stopped']);

export function parseAgentLine(line: string): AgentAnswer {
  const [text = '', ...reason] = (line.split(/[\r\n\0]/, 1)[0] ?? '').split('#');
  let report: LoadReport = reason.length > 0 ? { detail: reason.join('#').trim() } : {};
  let admin: LoadReport['state'];
  let health: LoadReport['state'];
  let unknown: string | undefined;
  for (const word of text.toLowerCase().split(/[ \t,]+/)) {
    const percent = /^(?:weight:)?([0-9]{1,5})%$/.exec(word);
    const weight = /^weight:([0-9]{1,5})$/.exec(word);
    const most = /^maxconn:([0-9]{1,9})$/.exec(word);
    if (percent) report = { ...without(report, 'weight'), weightPercent: Number(percent[1]) };
    else if (weight) report = { ...without(report, 'weightPercent'), weight: Number(weight[1]) };
    else if (most) report = { ...report, maxConnections: Number(most[1]) };
    else if (word === 'ready' || word === 'drain' || word === 'maint') admin = word;
    else if (HEALTH.has(word)) health = word === 'up' ? 'up' : 'down';
    else if (word !== '') unknown ??= word;
  }
  // The stricter of the two speaks: an agent that is ready and down is down.
  const state = health === 'down' ? 'down' : (admin ?? health);
  return { report: state ? { ...report, state } : report, unknown };
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

function without<K extends keyof LoadReport>(report: LoadReport, key: K): Omit<LoadReport, K> {
  const { [key]: _, ...rest } = report;
  return rest;
}
