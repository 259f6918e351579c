/** Numbers of users and groups by name, read from the files every Linux has. */
import { readFileSync } from 'node:fs';
import type { ScriptUser } from '../model/configuration.ts';

export interface Credentials {
  readonly uid: number;
  readonly gid: number;
}

/** keepalived's own account for scripts, where somebody has made it. */
const DEFAULT_USER = 'keepalived_script';

/** Undefined: as this process itself. Throws where a name is unknown: a script must not run as root by a slip. */
export function credentialsOf(runAs: ScriptUser | undefined): Credentials | undefined {
  if (runAs === undefined) return entryOf(DEFAULT_USER);
  const user = entryOf(runAs.user);
  if (user === undefined) throw new Error(`there is no user "${runAs.user}"`);
  if (runAs.group === undefined) return user;
  const [, , gid] = lineOf('/etc/group', runAs.group) ?? [];
  if (gid === undefined) throw new Error(`there is no group "${runAs.group}"`);
  return { uid: user.uid, gid: Number(gid) };
}

function entryOf(name: string): Credentials | undefined {
  const [, , uid, gid] = lineOf('/etc/passwd', name) ?? [];
  return uid === undefined || gid === undefined ? undefined : { uid: Number(uid), gid: Number(gid) };
}

function lineOf(file: string, name: string): string[] | undefined {
  const lines = readFileSync(file, 'utf8')
    .split('\n')
    .map((line) => line.split(':'));
  return lines.find(([first, , number]) => first === name || (number === name && /^[0-9]+$/.test(name)));
}
