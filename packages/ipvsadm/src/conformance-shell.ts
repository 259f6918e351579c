/**
 * The handful of shell the recordings are made of, against files that exist only as settings of a director: `cd`, `cat`,
 * `echo` with `>`, `for ... in`, `ls`, the filters behind it, and our own programs. Anything else is an error that shows
 * up as a difference.
 */
import type { DirectorError } from '@ipvsd/director';

export interface Outcome {
  readonly stdout: string;
  readonly stderr: string;
  readonly status: number;
}

export interface Programs {
  run(name: 'ipvsadm' | 'ipvsadm-save' | 'ipvsadm-restore', argv: readonly string[], stdin: string): Promise<Outcome>;
  /** A file's text, a folder's files, or undefined. */
  readProc(path: string): ReadonlyMap<string, string> | string | undefined;
  writeSysctl(name: string, value: string): DirectorError | undefined;
}

export async function runShell(
  text: string,
  programs: Programs,
  files: Map<string, string>,
  stdin: string,
): Promise<Outcome> {
  return new Shell(programs, files).runScript(text, stdin);
}

const sysctlFolder = '/proc/sys/net/ipv4/vs';
const netFolder = '/proc/net';
const netFiles = ['ip_vs', 'ip_vs_app', 'ip_vs_conn', 'ip_vs_conn_sync', 'ip_vs_stats', 'ip_vs_stats_percpu'];

class Shell {
  readonly #programs: Programs;
  readonly #files: Map<string, string>;
  readonly #variables = new Map([['?', '0']]);
  #folder = '';

  constructor(programs: Programs, files: Map<string, string>) {
    this.#programs = programs;
    this.#files = files;
  }

  async runScript(text: string, stdin = ''): Promise<Outcome> {
    let [stdout, stderr, status] = ['', '', 0];
    for (const statement of splitOutside(text, ';')) {
      const outcome = await this.#runStatement(statement.trim(), stdin);
      stdout += outcome.stdout;
      stderr += outcome.stderr;
      status = outcome.status;
      this.#variables.set('?', String(status));
    }
    return { stdout, stderr, status };
  }

  async #runStatement(text: string, stdin: string): Promise<Outcome> {
    const loop = /^for (\w+) in (.*?); do (.*); done$/s.exec(text);
    if (loop) return this.#runLoop(loop[1]!, loop[2]!, loop[3]!);
    let [input, stderr] = [stdin, ''];
    let outcome: Outcome = { stdout: '', stderr: '', status: 0 };
    for (const command of splitOutside(text, '|')) {
      outcome = await this.#runCommand(command.trim(), input);
      input = outcome.stdout;
      stderr += outcome.stderr;
    }
    return { ...outcome, stderr };
  }

  async #runLoop(variable: string, list: string, body: string): Promise<Outcome> {
    let [stdout, stderr] = ['', ''];
    for (const word of await this.#expand(list)) {
      this.#variables.set(variable, word);
      const outcome = await this.runScript(body);
      stdout += outcome.stdout;
      stderr += outcome.stderr;
    }
    return { stdout, stderr, status: 0 };
  }

  async #runCommand(text: string, stdin: string): Promise<Outcome> {
    const redirected = /^(.*?)\s*(?:(2>&1)|([<>])\s*(\S+))\s*$/s.exec(text);
    if (!redirected) {
      const [name = '', ...words] = await this.#expand(text);
      return this.#runProgram(name, words, stdin);
    }
    const [, command = '', both, direction, target = ''] = redirected;
    if (direction === '<') return this.#runCommand(command, this.#files.get(target) ?? '');
    const outcome = await this.#runCommand(command, stdin);
    if (both) return { ...outcome, stdout: outcome.stderr + outcome.stdout, stderr: '' };
    return this.#write(target, outcome, command.split(' ', 1)[0]!);
  }

  #write(target: string, outcome: Outcome, program: string): Outcome {
    const path = this.#path(target);
    if (!path.startsWith(`${sysctlFolder}/`)) {
      this.#files.set(target, outcome.stdout);
      return { ...outcome, stdout: '' };
    }
    const error = this.#programs.writeSysctl(path.slice(sysctlFolder.length + 1), outcome.stdout.replace(/\n$/, ''));
    if (!error) return { ...outcome, stdout: '' };
    const reasons: Partial<Record<string, string>> = {
      EINVAL: `${program}: write error: Invalid argument`,
      EACCES: `${target}: Permission denied`,
    };
    const reason = reasons[error.code] ?? `${target}: No such file or directory`;
    return { stdout: '', stderr: `/bin/bash: line 1: ${reason}\n`, status: 1 };
  }

  async #runProgram(name: string, words: readonly string[], stdin: string): Promise<Outcome> {
    switch (name) {
      case 'ipvsadm':
      case 'ipvsadm-save':
      case 'ipvsadm-restore':
        return this.#programs.run(name, words, stdin);
      case 'cd':
        this.#folder = words[0] ?? '';
        return said('');
      case 'echo':
        return said(`${words.join(' ')}\n`);
      case 'printf':
        return said((words[0] ?? '').replaceAll('\\n', '\n'));
      case 'cat':
        return words.length === 0 ? said(stdin) : joined(words.map((word) => this.#cat(word)));
      case 'ls':
        return this.#ls(words);
      case 'wc':
        return said(`${lines(stdin).length}\n`);
      case 'sort':
        return said(unlines(lines(stdin).sort()));
      case 'uniq':
        return said(unlines(countRuns(lines(stdin))));
      case 'cut':
        return said(unlines(lines(stdin).map((line) => line.slice(0, Number(words[0]?.replace('-c1-', ''))))));
      default:
        return { stdout: '', stderr: `/bin/bash: line 1: ${name}: command not found\n`, status: 127 };
    }
  }

  #cat(word: string): Outcome {
    const text = this.#files.get(word) ?? this.#programs.readProc(this.#path(word));
    if (typeof text === 'string') return said(text);
    return { stdout: '', stderr: `cat: ${word}: No such file or directory\n`, status: 1 };
  }

  /** Long lists show the mode and the name, which is all that is ever looked at. */
  #ls(words: readonly string[]): Outcome {
    const long = words.includes('-l');
    const show = (path: string) => (long ? `${this.#mode(path)} ${path}` : path);
    const paths = words.filter((word) => !word.startsWith('-'));
    const outcomes = (paths.length > 0 ? paths : ['']).map((path) => {
      const content = this.#programs.readProc(this.#path(path));
      if (content === undefined) {
        return { stdout: '', stderr: `ls: cannot access '${path}': No such file or directory\n`, status: 2 };
      }
      if (typeof content === 'string' || words.includes('-d')) return said(`${show(path)}\n`);
      return said((long ? 'total 0\n' : '') + unlines([...content.keys()].map((file) => show(file))));
    });
    return { ...joined(outcomes), status: Math.max(...outcomes.map(({ status }) => status)) };
  }

  #mode(path: string): string {
    return path.startsWith(netFolder) || path === 'debug_level' ? '-r--r--r--' : '-rw-r--r--';
  }

  #path(word: string): string {
    return word.startsWith('/') || this.#folder === '' ? word : `${this.#folder}/${word}`.replace(/\/$/, '');
  }

  /** Words after quotes, variables, command substitution and `*`. */
  async #expand(text: string): Promise<string[]> {
    const expanded: string[] = [];
    for (const [part] of text.matchAll(/(?:"(?:\$\([^)]*\)|[^"])*"|'[^']*'|\$\([^)]*\)|[^\s"'])+/g)) {
      if (part.startsWith("'")) expanded.push(part.slice(1, -1));
      else if (part.includes('*') && !part.startsWith('"')) expanded.push(...this.#glob(part));
      else expanded.push(await this.#substitute(part.replaceAll('"', '')));
    }
    return expanded;
  }

  async #substitute(text: string): Promise<string> {
    let result = text;
    for (const [whole, script] of text.matchAll(/\$\(([^)]*)\)/g)) {
      const { stdout } = await new Shell(this.#programs, this.#files).in(this).runScript(script!);
      result = result.replace(whole, stdout.replace(/\n+$/, ''));
    }
    return result.replace(/\$(\w+|\?)/g, (_, name: string) => this.#variables.get(name) ?? '');
  }

  in(outer: Shell): this {
    this.#folder = outer.#folder;
    for (const [name, value] of outer.#variables) this.#variables.set(name, value);
    return this;
  }

  #glob(pattern: string): string[] {
    const names = pattern.startsWith(netFolder)
      ? netFiles.map((name) => `${netFolder}/${name}`)
      : this.#sysctlNames().map((name) => (pattern.startsWith('/') ? `${sysctlFolder}/${name}` : name));
    const regexp = new RegExp(`^${pattern.replaceAll('*', '.*')}$`);
    return names.filter((name) => regexp.test(name)).sort();
  }

  #sysctlNames(): string[] {
    const folder = this.#programs.readProc(sysctlFolder);
    return folder && typeof folder !== 'string' ? [...folder.keys()] : [];
  }
}

/** Splits at a separator that stands outside quotes, parentheses and loops. */
function splitOutside(text: string, separator: string): string[] {
  const parts = text.match(new RegExp(`(?:for .*?; done|"[^"]*"|'[^']*'|\\$\\([^)]*\\)|[^${separator}])+`, 'gs'));
  return parts ?? [];
}

function said(stdout: string): Outcome {
  return { stdout, stderr: '', status: 0 };
}

function joined(outcomes: readonly Outcome[]): Outcome {
  const text = (key: 'stdout' | 'stderr') => outcomes.map((outcome) => outcome[key]).join('');
  return {
    stdout: text('stdout'),
    stderr: text('stderr'),
    status: Math.max(0, ...outcomes.map((each) => each.status)),
  };
}

function lines(text: string): string[] {
  return text.split('\n').slice(0, -1);
}

function unlines(all: readonly string[]): string {
  return all.map((line) => `${line}\n`).join('');
}

function countRuns(all: readonly string[]): string[] {
  const counts = new Map<string, number>();
  for (const line of all) counts.set(line, (counts.get(line) ?? 0) + 1);
  return [...counts].map(([line, count]) => `${String(count).padStart(7)} ${line}`);
}
