/**
 * One command line, from words to an entry: the first option must be the command, the others write into the entry from
 * left to right, then the combination is checked. Whatever is wrong first is what the operator hears.
 */
import { mayCross } from '@ipvsd/director';
import { type CommandDefinition, checkOptions, checkTunnelOptions, commands, hasTunnelOptions } from './commands.ts';
import { type Entry, newEntry } from './entry.ts';
import { UsageError, usage } from './messages.ts';
import { defaults, longestTimeoutSeconds, type OptionDefinition, options, readTimeout } from './options.ts';
import { type Found, Popt, wordTable } from './popt.ts';
import { readSchedulerFlags } from './scheduler-flags.ts';
import type { Names } from './services-names.ts';

type AnyWord = CommandDefinition | OptionDefinition;

const words = wordTable<AnyWord>([...commands, ...options]);

export async function parseArguments(argv: readonly string[], program: string, names: Names): Promise<Entry> {
  const popt = new Popt(words, argv);
  const { command, value } = readCommand(popt, program);
  const entry = newEntry(command);
  command.read?.(entry, value);
  if (command.name === 'help' || command.name === 'version') return entry;
  for (let found = popt.next(); found; found = popt.next()) await readOption(entry, found, names);
  readOperands(entry, popt.leftovers);
  completeService(entry);
  checkOptions(command, entry.seen);
  checkService(entry);
  checkServer(entry);
  checkList(entry);
  return entry;
}

/** A word that cannot be read earns the same answer here as one that is no command. */
function readCommand(popt: Popt<AnyWord>, program: string): { command: CommandDefinition; value: string } {
  let first: Found<AnyWord> | undefined;
  try {
    first = popt.next();
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
  }
  if (!first || !isCommand(first.word)) throw usage.tryHelp(program);
  return { command: first.word, value: first.value ?? '' };
}

async function readOption(entry: Entry, { word, value, text }: Found<AnyWord>, names: Names): Promise<void> {
  if (isCommand(word)) throw usage.secondCommand(text);
  if (word.name && entry.seen.has(word.name)) throw usage.multiple(word.name);
  if (word.name) entry.seen.add(word.name);
  if (word.argument && value === undefined) word.readNothing?.(entry);
  else await word.read?.(entry, value ?? '', names);
}

function readOperands(entry: Entry, leftovers: readonly string[]): void {
  const operands = entry.command.operands?.split(' ').length ?? 0;
  if (operands > 0) {
    if (leftovers.length < operands) throw usage.threeTimeouts();
    const [tcp = 0, tcpFin = 0, udp = 0] = leftovers
      .slice(0, operands)
      .map((text) => readTimeout(text, 0, longestTimeoutSeconds));
    entry.timeouts = { tcp, tcpFin, udp };
  }
  const surplus = leftovers[operands];
  if (surplus !== undefined) throw usage.unexpectedArgument(surplus);
}

/** Flags are read last because `-b` may stand before the `-s` that gives them their meaning. */
function completeService({ service, seen }: Entry): void {
  service.scheduler ||= defaults.scheduler;
  if (seen.has('sched-flags')) {
    service.schedulerFlags = readSchedulerFlags(service.scheduler, service.schedulerFlagWords);
  }
}

function checkService({ command, service }: Entry): void {
  if (command.name !== 'add-service' && command.name !== 'edit-service') return;
  const hasAddress = service.fwmark === 0;
  if (hasAddress && service.port === 0 && service.persistenceSeconds === null) throw usage.zeroPort();
  if (hasAddress && service.onePacket && service.protocol !== 'udp') throw usage.onePacketOnlyUdp();
  if (hasAddress && service.segmentSize !== null && service.protocol !== 'tcp') throw usage.segmentSizeOnlyTcp();
  if (hasAddress && service.resetAtExpiry && service.protocol !== 'tcp') throw usage.resetOnlyTcp();
}

/** Direct routing and tunnels leave the port alone, so the real server's can only be the service's own. */
function checkServer({ command, service, server, seen }: Entry): void {
  if (command.name !== 'add-server' && command.name !== 'edit-server') return;
  const keepsPort = server.forwarding === 'route' || server.forwarding === 'tunnel';
  if (service.fwmark === 0 && keepsPort) server.port = service.port;
  if (server.family !== service.family && !mayCross(server.forwarding, service.family ?? 'ipv4')) {
    throw usage.otherFamily();
  }
  if (server.forwarding === 'tunnel') checkTunnelOptions(server.tunnelType, seen);
  else if (hasTunnelOptions(seen)) throw usage.tunnelOptions();
}

function checkList({ command, seen }: Entry): void {
  if (command.name !== 'list') return;
  const has = (...names: Parameters<typeof seen.has>[0][]) => names.some((name) => seen.has(name));
  if (
    (has('connection', 'timeout', 'daemon') && has('stats', 'rate', 'thresholds')) ||
    (has('timeout', 'daemon') && has('persistent-conn'))
  ) {
    throw usage.listConflict();
  }
}

function isCommand(word: AnyWord): word is CommandDefinition {
  return 'needs' in word;
}
