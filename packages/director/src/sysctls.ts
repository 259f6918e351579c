/**
 * The settings of /proc/sys/net/ipv4/vs: names, defaults, a sentence each, and which texts each takes. Values are kept as the text a
 * reader of the file would see, since that is what operators write down and scripts compare.
 */
import { DirectorError, type ErrorCode } from './errors.ts';

/** A setting as it is shown to operators. */
export interface SysctlDescription {
  readonly name: string;
  /** The value that it has unless somebody sets it. */
  readonly initial: string;
  readonly readOnly: boolean;
  /** Whether packets or programs of ours ask for it; otherwise it is only kept, for scripts that set it. */
  readonly hasEffect: boolean;
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
}

const effective = (kind: Kind, sentence: string): Sysctl => ({ ...kind, sentence, hasEffect: true });
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

/** Unsigned and wide: a negative number is passed over without an error, as the kernel does. */
const unsignedLong = (initial: string): Kind => ({
  initial,
  takes: 'an integer >= 0',
  accept: (text, current) => {
    const value = readInteger(text);
    return value === undefined ? undefined : value < 0 ? current : String(value);
  },
});

const sysctls: Readonly<Record<string, Sysctl>> = {
  am_droprate: effective(
    integer('10'),
    'With drop_packet 3, every how many packets that would open a connection one is dropped.',
  ),
  amemthresh: effective(
    integer('1024'),
    'Memory for connections is short while fewer pages of the connection table are free; the defence modes go by it.',
  ),
  backup_only: effective(
    integer('0'),
    '1: while a backup sync daemon runs here, nothing is balanced, so that packets do not go round in a circle.',
  ),
  cache_bypass: effective(
    integer('0'),
    '1: with no real server to have it, a connection of a firewall mark goes where its packets say, past a cache.',
  ),
  conn_reuse_mode: effective(
    integer('1'),
    'A client that uses a port anew: 0 goes to the real server it had, 1 is scheduled anew once the old connection is over, bit 2 also when its replies go another way.',
  ),
  conntrack: kept(integer('0'), '1: connections are entered in the conntrack of netfilter too.'),
  debug_level: kept({ ...integer('0'), readOnly: true }, 'How much the kernel module would write to the log.'),
  drop_entry: effective(
    defence,
    'Connections that look abandoned go early: 0 never, 1 while memory is short (reads 2 then), 3 always.',
  ),
  drop_packet: effective(
    defence,
    'Some packets that would open connections are dropped: 0 never, 1 while memory is short (reads 2 then), 3 one in am_droprate.',
  ),
  expire_nodest_conn: effective(
    integer('0'),
    '1: connections whose real server was removed end at their next packet, so that the client can begin anew.',
  ),
  expire_quiescent_template: effective(
    integer('0'),
    '1: persistence does not hold clients at a real server of weight 0.',
  ),
  ignore_tunneled: kept(integer('0'), '1: packets that came out of a tunnel are not balanced.'),
  lblc_expiration: effective(
    seconds('86400'),
    'Seconds after which scheduler lblc forgets a destination that nobody asked for.',
  ),
  lblcr_expiration: effective(
    seconds('86400'),
    'Seconds after which scheduler lblcr forgets a destination that nobody asked for.',
  ),
  nat_icmp_send: kept(integer('0'), '1: real servers whose packets match no connection are told so by ICMP.'),
  pmtu_disc: kept(integer('1'), '1: tunnels tell senders of packets that are too big, by ICMP.'),
  run_estimation: effective(integer('1'), '0: rates (ipvsadm --rate) are not estimated.'),
  schedule_icmp: kept(integer('0'), '1: ICMP messages that belong to no connection are scheduled too.'),
  secure_tcp: effective(
    defence,
    'TCP connections are believed only after the whole handshake: 0 never, 1 while memory is short (reads 2 then), 3 always.',
  ),
  sloppy_sctp: effective(
    integer('0'),
    '1: any SCTP packet may open a connection, not only INIT; for directors that take over from others.',
  ),
  sloppy_tcp: effective(
    integer('0'),
    '1: any TCP packet but RST may open a connection, not only SYN; for directors that take over from others.',
  ),
  snat_reroute: kept(integer('1'), '1: replies are routed anew by the address that they got.'),
  sync_persist_mode: kept(integer('0'), '1: of persistent services only templates are announced to other directors.'),
  sync_ports: kept(powerOfTwo, 'How many threads and UDP ports the sync daemons have.'),
  sync_qlen_max: kept(unsignedLong('4096'), 'Sync messages that may wait for the sender.'),
  sync_refresh_period: kept(
    seconds('0'),
    'Seconds after which an unchanged connection is announced again; 0: by packets alone (sync_threshold).',
  ),
  sync_retries: kept(between('0', 0, 3), 'How often a connection is announced again after a change.'),
  sync_sock_size: kept(integer('0'), "Bytes of the sync daemons' socket buffers; 0: what the system has."),
  sync_threshold: kept(syncThreshold, '"T P": of every P packets of a connection the T-th announces it.'),
  sync_version: kept(between('1', 0, 1), '1: sync messages that know IPv6; 0: those of kernels before 2.6.39.'),
};

export function defaultSysctls(): ReadonlyMap<string, string> {
  return new Map(Object.entries(sysctls).map(([name, sysctl]) => [name, sysctl.initial]));
}

/** All settings by name, in words. */
export function describeSysctls(): readonly SysctlDescription[] {
  return Object.entries(sysctls).map(([name, { initial, readOnly = false, hasEffect, takes, sentence }]) => ({
    name,
    initial,
    readOnly,
    hasEffect,
    takes,
    sentence,
  }));
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
