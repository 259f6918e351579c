/** Where recorded commands are played: our programs in this process, on a director of any plane. */
import { existsSync, readFileSync } from 'node:fs';
import { type Director, DirectorError, describeSysctls } from '@ipvsd/director';
import type { Programs } from './conformance-shell.ts';
import { CapturedOutput, textInput } from './io.ts';
import {
  formatProcApplications,
  formatProcConnections,
  formatProcCpuStats,
  formatProcServices,
  formatProcStats,
  formatProcSyncedConnections,
} from './proc.ts';
import { runIpvsadm } from './run.ts';
import { runIpvsadmRestore, runIpvsadmSave } from './scripts.ts';
import { fileNames, type Names } from './services-names.ts';

/** Settings that the kernel's ip_vs has not got. */
const OURS = new Set(describeSysctls().flatMap(({ name, ours }) => (ours ? [name] : [])));

export interface Stage extends Programs {
  close?(): void | Promise<void>;
}

/** The namespace the recordings were made in. */
export interface World {
  readonly scenario: string;
  /** Names and MTUs. */
  readonly interfaces: ReadonlyMap<string, number>;
}

/** Its /etc/hosts, and the ports of Debian's netbase, here as far as this machine knows them. */
export function recordedNames(): Names {
  const hosts = `
127.0.0.1 localhost
::1 localhost
192.0.2.10 vip10.example.net vip10
10.2.0.11 rs1.example.net rs1
2001:db8::10 vip6.example.net vip6`;
  const files = ['/etc/services', new URL('../golden/services', import.meta.url)].filter((file) => existsSync(file));
  return fileNames(hosts, files.map((file) => readFileSync(file, 'utf8')).join('\n'));
}

export function directorStage(director: Director, names: Names): Stage {
  return {
    run: async (name, argv, stdin) => {
      const [stdout, stderr] = [new CapturedOutput(), new CapturedOutput()];
      const io = { director: () => director, stdin: textInput(stdin), stdout, stderr, names, programName: name };
      const program = { ipvsadm: runIpvsadm, 'ipvsadm-save': runIpvsadmSave, 'ipvsadm-restore': runIpvsadmRestore }[
        name
      ];
      return { status: await program(argv, io), stdout: stdout.text, stderr: stderr.text };
    },
    readProc: (path) => readProc(director, path),
    writeSysctl: (name, value) => writeSysctl(director, name, value),
  };
}

const sysctlFolder = '/proc/sys/net/ipv4/vs/';

function readProc(director: Director, path: string): ReadonlyMap<string, string> | string | undefined {
  if (`${path}/` === sysctlFolder) return new Map([...director.sysctls()].filter(([name]) => !OURS.has(name)));
  if (path.startsWith(sysctlFolder)) {
    const value = director.sysctls().get(path.slice(sysctlFolder.length));
    return value === undefined ? undefined : `${value}\n`;
  }
  return netFiles[path]?.(director);
}

const netFiles: Readonly<Record<string, (director: Director) => string>> = {
  '/proc/net/ip_vs': formatProcServices,
  // The kernel's helper is a module, which was not loaded.
  '/proc/net/ip_vs_app': () => formatProcApplications([], []),
  '/proc/net/ip_vs_conn': (director) => [...formatProcConnections(director.connections())].join(''),
  '/proc/net/ip_vs_conn_sync': (director) => [...formatProcSyncedConnections(director.connections())].join(''),
  '/proc/net/ip_vs_stats': formatProcStats,
  '/proc/net/ip_vs_stats_percpu': formatProcCpuStats,
};

function writeSysctl(director: Director, name: string, value: string): DirectorError | undefined {
  try {
    director.execute({ kind: 'setSysctl', name, value });
    return undefined;
  } catch (error) {
    if (error instanceof DirectorError) return error;
    throw error;
  }
}
