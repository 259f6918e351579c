/**
 * The table of commands: their words, and which options each must have, may have, and may have one of. Everything else
 * beside a command is illegal.
 */
import type { Entry } from './entry.ts';
import { usage } from './messages.ts';
import { type OptionName, optionNames } from './options.ts';
import type { Word } from './popt.ts';

export type CommandName =
  | 'add-service'
  | 'edit-service'
  | 'delete-service'
  | 'flush'
  | 'list'
  | 'add-server'
  | 'edit-server'
  | 'delete-server'
  | 'set'
  | 'start-daemon'
  | 'stop-daemon'
  | 'restore'
  | 'save'
  | 'zero'
  | 'help'
  | 'version'
  | 'add-laddr'
  | 'del-laddr'
  | 'get-laddr';

export interface CommandDefinition extends Word {
  readonly name: CommandName;
  readonly summary: string;
  readonly argumentName?: string;
  readonly values?: readonly string[];
  /** Words after the command that belong to no option. */
  readonly operands?: string;
  readonly needs: readonly OptionName[];
  readonly allows: readonly OptionName[];
  /** At most one of these. */
  readonly oneOf?: readonly OptionName[];
  /** Not known to the original. */
  readonly ours?: true;
  /** Reads the value of the command word itself. */
  read?(entry: Entry, value: string): void;
}

const ownSettings = ['conn-timeout', 'reset-at-expiry', 'proxy-protocol', 'mss'] as const;
const serviceSettings = ['scheduler', 'persistent', 'netmask', 'ops', 'pe', 'sched-flags', ...ownSettings] as const;
const tunnelSettings = ['tun-type', 'tun-port', 'tun-nocsum', 'tun-csum', 'tun-remcsum'] as const;
const serverSettings = ['forwarding-method', 'weight', 'u-threshold', 'l-threshold', ...tunnelSettings] as const;
const daemonSettings = ['mcast-interface', 'syncid', 'mcast-group', 'mcast-port', 'mcast-ttl', 'sync-maxlen'] as const;
const columns = ['stats', 'rate', 'thresholds', 'persistent-conn', 'tun-info'] as const;
const listWords = ['numeric', 'nosort', 'syncid', 'exact', 'json', 'watch'] as const;

const server = ['service-address', 'real-server'] as const;
const localAddress = ['service-address', 'local-address'] as const;

export const commands: readonly CommandDefinition[] = [
  command('add-service', 'A', 'add-service', 'add a virtual service', ['service-address'], serviceSettings),
  command('edit-service', 'E', 'edit-service', 'edit a virtual service', ['service-address'], serviceSettings),
  command('delete-service', 'D', 'delete-service', 'delete a virtual service', ['service-address'], []),
  command('flush', 'C', 'clear', 'delete all virtual services', [], []),
  command('restore', 'R', 'restore', 'read commands from standard input', [], ['atomic']),
  command('save', 'S', 'save', 'print the table as commands', [], ['numeric', 'complete']),
  command('add-server', 'a', 'add-server', 'add a real server', server, serverSettings),
  command('edit-server', 'e', 'edit-server', 'edit a real server', server, serverSettings),
  command('delete-server', 'd', 'delete-server', 'delete a real server', server, []),
  {
    ...command('list', 'Ll', 'list', 'list the table', [], [...columns, ...listWords]),
    oneOf: ['connection', 'service-address', 'timeout', 'daemon'],
  },
  command('zero', 'Z', 'zero', 'set counters to zero', [], ['service-address']),
  { ...command('set', '', 'set', 'set connection timeouts', [], []), operands: 'tcp tcpfin udp' },
  {
    ...command('start-daemon', '', 'start-daemon', 'start a connection sync daemon', [], daemonSettings),
    argument: 'required',
    argumentName: 'master|backup',
    values: ['master', 'backup'],
    read: ({ daemon }, value) => {
      if (value !== 'master' && value !== 'backup') throw usage.illegalValue('start-daemon parameter');
      daemon.role = value;
    },
  },
  {
    ...command('stop-daemon', '', 'stop-daemon', 'stop a connection sync daemon', [], ['syncid']),
    argument: 'required',
    argumentName: 'master|backup',
    values: ['master', 'backup'],
    read: ({ daemon }, value) => {
      if (value !== 'master' && value !== 'backup') throw usage.illegalValue('start_daemon');
      daemon.role = value;
    },
  },
  command('help', 'h', 'help', 'print a summary', [], []),
  command('version', 'v', 'version', 'print the version', [], []),
  { ...command('add-laddr', 'P', 'add-laddr', 'add a local address', localAddress, ['local-interface']), ours: true },
  {
    ...command('del-laddr', 'Q', 'del-laddr', 'delete a local address', localAddress, ['local-interface']),
    ours: true,
  },
  { ...command('get-laddr', 'G', 'get-laddr', 'list local addresses', [], ['service-address', 'json']), ours: true },
];

function command(
  name: CommandName,
  short: string,
  long: string,
  summary: string,
  needs: readonly OptionName[],
  allows: readonly OptionName[],
): CommandDefinition {
  return { name, short, long, summary, needs, allows };
}

/** One pass over all options in their order, so that the first wrong one is the one complained about. */
export function checkOptions(command: CommandDefinition, seen: ReadonlySet<OptionName>): void {
  checkCombination(optionNames, command, seen, `'${command.name}' command`);
}

/** What a tunnel type makes of the tunnel options. */
const tunnels = {
  ipip: { needs: [], allows: ['tun-type'] },
  gue: { needs: ['tun-port'], allows: ['tun-type'], oneOf: ['tun-nocsum', 'tun-csum', 'tun-remcsum'] },
  gre: { needs: [], allows: ['tun-type'], oneOf: ['tun-nocsum', 'tun-csum'] },
} as const satisfies Record<string, Rule>;

export function checkTunnelOptions(type: keyof typeof tunnels, seen: ReadonlySet<OptionName>): void {
  checkCombination(tunnelSettings, tunnels[type], seen, `'${type}' tunnel type`);
}

export function hasTunnelOptions(seen: ReadonlySet<OptionName>): boolean {
  return tunnelSettings.some((name) => seen.has(name));
}

interface Rule {
  readonly needs: readonly OptionName[];
  readonly allows: readonly OptionName[];
  readonly oneOf?: readonly OptionName[];
}

function checkCombination(
  names: readonly OptionName[],
  rule: Rule,
  seen: ReadonlySet<OptionName>,
  where: string,
): void {
  let chosen: OptionName | undefined;
  for (const name of names) {
    if (!seen.has(name)) {
      if (rule.needs.includes(name)) throw usage.missing(name, where);
    } else if (rule.oneOf?.includes(name)) {
      if (chosen) throw usage.conflict(name, chosen, where);
      chosen = name;
    } else if (!rule.needs.includes(name) && !rule.allows.includes(name)) {
      throw usage.illegal(name, where);
    }
  }
}
