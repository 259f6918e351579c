/**
 * The settings of /proc/sys/net/ipv4/vs: names, defaults, and which texts each takes. Values are kept as the text a
 * reader of the file would see, since that is what operators write down and scripts compare.
 */
import { DirectorError } from './errors.ts';

interface Sysctl {
  readonly initial: string;
  readonly readOnly?: true;
  /** The text to keep, or undefined when the kernel would answer EINVAL. */
  accept(text: string, current: string): string | undefined;
}

const integer = (initial: string): Sysctl => ({ initial, accept: acceptInteger });

const between = (initial: string, low: number, high: number): Sysctl => ({
  initial,
  accept: (text) => within(acceptInteger(text), low, high),
});

const longestSeconds = Math.floor(0x7fffffff / 100);

/** Seconds kept in clock ticks: what would overflow them is refused. */
const seconds = (initial: string): Sysctl => ({
  initial,
  accept: (text) => within(acceptInteger(text), -longestSeconds, longestSeconds),
});

/** 2 means "on by itself while memory is short"; as long as it is not, the setting reads back as 1. */
const defence: Sysctl = {
  initial: '0',
  accept: (text) => {
    const value = within(acceptInteger(text), 0, 3);
    return value === '2' ? '1' : value;
  },
};

const powerOfTwo: Sysctl = {
  initial: '1',
  accept: (text) => {
    const value = acceptInteger(text);
    return value !== undefined && Number(value) > 0 && Number.isInteger(Math.log2(Number(value))) ? value : undefined;
  },
};

/** "T P": the T-th packet of every P is announced. One number alone changes T. */
const syncThreshold: Sysctl = {
  initial: '3\t50',
  accept: (text, current) => {
    const words = text.trim().split(/\s+/).slice(0, 2).map(acceptInteger);
    const [threshold, period] = [words[0], words.length > 1 ? words[1] : current.split('\t')[1]];
    if (threshold === undefined || period === undefined) return undefined;
    const [t, p] = [Number(threshold), Number(period)];
    return t < 0 || p < 0 || (t >= p && p !== 0) ? undefined : `${threshold}\t${period}`;
  },
};

/** Unsigned and wide: a negative number is passed over without an error, as the kernel does. */
const unsignedLong = (initial: string): Sysctl => ({
  initial,
  accept: (text, current) => {
    const value = readInteger(text);
    return value === undefined ? undefined : value < 0 ? current : String(value);
  },
});

const sysctls: Readonly<Record<string, Sysctl>> = {
  am_droprate: integer('10'),
  amemthresh: integer('1024'),
  backup_only: integer('0'),
  cache_bypass: integer('0'),
  conn_reuse_mode: integer('1'),
  conntrack: integer('0'),
  debug_level: { ...integer('0'), readOnly: true },
  drop_entry: defence,
  drop_packet: defence,
  expire_nodest_conn: integer('0'),
  expire_quiescent_template: integer('0'),
  ignore_tunneled: integer('0'),
  lblc_expiration: seconds('86400'),
  lblcr_expiration: seconds('86400'),
  nat_icmp_send: integer('0'),
  pmtu_disc: integer('1'),
  run_estimation: integer('1'),
  schedule_icmp: integer('0'),
  secure_tcp: defence,
  sloppy_sctp: integer('0'),
  sloppy_tcp: integer('0'),
  snat_reroute: integer('1'),
  sync_persist_mode: integer('0'),
  sync_ports: powerOfTwo,
  sync_qlen_max: unsignedLong('4096'),
  sync_refresh_period: seconds('0'),
  sync_retries: between('0', 0, 3),
  sync_sock_size: integer('0'),
  sync_threshold: syncThreshold,
  sync_version: between('1', 0, 1),
};

/** What each does, for those who list them. */
const sentences: Readonly<Record<string, string>> = {
  am_droprate: 'In mode 3 of drop_packet every how many first packets one is dropped.',
  amemthresh: 'Free memory for connections, in pages, below which the defence counts it as short.',
  backup_only: '1: while a backup sync daemon runs nothing is balanced here.',
  cache_bypass: '1: packets of a firewall-mark service without a usable real server go to their own destination.',
  conn_reuse_mode:
    'Bits: when a client may use the port of a finished connection for a new one (1: finished; 2: also FIN_WAIT under DR and TUN); 0: never.',
  conntrack: "1: connections are kept in netfilter's connection tracking too.",
  debug_level: "How much the kernel's module would log; nothing here.",
  drop_entry: 'Abandoned-looking connections are dropped early: 0 off, 1 while memory is short, 3 always.',
  drop_packet: 'Some first packets are dropped: 0 off, 1 while memory is short, 3 always.',
  expire_nodest_conn:
    '1: connections of a removed real server end at once; 0: their packets are dropped until they time out.',
  expire_quiescent_template: '1: persistence does not lead to a real server of weight 0.',
  ignore_tunneled: '1: packets of protocols that are not balanced are not scheduled after decapsulation either.',
  lblc_expiration: 'Seconds after which lblc forgets a destination that nobody asked for.',
  lblcr_expiration: 'Seconds after which lblcr forgets a destination, or shrinks a set that has not changed.',
  nat_icmp_send: '1: a real server behind NAT whose connection is unknown hears port unreachable.',
  pmtu_disc: '1: packets too large for a tunnel are answered with the MTU that fits.',
  run_estimation: '0: statistics and rates stand still.',
  schedule_icmp: '1: ICMP errors about unknown connections of a service are scheduled like a first packet.',
  secure_tcp: 'TCP under NAT is established only after the whole handshake: 0 off, 1 while memory is short, 3 always.',
  sloppy_sctp: '1: any SCTP packet but ABORT may open a connection.',
  sloppy_tcp: '1: any TCP segment but a reset may open a connection, as after a failover without sync.',
  snat_reroute: '1: translated replies are routed as if the director had sent them.',
  sync_persist_mode: '1: of persistent services only templates are synced.',
  sync_ports: 'Ports, and threads, that the sync daemon uses; a power of two.',
  sync_qlen_max: 'Sync messages that may wait.',
  sync_refresh_period: 'Seconds after which a connection is synced again when its end has moved; 0: by packets alone.',
  sync_retries: 'How often a sync is repeated within the refresh period, 0 to 3.',
  sync_sock_size: "Bytes of the sync sockets' buffers; 0: the system's default.",
  sync_threshold: 'Two numbers T and P: a connection is synced at its T-th packet of every P.',
  sync_version: 'Format of sync messages: 1, or 0 for the oldest peers.',
};

export interface SysctlDescription {
  readonly name: string;
  readonly initial: string;
  readonly readOnly: boolean;
  readonly sentence: string;
}

/** All settings by name, with their defaults: what `ipvsd settings` lists. */
export function describeSysctls(): readonly SysctlDescription[] {
  return Object.entries(sysctls)
    .map(([name, { initial, readOnly = false }]) => ({ name, initial, readOnly, sentence: sentences[name] ?? '' }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

export function defaultSysctls(): ReadonlyMap<string, string> {
  return new Map(Object.entries(sysctls).map(([name, sysctl]) => [name, sysctl.initial]));
}

export function isReadOnlySysctl(name: string): boolean {
  return sysctls[name]?.readOnly === true;
}

/** The text that stands in the file after `value` was written to it. */
export function acceptSysctl(name: string, value: string, current: string): string | DirectorError {
  const sysctl = sysctls[name];
  if (!sysctl) return new DirectorError('ENOENT', `Cannot set sysctl "${name}": there is no such setting`);
  if (sysctl.readOnly) return new DirectorError('EACCES', `Cannot set sysctl "${name}": it is read-only`);
  const text = sysctl.accept(value, current);
  return text ?? new DirectorError('EINVAL', `Cannot set sysctl "${name}": it does not take "${value}"`);
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
