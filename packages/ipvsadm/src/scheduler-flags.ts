/**
 * The three scheduler flags under their names: sh and mh name the first two after what they do, for every scheduler they
 * are flag-1, flag-2 and flag-3.
 */
import { schedulerFlag } from '@ipvsd/director';
import { usage } from './messages.ts';

interface FlagName {
  readonly name: string;
  readonly bit: number;
  /** The only scheduler this name may be said with. */
  readonly scheduler?: string;
}

const flagNames: readonly FlagName[] = [
  { name: 'sh-fallback', bit: schedulerFlag.first, scheduler: 'sh' },
  { name: 'sh-port', bit: schedulerFlag.second, scheduler: 'sh' },
  { name: 'mh-fallback', bit: schedulerFlag.first, scheduler: 'mh' },
  { name: 'mh-port', bit: schedulerFlag.second, scheduler: 'mh' },
  { name: 'flag-1', bit: schedulerFlag.first },
  { name: 'flag-2', bit: schedulerFlag.second },
  { name: 'flag-3', bit: schedulerFlag.third },
];

export function readSchedulerFlags(scheduler: string, words: string): number {
  let flags = 0;
  for (const word of words.split(/,+/)) {
    const known = flagNames.find(({ name }) => name === word);
    if (!known) throw usage.invalidSchedulerFlag(word);
    if (known.scheduler && known.scheduler !== scheduler) throw usage.incompatibleSchedulerFlag(word);
    flags |= known.bit;
  }
  return flags;
}

/** sh and mh have no name of their own for the third flag, so a list of theirs may be empty though a flag is set. */
export function schedulerFlagWords(scheduler: string, flags: number): string {
  const own = flagNames.filter((flag) => flag.scheduler === scheduler);
  const names = own.length > 0 ? own : flagNames.filter((flag) => flag.scheduler === undefined);
  return names
    .filter(({ bit }) => (flags & bit) !== 0)
    .map(({ name }) => name)
    .join(',');
}

/** As above, with the third flag under its common name: read back, this is the same set. */
export function completeSchedulerFlagWords(scheduler: string, flags: number): string {
  const words = schedulerFlagWords(scheduler, flags);
  if ((flags & schedulerFlag.third) === 0 || words.endsWith('flag-3')) return words;
  return words === '' ? 'flag-3' : `${words},flag-3`;
}
