import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { commands } from './commands.ts';
import { completionScript, optionsOf, shells } from './completion.ts';
import { helpText } from './help.ts';
import { options } from './options.ts';

const offered = (...words: readonly string[]) => {
  const script = `${completionScript('bash')}
COMP_WORDS=(${words.map((word) => `'${word}'`).join(' ')}); COMP_CWORD=${words.length - 1}; _ipvsadm; echo "\${COMPREPLY[@]}"`;
  return spawnSync('bash', ['-c', script], { encoding: 'utf8' }).stdout.trim().split(' ');
};

describe('bash completion', () => {
  test('offers commands first', () => {
    expect(offered('ipvsadm', '--add-s')).toEqual(['--add-service', '--add-server']);
  });
  test('offers a command only what it may have', () => {
    expect(offered('ipvsadm', '-A', '--s')).toEqual(['--sctp-service', '--scheduler', '--sched-flags']);
    expect(offered('ipvsadm', '-L', '--st')).toEqual(['--stats']);
  });
  test('offers the values of an option', () => {
    expect(offered('ipvsadm', '-A', '-s', 'w')).toEqual(['wrr', 'wlc']);
    expect(offered('ipvsadm', '--start-daemon', 'm')).toEqual(['master']);
  });
});

test.each(shells)('the %s script knows every command and option', (shell) => {
  const script = completionScript(shell);
  for (const { long } of [...commands, ...options]) if (long !== 'sort') expect(script).toContain(long);
});

test('every option stands beside some command', () => {
  const reachable = new Set(commands.flatMap(optionsOf));
  expect(options.filter((option) => !reachable.has(option)).map(({ long }) => long)).toEqual(['sort']);
});

test('the help text names every word of the original and none of ours', () => {
  const help = helpText('ipvsadm');
  for (const { long, ours } of [...commands, ...options]) {
    if (long === 'version') continue;
    expect(help.includes(`--${long}`), long).toBe(!ours);
  }
});

test('the man page names every command and option', () => {
  const page = readFileSync(new URL('../man/ipvsadm.8', import.meta.url), 'utf8').replaceAll('\\-', '-');
  const words = [...commands, ...options].map(({ long }) => `--${long}`);
  const unnamed = ['--ipv6', '--sort', '--laddr', '--ifname', '--help', '--version'];
  expect(words.filter((word) => !page.includes(word) && !unnamed.includes(word))).toEqual([]);
});
