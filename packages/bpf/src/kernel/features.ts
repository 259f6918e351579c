/**
 * What this kernel can do, found out by trying, because distributions backport and version numbers lie.
 *
 * Each feature names the first release of Linux that has it, so that an error can say what to install.
 */

import { release } from 'node:os';
import { errnoNumber } from '@ipvsd/linux';
import {
  alu64,
  atomic,
  call,
  encode,
  exit,
  type Insn,
  jump64,
  ldMapValue,
  ldxSigned,
  mov64,
  stx,
} from '../assembler/index.ts';
import { LICENSE, MAP_TYPES, type MapType, PROGRAM_TYPES, type ProgramType } from '../spec.ts';
import { Attr, closeFd, cString, tryBpf } from './bpf-syscall.ts';
import { BtfBuilder } from './btf.ts';

interface Feature {
  /** What it is, for the sentence "this kernel has no ...". */
  readonly what: string;
  readonly since: string;
  readonly probe: () => boolean;
}

const SLEEPABLE = 1 << 4;
const NOTHING: readonly Insn[] = [mov64(0, 0), exit()];

const FEATURES = {
  btf: { what: 'BTF', since: '4.18', probe: () => opens('BTF_LOAD', btfAttr()) },
  'direct map values': { what: 'direct access to map values', since: '5.2', probe: hasDirectMapValues },
  'bounded loops': {
    what: 'bounded loops',
    since: '5.3',
    probe: () => loads('tc', [mov64(0, 0), alu64('add', 0, 1), jump64('lt', 0, 8, -2), exit()]),
  },
  'batch operations': { what: 'batch operations on maps', since: '5.6', probe: hasBatch },
  links: {
    what: 'BPF links',
    since: '5.7',
    probe: () => tryBpf('LINK_UPDATE', new Attr().u32(0, 0xffff).u32(4, 0xffff)) === -errnoNumber('EBADF'),
  },
  'ring buffer': { what: 'ring buffer maps', since: '5.8', probe: () => createsMap('ringBuffer', 0, 0, 65_536) },
  'queue maps': { what: 'queue maps', since: '4.20', probe: () => createsMap('queue', 0, 4, 1) },
  redirect_neigh: { what: 'bpf_redirect_neigh', since: '5.10', probe: () => hasHelper('tc', 152) },
  'coarse clock': { what: 'bpf_ktime_get_coarse_ns', since: '5.11', probe: () => hasHelper('tc', 160) },
  atomics: {
    what: 'atomic operations that return the old value',
    since: '5.12',
    probe: () => loads('tc', [mov64(0, 0), stx(8, 10, -8, 0), atomic('add', 8, 10, -8, 0, true), exit()]),
  },
  'syscall programs': { what: 'syscall programs', since: '5.14', probe: () => loads('syscall', NOTHING, SLEEPABLE) },
  timers: { what: 'bpf_timer', since: '5.15', probe: () => hasHelper('tc', 169) },
  bpf_loop: { what: 'bpf_loop', since: '5.17', probe: () => hasHelper('tc', 181) },
  tcx: { what: 'TCX', since: '6.6', probe: hasTcx },
  'sign-extending loads': {
    what: 'sign-extending loads',
    since: '6.6',
    probe: () => loads('tc', [mov64(0, 0), stx(8, 10, -8, 0), ldxSigned(4, 0, 10, -8), exit()]),
  },
} as const satisfies Record<string, Feature>;

export type FeatureName = keyof typeof FEATURES;
export const FEATURE_NAMES = Object.keys(FEATURES) as readonly FeatureName[];

export class MissingFeatureError extends Error {
  override readonly name = 'MissingFeatureError';
  readonly features: readonly FeatureName[];

  constructor(purpose: string, features: readonly FeatureName[]) {
    const list = features
      .map((name) => `${FEATURES[name].what} (Linux ${FEATURES[name].since} or later has it)`)
      .join(' and no ');
    super(`Cannot ${purpose}: this kernel (${release()}) has no ${list}`);
    this.features = features;
  }
}

const known = new Map<FeatureName, boolean>();

export function hasFeature(name: FeatureName): boolean {
  let has = known.get(name);
  if (has === undefined) {
    has = FEATURES[name].probe();
    known.set(name, has);
  }
  return has;
}

/** Throws an error that names what is missing and the kernels that have it; `purpose` completes "Cannot ...". */
export function requireFeatures(names: readonly FeatureName[], purpose = 'load the packet path'): void {
  // Without the right to load anything every probe fails, and the error would blame the kernel.
  const denied = tryBpf('PROG_LOAD', programAttr('tc', NOTHING));
  if (denied >= 0) closeFd(denied);
  else if (-denied === errnoNumber('EPERM')) {
    throw new Error(`Cannot ${purpose}: EPERM, operation not permitted; run as root or with CAP_BPF and CAP_NET_ADMIN`);
  }
  const missing = names.filter((name) => !hasFeature(name));
  if (missing.length > 0) throw new MissingFeatureError(purpose, missing);
}

/** First release of Linux that has the feature. */
export function featureSince(name: FeatureName): string {
  return FEATURES[name].since;
}

function opens(command: 'BTF_LOAD' | 'PROG_LOAD' | 'MAP_CREATE', attr: Attr): boolean {
  const fd = tryBpf(command, attr);
  if (fd >= 0) closeFd(fd);
  return fd >= 0;
}

function loads(type: ProgramType, program: readonly Insn[], flags = 0): boolean {
  return opens('PROG_LOAD', programAttr(type, program, flags));
}

/** A helper that is not there is "unknown"; one that is there complains about its arguments instead, or about nothing. */
function hasHelper(type: ProgramType, helper: number): boolean {
  const log = new Uint8Array(1 << 14);
  const attr = programAttr(type, [call(helper), ...NOTHING])
    .u32(24, 1)
    .u32(28, log.length)
    .pointer(32, log);
  if (opens('PROG_LOAD', attr)) return true;
  return !/(invalid|unknown) func|program of this type cannot use helper/.test(new TextDecoder().decode(log));
}

function createsMap(type: MapType, keySize: number, valueSize: number, maxEntries: number): boolean {
  return opens('MAP_CREATE', mapAttr(type, keySize, valueSize, maxEntries));
}

function hasDirectMapValues(): boolean {
  const map = tryBpf('MAP_CREATE', mapAttr('array', 4, 4, 1));
  if (map < 0) return false;
  const [low, high] = ldMapValue(1);
  const found = loads('tc', [{ ...low, imm: map }, high, ...NOTHING]);
  closeFd(map);
  return found;
}

function hasBatch(): boolean {
  const map = tryBpf('MAP_CREATE', mapAttr('hash', 4, 4, 1));
  if (map < 0) return false;
  const attr = new Attr().pointer(16, new Uint32Array(1)).pointer(24, new Uint32Array(1)).u32(32, 1).u32(36, map);
  const result = tryBpf('MAP_UPDATE_BATCH', attr);
  closeFd(map);
  return result >= 0;
}

/** Kernels without TCX do not know the attach type; those with it ask for an interface. */
function hasTcx(): boolean {
  return tryBpf('PROG_QUERY', new Attr().u32(0, 0x7fffffff).u32(4, 46)) === -errnoNumber('ENODEV');
}

function mapAttr(type: MapType, keySize: number, valueSize: number, maxEntries: number): Attr {
  return new Attr().u32(0, MAP_TYPES[type]).u32(4, keySize).u32(8, valueSize).u32(12, maxEntries);
}

function programAttr(type: ProgramType, program: readonly Insn[], flags = 0): Attr {
  return new Attr()
    .u32(0, PROGRAM_TYPES[type])
    .u32(4, program.length)
    .pointer(8, encode(program))
    .pointer(16, cString(LICENSE))
    .u32(44, flags);
}

function btfAttr(): Attr {
  const builder = new BtfBuilder();
  builder.scalar('u32');
  const bytes = builder.bytes();
  return new Attr().pointer(0, bytes).u32(16, bytes.length);
}
