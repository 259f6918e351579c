/**
 * The command `ipvsadm`: words in, text and an exit status out. Statuses are the original's: 0; 2 for a command line
 * that makes no sense; 255 where the director refuses; 1 for a listing of what is not there.
 */
import { type Director, DirectorError } from '@ipvsd/director';
import { parseArguments } from './arguments.ts';
import { changeOf } from './change.ts';
import type { Entry } from './entry.ts';
import type { Io } from './io.ts';
import { listFailedStatus, refusal, refusedStatus, UsageError, usage } from './messages.ts';
import { show } from './show.ts';

export async function runIpvsadm(argv: readonly string[], io: Io): Promise<number> {
  try {
    const entry = await parseArguments(argv.length === 0 ? ['-L'] : argv, io.programName, io.names);
    return await runEntry(entry, io);
  } catch (error) {
    return complain(error, io);
  }
}

/** Says what ended a run, in the operator's words if it was the operator's or the director's doing. */
export async function complain(error: unknown, io: Io): Promise<number> {
  if (!(error instanceof UsageError) && !(error instanceof DirectorError)) throw error;
  await io.stderr.write(`${error instanceof UsageError ? error.message : refusal('other', error)}\n`);
  return error instanceof UsageError ? error.status : refusedStatus;
}

async function runEntry(entry: Entry, io: Io): Promise<number> {
  if (isAboutProgram(entry)) return showProgram(entry, io);
  const director = await openDirector(io);
  if (entry.command.name !== 'restore') return runOnDirector(entry, director, io);
  const { restore } = await import('./restore.ts');
  return restore(director, io, { atomic: entry.seen.has('atomic'), clear: false });
}

export function isAboutProgram({ command }: Entry): boolean {
  return command.name === 'help' || command.name === 'version';
}

export async function showProgram({ command }: Entry, io: Io): Promise<number> {
  const { helpText, version } = await import('./help.ts');
  await io.stdout.write(command.name === 'help' ? helpText(io.programName) : version);
  return 0;
}

export async function runOnDirector(entry: Entry, director: Director, io: Io): Promise<number> {
  const change = changeOf(entry);
  try {
    if (!change) await show(entry, director, io);
    else director.execute(change.command);
    return 0;
  } catch (error) {
    if (!(error instanceof DirectorError)) throw error;
    await io.stderr.write(`${refusal(change?.operation ?? 'service', error)}\n`);
    return change ? refusedStatus : listFailedStatus;
  }
}

export async function openDirector(io: Io): Promise<Director> {
  try {
    return await io.director();
  } catch (error) {
    if (!(error instanceof DirectorError)) throw error;
    throw usage.cannotInitialize(error.code === 'EPERM' ? refusal('other', error) : error.message);
  }
}
