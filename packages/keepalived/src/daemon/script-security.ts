/**
 * enable_script_security: a script that runs as root must not be one that others could write or replace. So it and every
 * folder above it must belong to root and be writable by root alone (a sticky folder such as /tmp is no protection for a
 * file that does not exist yet, and is refused too).
 */
import { type Stats, statSync } from 'node:fs';
import { dirname, isAbsolute, join } from 'node:path';
import type { Configuration, Script } from '../model/configuration.ts';
import type { Log } from './effects.ts';

const GROUP_OR_OTHERS_WRITE = 0o022;

export type Stat = (path: string) => Pick<Stats, 'uid' | 'mode'> | undefined;

/** Why it must not run, or undefined. */
export function insecure(
  { argv, runAs }: Script,
  stat: Stat = statOf,
  path = process.env['PATH'] ?? '',
): string | undefined {
  if (runAs !== undefined && runAs.user !== 'root' && runAs.user !== '0') return undefined;
  const program = find(argv[0] ?? '', stat, path);
  if (program === undefined) return undefined;
  for (let part = program; ; part = dirname(part)) {
    const found = stat(part);
    if (found && (found.uid !== 0 || (found.mode & GROUP_OR_OTHERS_WRITE) !== 0)) {
      return `${part} can be written by others than root`;
    }
    if (part === '/') return undefined;
  }
}

function find(program: string, stat: Stat, path: string): string | undefined {
  if (isAbsolute(program)) return program;
  return path
    .split(':')
    .map((folder) => join(folder, program))
    .find((candidate) => isAbsolute(candidate) && stat(candidate) !== undefined);
}

function statOf(path: string): Stats | undefined {
  return statSync(path, { throwIfNoEntry: false });
}

/** As keepalived does: such a check is removed, and the log says so. Its real server counts as alive without it. */
export function withoutInsecureChecks(configuration: Configuration, log: Log, stat: Stat = statOf): Configuration {
  if (!configuration.global.scriptSecurity) return configuration;
  const virtualServers = configuration.virtualServers.map((service) => ({
    ...service,
    realServers: service.realServers.map((server) => ({
      ...server,
      checks: server.checks.filter((check) => {
        const why = check.kind === 'MISC_CHECK' ? insecure(check.script, stat) : undefined;
        if (why !== undefined) log.error(`Removed the MISC_CHECK of ${server.name}, it is not secure: ${why}`);
        return why === undefined;
      }),
    })),
  }));
  return { ...configuration, virtualServers };
}
