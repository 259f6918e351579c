/** `ipvsd mark`: rules of the director's own that give packets a firewall mark, as iptables and nft mark them too late. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import {
  DirectorError,
  formatMarkDestination,
  KernelPlane,
  type MarkDestination,
  type MarkRule,
  MarkTable,
  markRuleKey,
  type Protocol,
  parseMarkDestination,
} from '@ipvsd/director';
import { readMarks, type Source } from '../marks/read.ts';
import { openDirector } from '../open-director.ts';

/** What packets the words of `add` and `delete` name. */
export interface DestinationOptions {
  readonly tcpService?: readonly string[];
  readonly udpService?: readonly string[];
  readonly sctpService?: readonly string[];
  readonly network?: readonly string[];
}

export interface AddOptions extends DestinationOptions {
  readonly mark: string;
}

export interface DeleteOptions extends DestinationOptions {
  readonly mark?: string;
  readonly all?: true;
}

export interface ImportOptions {
  readonly run?: true;
  readonly replace?: true;
  readonly dryRun?: true;
}

export function add(options: AddOptions): void {
  const mark = markOf(options.mark);
  const destinations = destinationsOf(options);
  if (destinations.length === 0)
    throw wrong('add rules', 'none is named, must have -t, -u, --sctp-service or --network');
  makeTable().update(() => ({ add: destinations.map((destination) => ({ ...destination, mark })) }));
}

export function remove(options: DeleteOptions): void {
  const mark = options.mark === undefined ? undefined : markOf(options.mark);
  const named = destinationsOf(options);
  if (named.length === 0 && mark === undefined && options.all !== true) {
    throw wrong('delete rules', 'none is named, must have --mark, -t, -u, --sctp-service, --network or --all');
  }
  const table = findTable();
  if (table === undefined) {
    if (options.all === true) return;
    throw wrong('delete rules', 'there is no director in this network namespace');
  }
  table.update((rules) => {
    if (options.all === true) return { remove: rules };
    const ofMark = rules.filter((rule) => rule.mark === mark);
    if (mark === undefined) return { remove: named };
    if (ofMark.length === 0) throw wrong('delete rules', `there is none for mark ${mark}`);
    if (named.length === 0) return { remove: ofMark };
    const keys = new Set(ofMark.map(markRuleKey));
    const other = named.find((destination) => !keys.has(markRuleKey(destination)));
    if (other !== undefined) throw wrong('delete rules', `there is none for ${describe(other)} with mark ${mark}`);
    return { remove: named };
  });
}

export function list(json: boolean): void {
  openDirector();
  const rules = findTable()?.list() ?? [];
  if (json) {
    process.stdout.write(`${JSON.stringify(rules.map(toJson))}\n`);
    return;
  }
  const lines = rules.map((rule) => `${`${rule.mark}`.padEnd(10)}  ${describe(rule)}`);
  process.stdout.write(lines.length === 0 ? 'No rules for marks\n' : `Mark        Packets to\n${lines.join('\n')}\n`);
}

const toJson = ({ mark, family, protocol, address, prefix, port }: MarkRule) => ({
  mark,
  family,
  protocol,
  network: `${address}/${prefix}`,
  port: port === 0 ? null : port,
});

export function importMarks(file: string | undefined, { run, replace, dryRun }: ImportOptions): void {
  const sources = run === true ? runTools() : [{ name: file ?? 'standard input', text: readText(file) }];
  const { rules, refusals } = readMarks(sources);
  if (refusals.length > 0) {
    const lines = refusals.map(({ source, number, text, reason }) => `${source}, line ${number}: ${reason}\n  ${text}`);
    const count = `${refusals.length} ${refusals.length === 1 ? 'line has' : 'lines have'} no equal here`;
    throw wrong('import rules', `${count}, and nothing has changed\n${lines.join('\n')}`);
  }
  if (rules.length === 0) {
    throw wrong('import rules', `there is none that sets a mark in ${sources.map(({ name }) => name).join(', ')}`);
  }
  if (dryRun !== true) {
    makeTable().update((before) => {
      const known = new Map(before.map((rule) => [markRuleKey(rule), rule]));
      const changed = rules.filter((rule) => known.get(markRuleKey(rule))?.mark !== rule.mark);
      if (replace !== true) return { add: changed };
      const wanted = new Map(rules.map((rule) => [markRuleKey(rule), rule.mark]));
      return { remove: before.filter((rule) => wanted.get(markRuleKey(rule)) !== rule.mark), add: changed };
    });
  }
  const lines = rules.map((rule) => `  ${rule.mark}  ${describe(rule)}`);
  const verb = dryRun === true ? 'Would import' : 'Imported';
  process.stdout.write(`${verb} ${rules.length} ${rules.length === 1 ? 'rule' : 'rules'}\n${lines.join('\n')}\n`);
}

const TOOLS = [
  ['iptables-save', '-t', 'mangle'],
  ['ip6tables-save', '-t', 'mangle'],
  ['nft', 'list', 'ruleset'],
] as const;

/** Those that are installed; one that fails is not passed over. */
function runTools(): Source[] {
  const sources: Source[] = [];
  for (const [tool, ...args] of TOOLS) {
    const { error, status, stdout, stderr } = spawnSync(tool, args, { encoding: 'utf8', maxBuffer: 1 << 28 });
    if (error !== undefined && 'code' in error && error.code === 'ENOENT') continue;
    if (error !== undefined) throw error;
    if (status !== 0) throw wrong('import rules', `${tool} ended with status ${status}: ${stderr.trim()}`);
    sources.push({ name: tool, text: stdout });
  }
  if (sources.length === 0) {
    const names = TOOLS.map(([tool]) => tool).join(', ');
    throw wrong('import rules', `none of ${names} is installed, must be given as a file or on standard input`);
  }
  return sources;
}

function readText(file: string | undefined): string {
  if ((file === undefined || file === '-') && process.stdin.isTTY) {
    throw wrong('import rules', 'no file is named; give one, pipe rules in, or have the tools run with --run');
  }
  try {
    return readFileSync(file === undefined || file === '-' ? 0 : file, 'utf8');
  } catch (error) {
    throw wrong('import rules', `${file ?? 'standard input'} cannot be read: ${(error as Error).message}`);
  }
}

function makeTable(): MarkTable {
  const director = openDirector();
  return new MarkTable(KernelPlane.open() ?? director.make().plane);
}

function findTable(): MarkTable | undefined {
  openDirector();
  const plane = KernelPlane.open();
  return plane && new MarkTable(plane);
}

function destinationsOf(options: DestinationOptions): MarkDestination[] {
  const named: readonly [Protocol | null, readonly string[] | undefined, string][] = [
    ['tcp', options.tcpService, '-t'],
    ['udp', options.udpService, '-u'],
    ['sctp', options.sctpService, '--sctp-service'],
    [null, options.network, '--network'],
  ];
  return named.flatMap(([protocol, texts = [], option]) =>
    texts.map((text) => {
      const destination = parseMarkDestination(text, protocol);
      if (destination !== undefined) return destination;
      const form = protocol === null ? 'network' : 'network[:port]';
      throw wrong('read rules', `${option} is "${text}", must be ${form} such as ${EXAMPLES[form]}`);
    }),
  );
}

const EXAMPLES = {
  network: '192.0.2.0/24 or 2001:db8::/64',
  'network[:port]': '192.0.2.10:80, 192.0.2.0/24 or [2001:db8::/64]:80',
} as const;

function markOf(text: string): number {
  const value = /^(0[xX][0-9a-fA-F]+|\d+)$/.test(text) ? Number(text) : Number.NaN;
  if (value >= 0 && value <= 0xffff_ffff) return value;
  throw wrong('read rules', `--mark is "${text}", must be 0..4294967295`);
}

const describe = (destination: MarkDestination): string =>
  `${destination.protocol ?? 'any'} ${formatMarkDestination(destination)}`;

const wrong = (action: string, reason: string): DirectorError =>
  new DirectorError('EINVAL', `Cannot ${action} for marks: ${reason}`);
