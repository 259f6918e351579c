/**
 * The bench's command: `npm run bench -- [packet | scale | compiler | compare OLD.json [NEW.json]] [options]`.
 *
 * With --json the result is the last line of standard output, and all else goes to standard error. Each result is also kept
 * in bench/results/, where `compare` finds the newest.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { compare, parseResult, type Result } from './report/compare.ts';
import { figure, formatTable } from './report/table.ts';
import { undoAll } from './stage/cleanup.ts';
import type { TrafficResult } from './traffic/index.ts';

const USAGE = `Usage: npm run bench -- [COMMAND] [OPTIONS]

  (none)               real traffic through all systems, one table of ratios, a chart
  packet               nanoseconds per packet, instructions, verifier steps
  scale                memory and time as connections and services grow
  compiler             our programs beside the same logic by clang
  chart RESULT         the picture of a result that is there already
  compare OLD [NEW]    what got slower; NEW is the newest result unless given

  --quick              less than 3 minutes
  --json               the result as one line of JSON at the end
  --systems A,B        only these (traffic)      --loads A,B   only these (traffic)
  --seed N             order and intervals       --chart FILE  the picture (traffic)
`;

const RESULTS = fileURLToPath(new URL('../results/', import.meta.url));

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      quick: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      systems: { type: 'string' },
      loads: { type: 'string' },
      seed: { type: 'string' },
      chart: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  });
  const [command = 'traffic', ...rest] = positionals;
  const say = (text: string): void => {
    (values.json ? process.stderr : process.stdout).write(text);
  };
  if (values.help) {
    say(USAGE);
    return 0;
  }
  if (command === 'chart') return drawChart(rest, values.chart);
  if (command === 'compare') return compareFiles(rest, values.json);
  const { quick } = values;
  const seed = Number(values.seed ?? Date.now() % 1_000_000);
  const list = (text: string | undefined): string[] | undefined => text?.split(',');
  const whole = values.systems === undefined && values.loads === undefined;
  const run: Readonly<Record<string, () => Promise<Result>>> = {
    traffic: async () => {
      const { traffic, CHART } = await import('./traffic/index.ts');
      const chart = values.chart ?? (whole && !quick ? CHART : undefined);
      return traffic({ quick, seed, systems: list(values.systems), loads: list(values.loads), chart, say });
    },
    packet: async () => (await import('./packet/index.ts')).packet({ quick, seed, say }),
    scale: async () => (await import('./scale/index.ts')).scale({ quick, seed, say }),
    compiler: async () => (await import('./compiler/index.ts')).compiler({ quick, seed, say }),
  };
  const bench = run[command];
  if (bench === undefined) throw new Error(`Cannot run "${command}": there is no such bench\n${USAGE}`);
  const result = await bench();
  const line = JSON.stringify(result);
  mkdirSync(RESULTS, { recursive: true });
  writeFileSync(`${RESULTS}${command}.json`, `${line}\n`);
  if (values.json) process.stdout.write(`${line}\n`);
  return 0;
}

async function drawChart([file]: readonly string[], picture: string | undefined): Promise<number> {
  if (file === undefined) throw new Error(`Cannot draw: no result is given\n${USAGE}`);
  const { CHART, chartOf } = await import('./traffic/index.ts');
  const result = parseResult(readFileSync(file, 'utf8'));
  if (result.bench !== 'traffic')
    throw new Error(`Cannot draw: the result is of "${result.bench}", must be of traffic`);
  writeFileSync(picture ?? CHART, chartOf(result as TrafficResult));
  return 0;
}

/** Ends with 1 where something got slower. */
function compareFiles([old, fresh]: readonly string[], json: boolean): number {
  if (old === undefined) throw new Error(`Cannot compare: no old result is given\n${USAGE}`);
  const before = parseResult(readFileSync(old, 'utf8'));
  const after = parseResult(readFileSync(fresh ?? `${RESULTS}${before.bench}.json`, 'utf8'));
  const changes = compare(before, after);
  const shown = changes.filter(({ verdict }) => verdict !== 'same');
  const rows = shown.map(({ load, system, before: from, after: to, gain, verdict }) => [
    `${load} ${system}`,
    figure(from, 3),
    figure(to, 3),
    figure(gain, 3),
    verdict,
  ]);
  process.stdout.write(formatTable(['what', 'before', 'after', 'gain', 'verdict'], rows));
  process.stdout.write(`${changes.length - shown.length} figures are the same within their spread\n`);
  if (json) process.stdout.write(`${JSON.stringify({ changes })}\n`);
  return changes.some(({ verdict }) => verdict === 'slower') ? 1 : 0;
}

try {
  process.exitCode = await main();
} catch (error) {
  process.stderr.write(`bench: ${(error as Error).message}\n`);
  process.exitCode = 1;
}
undoAll();
process.exit();
