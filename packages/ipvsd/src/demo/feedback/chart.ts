/** Weights and response times over time, a column for each second. */
import type { Second } from './feedback.ts';
import type { DemoServer } from './scenario.ts';

const BARS = ' ▁▂▃▄▅▆▇█';
const ROWS = 2;
const LABEL = 15;

export function chart(servers: readonly DemoServer[], seconds: readonly Second[]): string {
  const shares = servers.map((_, place) => seconds.map((second) => shareOf(second, place)));
  const highest = Math.max(...shares.flat());
  const without = seconds.filter(({ feedback }) => !feedback).length;
  const lines = ["Share of the service's weight, a column for each second"];
  for (const [place, { address }] of servers.entries()) {
    const percent = (share = 0): string => `${Math.round(share * 100)}%`;
    const own = shares[place]!;
    lines.push(...curve(address, own, highest, `${percent(own[0])} -> ${percent(own.at(-1))}`));
  }
  const medians = seconds.map(({ medianMs }) => medianMs);
  const ends = `${medians[0]?.toFixed(0)} ms -> ${medians.at(-1)?.toFixed(0)} ms`;
  lines.push(...curve('median time', medians, Math.max(...medians), ends));
  lines.push(`${' '.repeat(LABEL)}${'|wlc'.padEnd(without)}|wlc with feedback`);
  return `${lines.join('\n')}\n`;
}

function curve(label: string, values: readonly number[], highest: number, ends: string): string[] {
  return Array.from({ length: ROWS }, (_, from) => {
    const row = ROWS - 1 - from;
    const bars = values.map((value) => bar((value / highest) * ROWS * 8 - row * 8)).join('');
    return row === 0 ? `${label.padEnd(LABEL)}${bars}  ${ends}` : ' '.repeat(LABEL) + bars;
  });
}

function shareOf({ weights }: Second, place: number): number {
  return (weights[place] ?? 0) / weights.reduce((sum, weight) => sum + weight, 0);
}

/** What is not nothing is seen. */
const bar = (eighths: number): string => BARS[eighths <= 0 ? 0 : Math.max(1, Math.min(8, Math.round(eighths)))]!;
