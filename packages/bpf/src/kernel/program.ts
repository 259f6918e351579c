/**
 * A program in the kernel: loading with BTF and line info, running on test data, pinning.
 *
 * Loading asks for no log at first, because writing one costs the verifier several times its own work; only a refusal is
 * repeated with one.
 */

import { addressOf, type Crew, errnoNumber } from '@ipvsd/linux';
import { type CollectionSpec, LICENSE, PROGRAM_TYPES, type ProgramSpec, type ProgramType } from '../spec.ts';
import {
  ATTR_BYTES,
  Attr,
  bpf,
  bpfError,
  COMMAND,
  closeFd,
  cString,
  infoName,
  objectInfo,
  openPin,
  pinObject,
  tryBpf,
} from './bpf-syscall.ts';
import type { KernelMap } from './map.ts';
import { VerifierError } from './verifier-error.ts';

export interface LoadContext {
  /** By the names that relocations use. */
  readonly maps: ReadonlyMap<string, KernelMap>;
  /** Without it the program has no functions, callbacks and source lines of its own. */
  readonly btfFd?: number;
  readonly files?: CollectionSpec['files'];
  readonly lineStrings?: CollectionSpec['lineStrings'];
  /** Ask for the verifier's log even on success: 1 the path walked, 2 with states, 4 statistics only. */
  readonly log?: 1 | 2 | 4;
}

export interface ProgramInfo {
  readonly id: number;
  readonly name: string;
  /** Undefined for kinds that are not ours. */
  readonly type: ProgramType | undefined;
  /** First 8 bytes of the SHA of the instructions, in hex. */
  readonly tag: string;
  /** Bytes after the verifier rewrote it, and as machine code. */
  readonly xlatedBytes: number;
  readonly jitedBytes: number;
  /** Steps that the verifier took; the limit is 1,000,000. */
  readonly verifiedInstructions: number;
  readonly mapIds: readonly number[];
  /** Only counted while `kernel.bpf_stats_enabled` is 1. */
  readonly runCount: bigint;
  readonly runTimeNs: bigint;
}

export interface TestRun {
  /** The packet: at least an Ethernet header (14 bytes) for tc and XDP; none for syscall programs. */
  readonly data?: Uint8Array;
  /** The context: fields of `__sk_buff` (see `skbContext`), of `xdp_md`, or the argument of a syscall program. */
  readonly context?: Uint8Array;
  /** How often. Every run sees the packet as the one before left it. */
  readonly repeat?: number;
}

export interface TestResult {
  readonly retval: number;
  /** The packet afterwards. */
  readonly data: Uint8Array;
  /** The context afterwards. */
  readonly context: Uint8Array;
  /** Mean of one run. */
  readonly durationNs: number;
}

/** Fields of `__sk_buff` that a test run may set. */
export interface SkbContext {
  readonly mark?: number;
  readonly priority?: number;
  /** Must exist in the current network namespace; both are the loopback's unless told. */
  readonly ifindex?: number;
  readonly ingressIfindex?: number;
  readonly cb?: readonly number[];
  readonly tstamp?: bigint;
  readonly wireLength?: number;
  readonly gsoSegments?: number;
  readonly gsoSize?: number;
}

/** Syscall programs run in a process and can only be sleepable. */
const BPF_F_SLEEPABLE = 1 << 4;
const LINE_INFO_BYTES = 16;
const FUNC_INFO_BYTES = 8;
const MAX_COLUMN = 1023;
const FIRST_LOG_BYTES = 1 << 18;
/** A program that runs into the limit of 1,000,000 steps logs more. */
const MAX_LOG_BYTES = 1 << 24;
const ENOSPC = errnoNumber('ENOSPC');
const EAGAIN = errnoNumber('EAGAIN');
/** A signal that comes while the verifier works makes it give up; nothing is wrong with the program. */
const MAX_TRIES = 8;
/** Room for what a program may add to a packet: headers, never more than a page. */
const GROWTH_BYTES = 4096;
const SKB_BYTES = 192;
const INFO_BYTES = 224;

export class KernelProgram {
  readonly fd: number;
  readonly name: string;
  readonly type: ProgramType | undefined;
  /** The verifier's log, where one was asked for. */
  readonly log: string;
  #open = true;

  private constructor(fd: number, name: string, type: ProgramType | undefined, log = '') {
    this.fd = fd;
    this.name = name;
    this.type = type;
    this.log = log;
  }

  /** Throws a `VerifierError` when the verifier refuses. */
  static load(spec: ProgramSpec, context: LoadContext): KernelProgram {
    const attr = loadAttr(spec, context);
    const quiet = tryLoad(attr);
    if (quiet >= 0 && context.log === undefined) return new KernelProgram(quiet, spec.name, spec.type);
    if (quiet >= 0) closeFd(quiet);
    const { result, log } = loadWithLog(attr, context.log ?? 1);
    if (result >= 0) return new KernelProgram(result, spec.name, spec.type, log);
    // A log that did not fit hides the verifier's own answer, which the first attempt has.
    const errno = quiet < 0 ? -quiet : -result;
    if (log.trim() === '') throw bpfError(`load program "${spec.name}"`, 'PROG_LOAD', errno);
    throw new VerifierError(spec, context.files ?? [], errno, log);
  }

  /** The same for many, on two CPUs where there are; all or none. */
  static loadAll(specs: readonly ProgramSpec[], context: LoadContext, crew: Crew): KernelProgram[] {
    const attrs = specs.map((spec) => loadAttr(spec, context));
    // The longest first, so that both end at much the same time.
    const order = [...specs.keys()].sort((a, b) => specs[b]!.instructions.length - specs[a]!.instructions.length);
    const calls = order.map((i) => [COMMAND.PROG_LOAD, addressOf(attrs[i]!.bytes), ATTR_BYTES] as const);
    const loaded = new Map<number, KernelProgram>();
    for (const [turn, fd] of crew.call('bpf', calls).entries()) {
      const { name, type } = specs[order[turn]!]!;
      if (fd >= 0) loaded.set(order[turn]!, new KernelProgram(fd, name, type));
    }
    try {
      // What was refused is tried once more by itself: for its log, or as a signal came between.
      return specs.map((spec, i) => {
        const program = loaded.get(i) ?? KernelProgram.load(spec, context);
        loaded.set(i, program);
        return program;
      });
    } catch (error) {
      for (const program of loaded.values()) program.close();
      throw error;
    }
  }

  /** Takes over a file descriptor. */
  static fromFd(fd: number): KernelProgram {
    const { name, type } = readInfo(fd);
    return new KernelProgram(fd, name, type);
  }

  static fromPin(path: string): KernelProgram {
    return KernelProgram.fromFd(openPin(path));
  }

  static fromId(id: number): KernelProgram {
    return KernelProgram.fromFd(bpf(`open program ${id}`, 'PROG_GET_FD_BY_ID', new Attr().u32(0, id)));
  }

  info(): ProgramInfo {
    return readInfo(this.fd);
  }

  pin(path: string): void {
    pinObject(this.fd, path);
  }

  /** The file descriptor goes; the program stays while it is attached, pinned or in a program array. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    closeFd(this.fd);
  }

  /** Runs the program in this process, on data of our own, without an interface. */
  testRun(run: TestRun = {}): TestResult {
    const syscall = this.type === 'syscall';
    const input = run.data?.slice() ?? new Uint8Array();
    const output = new Uint8Array(syscall ? 0 : input.length + GROWTH_BYTES);
    const context = run.context?.slice() ?? new Uint8Array();
    // A syscall program's context comes back in place; the others' is written elsewhere.
    const contextOut = new Uint8Array(syscall ? 0 : context.length);
    const attr = new Attr().u32(0, this.fd).u32(32, syscall ? 0 : (run.repeat ?? 1));
    if (!syscall) attr.u32(8, input.length).u32(12, output.length).pointer(16, input).pointer(24, output);
    if (context.length > 0) attr.u32(40, context.length).pointer(48, context);
    if (contextOut.length > 0) attr.u32(44, contextOut.length).pointer(56, contextOut);
    bpf(`run program "${this.name}"`, 'PROG_TEST_RUN', attr);
    return {
      retval: attr.getU32(4),
      data: output.slice(0, attr.getU32(12)),
      context: syscall ? context : contextOut,
      durationNs: attr.getU32(36),
    };
  }
}

/** A test run's context for a tc program. */
export function skbContext(fields: SkbContext): Uint8Array {
  const bytes = new Uint8Array(SKB_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(8, fields.mark ?? 0, true);
  view.setUint32(32, fields.priority ?? 0, true);
  view.setUint32(36, fields.ingressIfindex ?? 0, true);
  view.setUint32(40, fields.ifindex ?? 0, true);
  for (const [i, value] of (fields.cb ?? []).entries()) view.setUint32(48 + i * 4, value, true);
  view.setBigUint64(152, fields.tstamp ?? 0n, true);
  view.setUint32(160, fields.wireLength ?? 0, true);
  view.setUint32(164, fields.gsoSegments ?? 0, true);
  view.setUint32(176, fields.gsoSize ?? 0, true);
  return bytes;
}

/** What a test run left in the context. */
export function readSkbContext(bytes: Uint8Array): Required<SkbContext> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return {
    mark: view.getUint32(8, true),
    priority: view.getUint32(32, true),
    ingressIfindex: view.getUint32(36, true),
    ifindex: view.getUint32(40, true),
    cb: Array.from({ length: 5 }, (_, i) => view.getUint32(48 + i * 4, true)),
    tstamp: view.getBigUint64(152, true),
    wireLength: view.getUint32(160, true),
    gsoSegments: view.getUint32(164, true),
    gsoSize: view.getUint32(176, true),
  };
}

function loadAttr(spec: ProgramSpec, context: LoadContext): Attr {
  const instructions = relocate(spec, context.maps);
  const attr = new Attr()
    .u32(0, PROGRAM_TYPES[spec.type])
    .u32(4, instructions.length / 8)
    .pointer(8, instructions)
    .pointer(16, cString(LICENSE))
    .u32(44, spec.type === 'syscall' ? BPF_F_SLEEPABLE : 0)
    .name(48, spec.name);
  if (context.btfFd === undefined || spec.functions.length === 0) return attr;
  attr.u32(72, context.btfFd);
  attr.u32(76, FUNC_INFO_BYTES).pointer(80, functionInfo(spec)).u32(88, spec.functions.length);
  const lines = lineInfo(spec, context.lineStrings ?? {});
  if (lines.length > 0)
    attr
      .u32(92, LINE_INFO_BYTES)
      .pointer(96, lines)
      .u32(104, lines.length / 4);
  return attr;
}

/** Fills in the file descriptors of the maps. */
function relocate(spec: ProgramSpec, maps: ReadonlyMap<string, KernelMap>): Uint8Array {
  const bytes = new Uint8Array(Buffer.from(spec.instructions, 'base64'));
  const view = new DataView(bytes.buffer);
  for (const relocation of spec.relocations) {
    const map = maps.get(relocation.map);
    if (map === undefined) {
      throw new Error(`Cannot load program "${spec.name}": it uses map "${relocation.map}", which is not there`);
    }
    view.setInt32(relocation.instruction * 8 + 4, map.fd, true);
    if (relocation.kind === 'mapValue') view.setInt32(relocation.instruction * 8 + 12, relocation.offset, true);
  }
  return bytes;
}

function functionInfo(spec: ProgramSpec): Uint32Array {
  return Uint32Array.from(spec.functions.flatMap(({ instruction, typeId }) => [instruction, typeId]));
}

/**
 * The kernel wants strictly increasing instructions, so of several lines at one the last, innermost, stays; and it wants a
 * line at the start of every function, so one without takes that of the next statement.
 */
function lineInfo(spec: ProgramSpec, strings: CollectionSpec['lineStrings']): Uint32Array {
  const byInstruction = new Map(spec.lines.map((line) => [line.instruction, line]));
  for (const { instruction } of spec.lines.length === 0 ? [] : spec.functions) {
    if (byInstruction.has(instruction)) continue;
    const next = spec.lines.find((line) => line.instruction > instruction) ?? spec.lines.at(-1)!;
    byInstruction.set(instruction, { ...next, instruction });
  }
  const lines = [...byInstruction.values()].sort((a, b) => a.instruction - b.instruction);
  return Uint32Array.from(
    lines.flatMap(({ instruction, file, line, column }) => [
      instruction,
      strings[`file:${file}`] ?? 0,
      strings[`${file}:${line}`] ?? 0,
      ((line << 10) | Math.min(column, MAX_COLUMN)) >>> 0,
    ]),
  );
}

function tryLoad(attr: Attr): number {
  let result = tryBpf('PROG_LOAD', attr);
  for (let tries = 1; result === -EAGAIN && tries < MAX_TRIES; tries++) result = tryBpf('PROG_LOAD', attr);
  return result;
}

/**
 * `log` is whole where that fits. Kernels since 6.4 say how large it would be, and keep its tail, where the reason stands;
 * older ones keep its head, so for them the buffer has to grow until it is whole.
 */
function loadWithLog(attr: Attr, level: number): { result: number; log: string } {
  for (let size = FIRST_LOG_BYTES; ; ) {
    const buffer = new Uint8Array(size);
    attr.u32(24, level).u32(28, size).pointer(32, buffer).u32(140, 0);
    const result = tryLoad(attr);
    const needed = attr.getU32(140);
    if (-result === ENOSPC) {
      const next = needed === 0 ? size * 8 : needed;
      if (next > size && next <= MAX_LOG_BYTES) {
        size = next;
        continue;
      }
    }
    const end = buffer.indexOf(0);
    return { result, log: new TextDecoder().decode(buffer.subarray(0, end < 0 ? size : end)) };
  }
}

function readInfo(fd: number): ProgramInfo {
  const count = objectInfo(fd, INFO_BYTES).getUint32(52, true);
  const ids = new Uint32Array(count);
  const info = objectInfo(fd, INFO_BYTES, (view) => {
    if (count === 0) return;
    view.setUint32(52, count, true);
    view.setBigUint64(56, BigInt(addressOf(ids)), true);
  });
  const number = info.getUint32(0, true);
  return {
    id: info.getUint32(4, true),
    name: infoName(info, 64),
    type: (Object.keys(PROGRAM_TYPES) as ProgramType[]).find((name) => PROGRAM_TYPES[name] === number),
    tag: Buffer.from(info.buffer, 8, 8).toString('hex'),
    jitedBytes: info.getUint32(16, true),
    xlatedBytes: info.getUint32(20, true),
    verifiedInstructions: info.getUint32(216, true),
    mapIds: [...ids],
    runTimeNs: info.getBigUint64(192, true),
    runCount: info.getBigUint64(200, true),
  };
}
