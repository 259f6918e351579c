/**
 * The settings of /proc/sys/net/ipv4/vs, and those of helpers, which the kernel has as parameters of modules: names, defaults, a
 * sentence each, and which texts each takes. Values are kept as the text a reader of the file would see, since that is what operators
 * write down and scripts compare.
 */
import { HELPERS } from '@ipvsd/ipvs';
import { DirectorError, type ErrorCode } from './errors.ts';
import { formatPorts, MOST_PORTS, portSetting, readPorts } from './helped-ports.ts';

/** A setting as it is shown to operators. */
export interface SysctlDescription {
  readonly name: string;
  /** The value that it has unless somebody sets it. */
  readonly initial: string;
  readonly readOnly: boolean;
  /** Whether packets or programs of ours ask for it; otherwise it is only kept, for scripts that set it. */
  readonly hasEffect: boolean;
  /** The kernel's ip_vs has none of that name. */
  readonly ours: boolean;
  /** What it takes, as in "it must be ...". */
  readonly takes: string;
  readonly sentence: string;
}

interface Kind {
  readonly initial: string;
  readonly readOnly?: true;
  readonly takes: string;
  /** The text to keep, or undefined when the kernel would answer EINVAL. */
  accept(text: string, current: string): string | undefined;
}

interface Sysctl extends Kind {
  readonly sentence: string;
  readonly hasEffect: boolean;
  readonly ours?: true;
}

const effective = (kind: Kind, sentence: string): Sysctl => ({ ...kind, sentence, hasEffect: true });
const ours = (kind: Kind, sentence: string): Sysctl => ({ ...kind, sentence, hasEffect: true, ours: true });
const kept = (kind: Kind, sentence: string): Sysctl => ({ ...kind, sentence, hasEffect: false });

const integer = (initial: string): Kind => ({ initial, takes: 'an integer', accept: acceptInteger });

const between = (initial: string, low: number, high: number): Kind => ({
  initial,
  takes: `${low}..${high}`,
  accept: (text) => within(acceptInteger(text), low, high),
});

const longestSeconds = Math.floor(0x7fffffff / 100);

/** Seconds kept in clock ticks: what would overflow them is refused. */
const seconds = (initial: string): Kind => ({
  initial,
  takes: `seconds, at most ${longestSeconds}`,
  accept: (text) => within(acceptInteger(text), -longestSeconds, longestSeconds),
});

/** 2 means "on by itself while memory is short"; as long as it is not, the setting reads back as 1. */
const defence: Kind = {
  initial: '0',
  takes: '0..3',
  accept: (text) => {
    const value = within(acceptInteger(text), 0, 3);
    return value === '2' ? '1' : value;
  },
};

const powerOfTwo: Kind = {
  initial: '1',
  takes: 'a power of two',
  accept: (text) => {
    const value = acceptInteger(text);
    return value !== undefined && Number(value) > 0 && Number.isInteger(Math.log2(Number(value))) ? value : undefined;
  },
};

/** "T P": the T-th packet of every P is announced. One number alone changes T. */
const syncThreshold: Kind = {
  initial: '3\t50',
  takes: 'two numbers "T P" with T < P, or P 0',
  accept: (text, current) => {
    const words = text.trim().split(/\s+/).slice(0, 2).map(acceptInteger);
    const [threshold, period] = [words[0], words.length > 1 ? words[1] : current.split('\t')[1]];
    if (threshold === undefined || period === undefined) return undefined;
    const [t, p] = [Number(threshold), Number(period)];
    return t < 0 || p < 0 || (t >= p && p !== 0) ? undefined : `${threshold}\t${period}`;
  },
};

/** Kinds below are other options of TCP. */
const experimentalOption: Kind = {
  initial: '254',
  takes: '0, or 30..255',
  accept: (text) => {
    const value = within(acceptInteger(text), 0, 255);
    return value === undefined || (value !== '0' && Number(value) < 30) ? undefined : value;
  },
};

/** "LOW HIGH", both of them included. */
const portRange = (initial: string): Kind => ({
  initial,
  takes: 'two ports "LOW HIGH", 1..65535',
  accept: (text) => {
    const [low, high, ...more] = text
      .trim()
      .split(/\s+/)
      .map((word) => within(acceptInteger(word), 1, 65_535));
    if (low === undefined || high === undefined || more.length > 0) return undefined;
    return Number(low) <= Number(high) ? `${low}\t${high}` : undefined;
  },
});

/** Unsigned and wide: a negative number is passed over without an error, as the kernel does. */
const unsignedLong = (initial: string): Kind => ({
  initial,
  takes: 'an integer >= 0',
  accept: (text, current) => {
    const value = readInteger(text);
    return value === undefined ? undefined : value < 0 ? current : String(value);
  },
});

const ports = (initial: readonly number[]): Kind => ({
  initial: formatPorts(initial),
  takes: `none, or at most ${MOST_PORTS} ports such as 21,2121`,
  accept: (text) => {
    const found = readPorts(text);
    return found && formatPorts(found);
  },
});

const own: Readonly<Record<string, Sysctl>> = {
  am_droprate: effective(integer('10'), 'In mode 3 of drop_packet every how many first packets one is dropped.'),
  amemthresh: effective(
    integer('1024'),
    'Free memory for connections, in pages, below which the defence counts it as short.',
  ),
  backup_only: effective(integer('0'), '1: while a backup sync daemon runs nothing is balanced here.'),
  cache_bypass: effective(
    integer('0'),
    '1: packets of a firewall-mark service without a usable real server go to their own destination.',
  ),
  conn_reuse_mode: effective(
    integer('1'),
    'Bits: when a client may use the port of a finished connection for a new one (1: finished; 2: also FIN_WAIT under DR and TUN); 0: never.',
  ),
  conntrack: kept(integer('0'), "1: connections are kept in netfilter's connection tracking too."),
  debug_level: kept({ ...integer('0'), readOnly: true }, "How much the kernel's module would log; nothing here."),
  drop_entry: effective(
    defence,
    'Abandoned-looking connections are dropped early: 0 off, 1 while memory is short, 3 always.',
  ),
  drop_packet: effective(defence, 'Some first packets are dropped: 0 off, 1 while memory is short, 3 always.'),
  expire_nodest_conn: effective(
    integer('0'),
    '1: connections of a removed real server end at once; 0: their packets are dropped until they time out.',
  ),
  expire_quiescent_template: effective(integer('0'), '1: persistence does not lead to a real server of weight 0.'),
  ignore_tunneled: effective(
    integer('0'),
    '1: what comes in a tunnel to this host (IPIP, GRE) is not balanced once it is let out of it.',
  ),
  lblc_expiration: effective(seconds('86400'), 'Seconds after which lblc forgets a destination that nobody asked for.'),
  lblcr_expiration: effective(
    seconds('86400'),
    'Seconds after which lblcr forgets a destination, or shrinks a set that has not changed.',
  ),
  local_peers: ours(
    integer('1'),
    "1: packets go straight into containers behind local veth pairs; 0: through the pair's queue, where tc and captures see them leave.",
  ),
  local_port_range: ours(
    portRange('1024\t32767'),
    'Local ports of FULLNAT and masquerading. Below those that the host itself takes, as it may have the same address; with local addresses of their own: 1024 65535.',
  ),
  nat_icmp_send: effective(
    integer('0'),
    '1: a real server behind NAT whose connection is unknown hears port unreachable.',
  ),
  pmtu_disc: effective(integer('1'), '1: packets too large for a tunnel are answered with the MTU that fits.'),
  run_estimation: effective(integer('1'), '0: statistics and rates stand still.'),
  schedule_icmp: effective(
    integer('0'),
    '1: ICMP errors about unknown connections of a service are scheduled like a first packet.',
  ),
  secure_tcp: effective(
    defence,
    'TCP under NAT is established only after the whole handshake: 0 off, 1 while memory is short, 3 always.',
  ),
  sloppy_sctp: effective(integer('0'), '1: any SCTP packet but ABORT may open a connection.'),
  sloppy_tcp: effective(
    integer('0'),
    '1: any TCP segment but a reset may open a connection, as after a failover without sync.',
  ),
  snat_reroute: kept(integer('1'), '1: translated replies are routed as if the director had sent them.'),
  sync_persist_mode: kept(integer('0'), '1: of persistent services only templates are synced.'),
  sync_ports: kept(powerOfTwo, 'Ports, and threads, that the sync daemon uses; a power of two.'),
  sync_qlen_max: kept(unsignedLong('4096'), 'Sync messages that may wait.'),
  sync_refresh_period: kept(
    seconds('0'),
    'Seconds after which a connection is synced again when its end has moved; 0: by packets alone.',
  ),
  sync_retries: kept(between('0', 0, 3), 'How often a sync is repeated within the refresh period, 0 to 3.'),
  sync_sock_size: kept(integer('0'), "Bytes of the sync sockets' buffers; 0: the system's default."),
  sync_threshold: kept(syncThreshold, 'Two numbers T and P: a connection is synced at its T-th packet of every P.'),
  sync_version: kept(between('1', 0, 1), 'Format of sync messages: 1, or 0 for the oldest peers.'),
  toa_option: ours(
    experimentalOption,
    "Kind of the TCP option that tells real servers behind FULLNAT their client's address and port; 0: they are not told.",
  ),
  uoa_mode: ours(
    between('0', 0, 2),
    "How UDP's real servers behind FULLNAT are told their client's address and port (UOA): 1 by an option of IPv4, 2 by a header of IP protocol 248, which they need a module for; 0: not.",
  ),
};

const ofHelpers = HELPERS.map(({ name, ports: initial, helps }): [string, Sysctl] => [
  portSetting(name),
  ours(ports(initial), `Ports whose connections under NAT, FULLNAT and masquerading are helped: ${helps}.`),
]);

const sysctls: Readonly<Record<string, Sysctl>> = Object.fromEntries(
  [...Object.entries(own), ...ofHelpers].sort(([a], [b]) => (a < b ? -1 : 1)),
);

export function defaultSysctls(): ReadonlyMap<string, string> {
  return new Map(Object.entries(sysctls).map(([name, sysctl]) => [name, sysctl.initial]));
}

/** All settings by name, in words. */
export function describeSysctls(): readonly SysctlDescription[] {
  return Object.entries(sysctls).map(
    ([name, { initial, readOnly = false, hasEffect, ours = false, takes, sentence }]) => ({
      name,
      initial,
      readOnly,
      hasEffect,
      ours,
      takes,
      sentence,
    }),
  );
}

export function isReadOnlySysctl(name: string): boolean {
  return sysctls[name]?.readOnly === true;
}

/** The text that stands in the file after `value` was written to it. */
export function acceptSysctl(name: string, value: string, current: string): string | DirectorError {
  const sysctl = sysctls[name];
  const refuse = (code: ErrorCode, reason: string): DirectorError =>
    new DirectorError(code, `Cannot set ${name} to "${value}": ${reason}`);
  if (!sysctl) return refuse('ENOENT', 'there is no such setting, must be one of those that `ipvsd settings` lists');
  if (sysctl.readOnly) return refuse('EACCES', `it is read-only and stays ${current}`);
  return sysctl.accept(value, current) ?? refuse('EINVAL', `it is ${current}, must be ${sysctl.takes}`);
}

function acceptInteger(text: string): string | undefined {
  const value = readInteger(text);
  return value === undefined ? undefined : within(String(value), -0x80000000, 0x7fffffff);
}

/** C notation: decimal, 0x hexadecimal or 0 octal, a sign only if negative. Words after the first are not looked at. */
function readInteger(text: string): number | undefined {
  const match = /^\s*(-?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)(\s|$)/.exec(text);
  if (!match) return undefined;
  const digits = match[2]!;
  const value = Number(/^0[0-7]+$/.test(digits) ? `0o${digits.slice(1)}` : digits);
  return match[1] === '-' && value !== 0 ? -value : value;
}

function within(text: string | undefined, low: number, high: number): string | undefined {
  return text !== undefined && Number(text) >= low && Number(text) <= high ? text : undefined;
}
