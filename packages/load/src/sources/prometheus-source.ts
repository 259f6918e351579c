/** Reads node_exporter's text: CPU time that was not idle since the last look, and the run queue where it says one. */
import type { LoadReport, Source } from '../report.ts';
import { getText } from './http-source.ts';

export interface PrometheusSourceOptions {
  readonly port: number;
  readonly path?: string;
  readonly timeoutMs: number;
  /** Another metric to take as load, and what of it is fully used. */
  readonly metric?: string;
  readonly full?: number;
}

export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

interface CpuSeconds {
  readonly idle: number;
  readonly all: number;
}

export function prometheusSource(options: PrometheusSourceOptions): Source {
  const { port, path = '/metrics', timeoutMs, metric, full = 1 } = options;
  const before = new Map<string, CpuSeconds>();
  return {
    async ask(address) {
      const samples = parseSamples(await getText(address, port, path, timeoutMs));
      if (metric !== undefined) return { load: sumOf(samples, metric) / full };
      const now = cpuSeconds(samples);
      const last = before.get(address);
      before.set(address, now);
      return readNode(samples, now, last);
    },
  };
}

/** Names, labels and values; comments and time stamps are passed over. */
export function parseSamples(text: string): Sample[] {
  const samples: Sample[] = [];
  for (const line of text.split('\n')) {
    const [, name, labels = '', value] = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)/.exec(line) ?? [];
    if (name === undefined || value === undefined) continue;
    const pairs = [...labels.matchAll(/([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g)].map(([, key = '', text = '']) => [
      key,
      text,
    ]);
    samples.push({ name, labels: Object.fromEntries(pairs) as Record<string, string>, value: readValue(value) });
  }
  return samples;
}

function readValue(text: string): number {
  return text === '+Inf' ? Number.POSITIVE_INFINITY : text === '-Inf' ? Number.NEGATIVE_INFINITY : Number(text);
}

function sumOf(samples: readonly Sample[], metric: string): number {
  const found = samples.filter(({ name }) => name === metric);
  if (found.length === 0) throw new Error(`there is no metric "${metric}"`);
  return found.reduce((sum, { value }) => sum + value, 0);
}

export function cpuSeconds(samples: readonly Sample[]): CpuSeconds {
  const seconds = samples.filter(({ name }) => name === 'node_cpu_seconds_total');
  const sum = (modes: readonly Sample[]): number => modes.reduce((all, { value }) => all + value, 0);
  const waiting = (mode: string | undefined): boolean => mode === 'idle' || mode === 'iowait';
  return { idle: sum(seconds.filter(({ labels }) => waiting(labels['mode']))), all: sum(seconds) };
}

/** The first look has no rate yet, and falls back on the load average. */
export function readNode(samples: readonly Sample[], now: CpuSeconds, before: CpuSeconds | undefined): LoadReport {
  const count = new Set(
    samples.filter(({ name }) => name === 'node_cpu_seconds_total').map(({ labels }) => labels['cpu']),
  ).size;
  const passed = before === undefined ? 0 : now.all - before.all;
  const running = samples.find(({ name }) => name === 'node_procs_running')?.value;
  if (before !== undefined && passed > 0) {
    const cpu = 1 - (now.idle - before.idle) / passed;
    const waiting = running === undefined || count === 0 ? 0 : Math.max(0, running - 1 - count) / count;
    return { load: Math.max(0, cpu) + waiting };
  }
  const average = sumOf(samples, 'node_load1');
  return { load: average / Math.max(1, count) };
}
