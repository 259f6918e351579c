import { expect, test } from 'vitest';
import { loadKeepalivedText } from '../model/load.ts';
import { insecure, type Stat, withoutInsecureChecks } from './script-security.ts';

const files: Readonly<Record<string, { uid: number; mode: number }>> = {
  '/': { uid: 0, mode: 0o755 },
  '/usr': { uid: 0, mode: 0o755 },
  '/usr/probe': { uid: 0, mode: 0o755 },
  '/usr/theirs': { uid: 1000, mode: 0o755 },
  '/open': { uid: 0, mode: 0o777 },
  '/open/probe': { uid: 0, mode: 0o755 },
};
const stat: Stat = (path) => files[path];
const script = (program: string, user?: string) => ({
  argv: [program],
  runAs: user === undefined ? undefined : { user },
});

test('a script of root in folders of root may run as root', () => {
  expect(insecure(script('/usr/probe'), stat)).toBeUndefined();
});

test('a script, or any folder above it, that others could write may not', () => {
  expect(insecure(script('/usr/theirs'), stat)).toBe('/usr/theirs can be written by others than root');
  expect(insecure(script('/open/probe', 'root'), stat)).toBe('/open can be written by others than root');
});

test('as another user it may', () => {
  expect(insecure(script('/open/probe', 'nobody'), stat)).toBeUndefined();
});

test('a bare name is looked up along PATH', () => {
  expect(insecure(script('theirs'), stat, '/none:/usr')).toBe('/usr/theirs can be written by others than root');
});

test('with enable_script_security an insecure check is removed, and the log says why', () => {
  const said: string[] = [];
  const say = (text: string): void => void said.push(text);
  const checks = ['/usr/probe', '/open/probe'].map((path) => `MISC_CHECK {\nmisc_path "${path}"\n}\n`).join('');
  const text = `virtual_server 10.0.0.1 80 {\nreal_server 10.1.0.1 80 {\n${checks}}\n}\n`;
  const left = (globals: string): number | undefined => {
    const { configuration } = loadKeepalivedText(`global_defs {\n${globals}\n}\n${text}`);
    const log = { info: say, warn: say, error: say };
    return withoutInsecureChecks(configuration, log, stat).virtualServers[0]?.realServers[0]?.checks.length;
  };
  expect(left('')).toBe(2);
  expect(said).toEqual([]);
  expect(left('enable_script_security')).toBe(1);
  expect(said[0]).toContain('/open can be written by others than root');
});
