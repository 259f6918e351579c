/**
 * Plays recorded command lines (`ipvsadm.jsonl` of a folder of recordings) and compares what we
 * say and what we keep with the real ipvsadm on a real kernel: stdout, stderr and status byte for byte, and the table
 * after every step. Where the recording shows the kernel's hash order, virtual services are compared as a set.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Outcome, runShell } from './conformance-shell.ts';
import type { Stage, World } from './conformance-stage.ts';

export interface ConformanceOptions {
  readonly folder: string;
  /** Where a scenario is played: an empty table, and the programs working on it. */
  readonly stage: (world: World) => Stage | Promise<Stage>;
  readonly excused?: readonly Excuse[];
  readonly only?: (scenario: string, topic: string) => boolean;
}

/** A step that may differ, and why. */
export interface Excuse {
  readonly scenario: string;
  readonly step: number;
  readonly reason: string;
}

export interface ScenarioResult {
  readonly scenario: string;
  readonly topic: string;
  readonly steps: number;
  readonly equal: number;
  readonly excused: number;
  readonly differences: readonly Difference[];
}

export interface Difference {
  readonly step: number;
  readonly command: string;
  /** stdout, stderr, status, Ln, Sn or proc. */
  readonly what: string;
  readonly expected: string;
  readonly actual: string;
  readonly excuse?: string;
}

/** One line of the recording. */
interface Step {
  readonly scenario: string;
  readonly step: number;
  readonly argv?: readonly string[];
  readonly shell?: string;
  readonly stdin?: string;
  readonly stdout: string;
  readonly stderr: string;
  readonly status: number;
  readonly topic: string;
  readonly after?: State;
}

interface State {
  readonly Ln: string;
  readonly Sn: string;
  readonly proc: string;
}

export async function* playConformance(options: ConformanceOptions): AsyncGenerator<ScenarioResult> {
  for (const [scenario, steps] of scenariosIn(options.folder)) {
    if (options.only && !options.only(scenario, steps[0]!.topic)) continue;
    const interfaces = new Map([
      ['lo', 65536],
      ['or0', 1500],
    ]);
    const stage = await options.stage({ scenario, interfaces });
    const excuses = (options.excused ?? []).filter((excuse) => excuse.scenario === scenario);
    try {
      yield await playScenario(scenario, steps, stage, excuses);
    } finally {
      await stage.close?.();
    }
  }
}

/** Plays everything, a line per scenario and the differences below it, then the total. True when nothing is unexplained. */
export async function printConformance(options: ConformanceOptions, write: (line: string) => void): Promise<boolean> {
  let [scenarios, steps, equal, excused] = [0, 0, 0, 0];
  for await (const result of playConformance(options)) {
    write(formatScenarioResult(result));
    scenarios++;
    steps += result.steps;
    equal += result.equal;
    excused += result.excused;
  }
  write(`total: ${equal} of ${steps} steps in ${scenarios} scenarios, ${excused} excused`);
  return equal + excused === steps;
}

export function formatScenarioResult(result: ScenarioResult): string {
  const excused = result.excused > 0 ? `, ${result.excused} excused` : '';
  const lines = [`${result.scenario}: ${result.equal} of ${result.steps}${excused}`];
  for (const { step, command, what, expected, actual, excuse } of result.differences) {
    lines.push(`  step ${step} ${command}: ${what}${excuse ? ` (excused: ${excuse})` : ''}`);
    lines.push(`    expected ${JSON.stringify(expected)}`, `    actual   ${JSON.stringify(actual)}`);
  }
  return lines.join('\n');
}

function scenariosIn(folder: string): Map<string, Step[]> {
  const scenarios = new Map<string, Step[]>();
  for (const line of readFileSync(join(folder, 'ipvsadm.jsonl'), 'utf8').split('\n')) {
    if (line === '') continue;
    const step = JSON.parse(line) as Step;
    const steps = scenarios.get(step.scenario) ?? [];
    steps.push(step);
    scenarios.set(step.scenario, steps);
  }
  return scenarios;
}

async function playScenario(
  scenario: string,
  steps: readonly Step[],
  stage: Stage,
  excuses: readonly Excuse[],
): Promise<ScenarioResult> {
  const shellFiles = new Map<string, string>();
  const differences: Difference[] = [];
  let [equal, excused] = [0, 0];
  let expected: State | undefined;
  for (const step of steps) {
    const outcome = step.argv
      ? await stage.run('ipvsadm', step.argv, step.stdin ?? '')
      : await runShell(step.shell ?? '', stage, shellFiles, step.stdin ?? '');
    expected = step.after ?? expected;
    const excuse = excuses.find((each) => each.step === step.step)?.reason;
    const found = [...compareOutcome(step, outcome), ...(await compareState(expected, stage))];
    const command = step.argv?.join(' ') ?? step.shell ?? '';
    for (const each of found) differences.push({ step: step.step, command, ...each, ...(excuse && { excuse }) });
    if (found.length === 0) equal++;
    else if (excuse) excused++;
  }
  return { scenario, topic: steps[0]?.topic ?? '', steps: steps.length, equal, excused, differences };
}

type Found = Pick<Difference, 'what' | 'expected' | 'actual'>;

function compareOutcome(step: Step, outcome: Outcome): Found[] {
  const unordered = step.shell !== undefined || step.argv?.some((word) => /^(--nosort|-S|-Sn|--save)$/.test(word));
  const same = (text: string) => (unordered ? asSet(text) : text);
  return [
    ...compare('stdout', same(step.stdout), same(outcome.stdout)),
    ...compare('stderr', step.stderr, outcome.stderr),
    ...compare('status', String(step.status), String(outcome.status)),
  ];
}

async function compareState(expected: State | undefined, stage: Stage): Promise<Found[]> {
  if (!expected) return [];
  const show = async (option: string) => (await stage.run('ipvsadm', [option], '')).stdout;
  return [
    ...compare('Ln', expected.Ln, await show('-Ln')),
    ...compare('Sn', asSet(expected.Sn), asSet(await show('-Sn'))),
    ...compare('proc', asSet(expected.proc), asSet(String(stage.readProc('/proc/net/ip_vs')))),
  ];
}

function compare(what: string, expected: string, actual: string): Found[] {
  return expected === actual ? [] : [{ what, expected, actual }];
}

/**
 * Blocks of a virtual service and its real servers, sorted; the lines before the first block stay in front. Memory
 * decides one sysctl's default, so its number counts for nothing.
 */
function asSet(text: string): string {
  const blocks: string[] = [];
  let head = '';
  for (const line of text.replace(/(sync_qlen_max = )\d+/, '$1N').split('\n')) {
    if (/^(TCP|UDP|SCTP|FWM) |^-A /.test(line)) blocks.push(line);
    else if (blocks.length > 0 && /^( {2}->|-a )/.test(line)) blocks.push(`${blocks.pop()}\n${line}`);
    else head += `${line}\n`;
  }
  return head + blocks.sort().join('\n');
}
