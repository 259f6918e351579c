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
