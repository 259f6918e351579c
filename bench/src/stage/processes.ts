/**
 * Processes of the bench: each in a network namespace, a cgroup and on chosen CPUs from its first instruction on, so that
 * none of its CPU time is anybody else's. And what CPU time they took.
 */
import { type ChildProcess, execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createInterface, type Interface } from 'node:readline';
import { spawnInNamespace } from '@ipvsd/linux';
import { CGROUPS, MINE, removeCgroup, undoAtEnd } from './cleanup.ts';

export class Group {
  readonly path: string;

  /** A cgroup of version 2, which counts CPU time without any controller. */
  constructor(name: string) {
    if (!existsSync(`${CGROUPS}/cgroup.procs`)) {
      throw new Error(`Cannot measure CPU time: ${CGROUPS} is not a cgroup v2 file system`);
    }
    const parent = `${CGROUPS}/${MINE}`;
    if (!existsSync(parent)) {
      mkdirSync(parent);
      undoAtEnd(() => removeCgroup(parent));
    }
    this.path = `${parent}/${name}`;
    mkdirSync(this.path);
  }

  /** End all its processes: a master's workers too. */
  async end(task: Task | undefined): Promise<void> {
    writeFileSync(`${this.path}/cgroup.kill`, '1');
    await task?.gone();
  }

  /** CPU time that its processes took, in microseconds. */
  cpuUs(): number {
    return Number(/usage_usec (\d+)/.exec(readFileSync(`${this.path}/cpu.stat`, 'utf8'))![1]);
  }
}

export class Task {
  readonly #child: ChildProcess;
  readonly #lines: Interface;
  readonly #name: string;
  readonly #waiting: { resolve: (line: string) => void; reject: (error: Error) => void }[] = [];
  #complaints = '';
  #ended = false;

  constructor(namespace: string, group: Group, cpus: string, command: string, args: readonly string[]) {
    this.#name =
      args
        .find((arg) => arg.endsWith('.js'))
        ?.split('/')
        .at(-1) ?? command;
    const enter = 'echo $$ > "$0/cgroup.procs"; exec taskset -c "$@"';
    this.#child = spawnInNamespace(namespace, '/bin/sh', ['-c', enter, group.path, cpus, command, ...args], {
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    this.#lines = createInterface({ input: this.#child.stdout! });
    this.#lines.on('line', (line) => this.#waiting.shift()?.resolve(line));
    this.#child.stderr!.on('data', (data: Buffer) => {
      this.#complaints = (this.#complaints + data.toString()).slice(-2000);
    });
    this.#child.once('exit', (code, signal) => {
      this.#ended = true;
      const error = new Error(`${this.#name} ended with ${code ?? signal}: ${this.#complaints.trim()}`);
      for (const { reject } of this.#waiting.splice(0)) reject(error);
    });
  }

  get ended(): string | undefined {
    return this.#ended ? this.#complaints.trim() || 'it ended' : undefined;
  }

  /** The next line that it prints. */
  line(): Promise<string> {
    if (this.#ended) return Promise.reject(new Error(`${this.#name} has ended: ${this.#complaints.trim()}`));
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  ask(text: string): Promise<string> {
    const answer = this.line();
    this.#child.stdin!.write(`${text}\n`);
    return answer;
  }

  pin(cpus: string): void {
    execFileSync('taskset', ['-acp', cpus, String(this.#child.pid)], { stdio: 'ignore' });
  }

  gone(): Promise<void> {
    if (this.#ended) return Promise.resolve();
    return new Promise((resolve) => this.#child.once('exit', () => resolve()));
  }
}

/** CPU time of the kernel's own threads that handle packets, in microseconds: what no cgroup is charged for. */
export function kernelThreadsUs(): number {
  threads ??= readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .filter((pid) => /^(ksoftirqd|napi|rcu|rcuo|rcuc)/.test(readQuietly(`/proc/${pid}/comm`)));
  const ns = threads.map((pid) => Number(readQuietly(`/proc/${pid}/schedstat`).split(' ')[0] ?? 0));
  return ns.reduce((sum, each) => sum + each, 0) / 1000;
}

let threads: string[] | undefined;

function readQuietly(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
