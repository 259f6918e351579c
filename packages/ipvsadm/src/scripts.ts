/** ipvsadm-save and ipvsadm-restore: two scripts around ipvsadm in the original, two functions here. */
import type { Io } from './io.ts';
import { complain, openDirector, runIpvsadm } from './run.ts';

export async function runIpvsadmSave(argv: readonly string[], io: Io): Promise<number> {
  const known = ['-n', '--numeric', '--complete'];
  if (argv.every((word) => known.includes(word))) return runIpvsadm(['-S', ...argv], { ...io, programName: 'ipvsadm' });
  await io.stderr.write(`Usage: ${io.programName} [-n] [--complete]\n`);
  return 1;
}

/** Replaces the table by what standard input says; with `--atomic` only when every line is good. */
export async function runIpvsadmRestore(argv: readonly string[], io: Io): Promise<number> {
  if (!argv.every((word) => word === '--atomic')) {
    await io.stderr.write(`Usage: ${io.programName} [--atomic]\n`);
    return 1;
  }
  const inner = { ...io, programName: 'ipvsadm' };
  try {
    const director = await openDirector(inner);
    const { restore } = await import('./restore.ts');
    return await restore(director, inner, { atomic: argv.length > 0, clear: true, skipComments: true });
  } catch (error) {
    return complain(error, inner);
  }
}
