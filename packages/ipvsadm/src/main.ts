/** The three programs on the process they run in. `packages/ipvsd` gives them names in PATH and a director to work on. */
import { basename } from 'node:path';
import type { Director } from '@ipvsd/director';
import type { Io, Output } from './io.ts';
import { runIpvsadm } from './run.ts';
import { rememberingNames, systemNames } from './services-names.ts';

export type OpenDirector = () => Director | Promise<Director>;

export async function ipvsadmMain(openDirector: OpenDirector): Promise<void> {
  process.exitCode = await runIpvsadm(process.argv.slice(2), processIo(openDirector, 'ipvsadm'));
}

export async function ipvsadmSaveMain(openDirector: OpenDirector): Promise<void> {
  const { runIpvsadmSave } = await import('./scripts.ts');
  process.exitCode = await runIpvsadmSave(process.argv.slice(2), processIo(openDirector, 'ipvsadm-save'));
}

export async function ipvsadmRestoreMain(openDirector: OpenDirector): Promise<void> {
  const { runIpvsadmRestore } = await import('./scripts.ts');
  process.exitCode = await runIpvsadmRestore(process.argv.slice(2), processIo(openDirector, 'ipvsadm-restore'));
}

export function processIo(openDirector: OpenDirector, name: string): Io {
  endQuietlyOnClosedPipe();
  return {
    director: openDirector,
    // Node opens it at the first look, which only a restore should pay for.
    get stdin() {
      return process.stdin;
    },
    stdout: output(process.stdout),
    stderr: output(process.stderr),
    names: rememberingNames(systemNames()),
    programName: calledAs(name),
    sleep: (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds, true)),
  };
}

/** The name in PATH or a link to it, as the operator typed it; a script file called by node is nobody's word. */
function calledAs(name: string): string {
  const typed = basename(process.argv[1] ?? name);
  return /\.[cm]?[jt]s$/.test(typed) ? name : typed;
}

function output(stream: NodeJS.WriteStream): Output {
  return {
    write: (text) => (stream.write(text) ? undefined : new Promise((resolve) => stream.once('drain', resolve))),
  };
}

/** `ipvsadm -Ln | head` is no error of ours. */
function endQuietlyOnClosedPipe(): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    process.exit(0);
  });
}
