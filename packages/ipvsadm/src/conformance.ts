/**
 * Plays recorded command lines (`ipvsadm.jsonl` of a folder laid out like /work/shared/golden/open) and compares what we
 * say and what we keep with the real ipvsadm on a real kernel: stdout, stderr and status byte for byte, and the table
 * after every step. Where the recording shows the kernel's hash order, virtual services are compared as a set.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Director, DirectorError } from '@ipvsd/director';
import { type Outcome, type Programs, runShell } from './conformance-shell.ts';
import { CapturedOutput, textInput } from './io.ts';
import {
  formatProcApplications,
  formatProcConnections,
  formatProcCpuStats,
  formatProcServices,
  formatProcStats,
  formatProcSyncedConnections,
} from './proc.ts';
import { runIpvsadm } from './run.ts';
import { runIpvsadmRestore, runIpvsadmSave } from './scripts.ts';
import { fileNames, type Names } from './services-names.ts';

export interface ConformanceOptions {
  readonly folder: string;
  /** A director with an empty table for every scenario. */
  readonly director: (world: World) => Director | Promise<Director>;
  /** /etc/services of the recording: Debian's netbase. */
  readonly services?: string;
  readonly excused?: readonly Excuse[];
  readonly only?: (scenario: string) => boolean;
}

/** The namespace the recordings were made in. */
export interface World {
  readonly scenario: string;
  /** Names and MTUs. */
  readonly interfaces: ReadonlyMap<string, number>;
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

const hosts = `
127.0.0.1 localhost
::1 localhost
192.0.2.10 vip10.example.net vip10
10.2.0.11 rs1.example.net rs1
2001:db8::10 vip6.example.net vip6
`;

export async function* playConformance(options: ConformanceOptions): AsyncGenerator<ScenarioResult> {
  const names = fileNames(hosts, options.services ?? readFileSync('/etc/services', 'utf8'));
  for (const [scenario, steps] of scenariosIn(options.folder)) {
    if (options.only && !options.only(scenario)) continue;
    const interfaces = new Map([
      ['lo', 65536],
      ['or0', 1500],
    ]);
    const director = await options.director({ scenario, interfaces });
    const excuses = (options.excused ?? []).filter((excuse) => excuse.scenario === scenario);
    yield await playScenario(scenario, steps, director, names, excuses);
  }
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
  director: Director,
  names: Names,
  excuses: readonly Excuse[],
): Promise<ScenarioResult> {
  const programs = programsOn(director, names);
  const shellFiles = new Map<string, string>();
  const differences: Difference[] = [];
  let [equal, excused] = [0, 0];
  let expected: State | undefined;
  for (const step of steps) {
    const outcome = step.argv
      ? await programs.run('ipvsadm', step.argv, step.stdin ?? '')
      : await runShell(step.shell ?? '', programs, shellFiles, step.stdin ?? '');
    expected = step.after ?? expected;
    const excuse = excuses.find((each) => each.step === step.step)?.reason;
    const found = [...compareOutcome(step, outcome), ...(await compareState(expected, director, programs))];
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

async function compareState(expected: State | undefined, director: Director, programs: Programs): Promise<Found[]> {
  if (!expected) return [];
  const show = async (option: string) => (await programs.run('ipvsadm', [option], '')).stdout;
  return [
    ...compare('Ln', expected.Ln, await show('-Ln')),
    ...compare('Sn', asSet(expected.Sn), asSet(await show('-Sn'))),
    ...compare('proc', asSet(expected.proc), asSet(formatProcServices(director))),
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

function programsOn(director: Director, names: Names): Programs {
  return {
    run: async (name, argv, stdin) => {
      const [stdout, stderr] = [new CapturedOutput(), new CapturedOutput()];
      const io = { director: () => director, stdin: textInput(stdin), stdout, stderr, names, programName: name };
      const program = { ipvsadm: runIpvsadm, 'ipvsadm-save': runIpvsadmSave, 'ipvsadm-restore': runIpvsadmRestore }[
        name
      ];
      return { status: await program(argv, io), stdout: stdout.text, stderr: stderr.text };
    },
    readProc: (path) => readProc(director, path),
    writeSysctl: (name, value) => writeSysctl(director, name, value),
  };
}

const sysctlFolder = '/proc/sys/net/ipv4/vs/';

function readProc(director: Director, path: string): ReadonlyMap<string, string> | string | undefined {
  if (`${path}/` === sysctlFolder) return director.sysctls();
  if (path.startsWith(sysctlFolder)) {
    const value = director.sysctls().get(path.slice(sysctlFolder.length));
    return value === undefined ? undefined : `${value}\n`;
  }
  return netFiles[path]?.(director);
}

const netFiles: Readonly<Record<string, (director: Director) => string>> = {
  '/proc/net/ip_vs': formatProcServices,
  '/proc/net/ip_vs_app': formatProcApplications,
  '/proc/net/ip_vs_conn': (director) => [...formatProcConnections(director.connections())].join(''),
  '/proc/net/ip_vs_conn_sync': (director) => [...formatProcSyncedConnections(director.connections())].join(''),
  '/proc/net/ip_vs_stats': formatProcStats,
  '/proc/net/ip_vs_stats_percpu': formatProcCpuStats,
};

function writeSysctl(director: Director, name: string, value: string): DirectorError | undefined {
  try {
    director.execute({ kind: 'setSysctl', name, value });
    return undefined;
  } catch (error) {
    if (error instanceof DirectorError) return error;
    throw error;
  }
}
