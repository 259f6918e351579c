/** The load of this host, read from /proc. Reading and judging are apart, so the judging is tested on texts. */
import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';

export interface ProcFiles {
  readonly stat: string;
  readonly meminfo: string;
  readonly sockstat: string;
}

export interface Measure {
  /** Shares, 0 to 1. */
  readonly cpu: number;
  readonly memory: number;
  /** Tasks that run or wait to run, and how many can run at once. */
  readonly running: number;
  readonly cpus: number;
  readonly sockets: number;
}

export interface CpuTimes {
  readonly busy: number;
  readonly all: number;
}

/** Memory is no load until it is nearly gone. */
const TIGHT_MEMORY = 0.9;

export function readProc(): ProcFiles {
  const read = (name: string): string => readFileSync(`/proc/${name}`, 'utf8');
  return { stat: read('stat'), meminfo: read('meminfo'), sockstat: read('net/sockstat') };
}

/** Waiting for disks is not being busy, but time stolen by the hypervisor is time that is not there. */
export function cpuTimes(stat: string): CpuTimes {
  const times = (/^cpu +(.*)$/m.exec(stat)?.[1] ?? '').split(' ').map(Number);
  const [user = 0, nice = 0, system = 0, idle = 0, waiting = 0, irq = 0, softirq = 0, steal = 0] = times;
  const busy = user + nice + system + irq + softirq + steal;
  return { busy, all: busy + idle + waiting };
}

export function measure(files: ProcFiles, before: CpuTimes, cpuCount: number = cpus().length): Measure {
  const now = cpuTimes(files.stat);
  const passed = now.all - before.all;
  const kilobytes = (name: string): number =>
    Number(new RegExp(`^${name}: *([0-9]+)`, 'm').exec(files.meminfo)?.[1] ?? 0);
  const total = kilobytes('MemTotal');
  return {
    cpu: passed > 0 ? Math.min(1, Math.max(0, (now.busy - before.busy) / passed)) : 0,
    memory: total > 0 ? 1 - kilobytes('MemAvailable') / total : 0,
    running: Number(/^procs_running ([0-9]+)/m.exec(files.stat)?.[1] ?? 0),
    cpus: cpuCount,
    sockets: Number(/^TCP: inuse ([0-9]+)/m.exec(files.sockstat)?.[1] ?? 0),
  };
}

/**
 * One number. The CPU says how much is used, up to 1; beyond that only the queue tells a full server from an
 * overwhelmed one. Our own process is one of those running, so it is taken off.
 */
export function loadOf({ cpu, memory, running, cpus: count }: Measure): number {
  const waiting = Math.max(0, running - 1 - count) / count;
  const tight = Math.max(0, memory - TIGHT_MEMORY) / (1 - TIGHT_MEMORY);
  return Math.max(cpu + waiting, tight);
}
