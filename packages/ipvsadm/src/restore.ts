/**
 * `-R`: every line of standard input is a command line. As in the original a line the director refuses is reported and
 * passed over, a line that makes no sense ends the restore, and the status is that of the last line.
 *
 * Changes in a row are handed to the director together, which is what makes ten thousand lines quick. `--atomic` hands
 * over all of them at once or none: the first wrong line names itself and the table stays as it was.
 */
import type { Command, Director } from '@ipvsd/director';
import { parseArguments } from './arguments.ts';
import { type Change, changeOf } from './change.ts';
import type { Entry } from './entry.ts';
import { type Io, readAll } from './io.ts';
import { refusal, refusedStatus, UsageError, usage } from './messages.ts';
import { isAboutProgram, runOnDirector, showProgram } from './run.ts';

export interface RestoreOptions {
  readonly atomic: boolean;
  /** ipvsadm-restore empties the table first. */
  readonly clear: boolean;
  /** ipvsadm-restore leaves comment lines out. */
  readonly skipComments?: boolean;
}

const flush: Change = { operation: 'other', command: { kind: 'flush' } };

interface Line {
  readonly number: number;
  readonly words: readonly string[];
}

export async function restore(director: Director, io: Io, options: RestoreOptions): Promise<number> {
  const lines = readLines(await readAll(io.stdin), options.skipComments ?? false);
  return options.atomic ? restoreAtomically(director, io, lines, options) : restoreInTurn(director, io, lines, options);
}

/** The name of the program may begin a line, as in a script. */
function readLines(text: string, skipComments: boolean): Line[] {
  return text
    .split('\n')
    .map((line, index) => ({ number: index + 1, text: line }))
    .filter(({ text }) => !(skipComments && text.startsWith('#')))
    .map(({ number, text }) => ({ number, words: text.split(/\s+/).filter((word) => !/^(ipvsadm)?$/.test(word)) }))
    .filter(({ words }) => words.length > 0);
}

async function restoreInTurn(director: Director, io: Io, lines: readonly Line[], options: RestoreOptions) {
  const pending: Change[] = options.clear ? [flush] : [];
  let status = 0;
  const carryOut = async () => {
    if (pending.length === 0) return;
    const errors = director.executeAll(commandsOf(pending), { atomic: false });
    for (const [index, error] of errors.entries()) {
      if (error) await io.stderr.write(`${refusal(pending[index]!.operation, error)}\n`);
      status = error ? refusedStatus : 0;
    }
    pending.length = 0;
  };
  for (const { words } of lines) {
    const entry = await parseLine(words, io).catch(async (error: unknown) => {
      if (!(error instanceof UsageError)) throw error;
      await carryOut();
      if (!error.continues) throw error;
      await io.stderr.write(`${error.message}\n`);
      status = error.status;
    });
    const change = entry && changeOf(entry);
    if (change) pending.push(change);
    else if (entry) {
      await carryOut();
      if (entry.command.name === 'restore') throw usage.tryHelp(io.programName);
      // These end the program in the original, and so the restore.
      if (isAboutProgram(entry)) return showProgram(entry, io);
      status = await runOnDirector(entry, director, io);
      if (status !== 0) return status;
    }
  }
  await carryOut();
  return status;
}

async function restoreAtomically(director: Director, io: Io, lines: readonly Line[], options: RestoreOptions) {
  const changes: Change[] = options.clear ? [flush] : [];
  const numbers = changes.map(() => 0);
  const complain = (number: number, text: string) => io.stderr.write(`line ${number}: ${text}\n`);
  for (const { number, words } of lines) {
    try {
      const entry = await parseLine(words, io);
      const change = changeOf(entry);
      if (!change) throw usage.notAtomic(entry.command.name);
      changes.push(change);
      numbers.push(number);
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      await complain(number, error.message);
      return error.status;
    }
  }
  const errors = director.executeAll(commandsOf(changes), { atomic: true });
  const first = errors.findIndex((error) => error !== undefined);
  if (first < 0) return 0;
  await complain(numbers[first]!, refusal(changes[first]!.operation, errors[first]!));
  return refusedStatus;
}

function parseLine(words: readonly string[], io: Io): Promise<Entry> {
  return parseArguments(words, io.programName, io.names);
}

function commandsOf(changes: readonly Change[]): Command[] {
  return changes.map(({ command }) => command);
}
