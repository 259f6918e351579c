import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createEnvironment, type Director, DirectorError, MemoryDirector } from '@ipvsd/director';
import { describe, expect, test } from 'vitest';
import { CapturedOutput, textInput } from './io.ts';
import { runIpvsadm } from './run.ts';
import { runIpvsadmRestore, runIpvsadmSave } from './scripts.ts';
import { fileNames } from './services-names.ts';

/**
 * `cases/*.txt`: command lines after `$`, what they print below, `2>` before stderr, `=> N` where the status is not 0,
 * `<` before lines of standard input. Every file is one director. UPDATE=1 writes what is printed now.
 */
const { UPDATE } = process.env;
const folder = new URL('../cases/', import.meta.url);

describe.each(readdirSync(folder))('%s', (file) => {
  const url = new URL(file, folder);
  const expected = readFileSync(url, 'utf8');
  test('prints what it says', async () => {
    const actual = await play(expected);
    if (UPDATE) writeFileSync(url, actual);
    else expect(actual).toBe(expected);
  });
});

const names = fileNames(
  '10.2.0.11 rs1.example.net rs1\n2001:db8::10 vip6.example.net\n192.0.2.77 a-very-long-name-of-a-host.example.net',
  'http 80/tcp www\ndomain 53/tcp\ndomain 53/udp\nhttps 443/tcp',
);

async function play(text: string): Promise<string> {
  const interfaces = new Map([['eth0', 1500]]);
  const director = new MemoryDirector({ environment: createEnvironment({ interfaces }) });
  let result = text.slice(0, text.indexOf('$ '));
  for (const block of text.slice(result.length).split(/^(?=\$ )/m)) {
    const [command = '', ...rest] = block.split('\n');
    const input = rest.filter((line) => line.startsWith('< '));
    const blank = /\n\n$/.test(block) ? '\n' : '';
    const outcome = await run(command.slice(2), input.map((line) => `${line.slice(2)}\n`).join(''), director);
    result += `${[command, ...input].join('\n')}\n${outcome}${blank}`;
  }
  return result;
}

async function run(command: string, stdin: string, director: Director): Promise<string> {
  const [stdout, stderr] = [new CapturedOutput(), new CapturedOutput()];
  const [programName = '', ...argv] = [...command.matchAll(/'([^']*)'|\S+/g)].map(([word, quoted]) => quoted ?? word);
  const io = { director: () => director, stdin: textInput(stdin), stdout, stderr, names, programName };
  const program = programName.endsWith('-save') ? runIpvsadmSave : runIpvsadm;
  const status = await (programName.endsWith('-restore') ? runIpvsadmRestore : program)(argv, io);
  const said = stderr.text.replace(/^(?=.)/gm, '2> ');
  return stdout.text + said + (status === 0 ? '' : `=> ${status}\n`);
}

test('--watch lists again after each wait until it is told to stop', async () => {
  const [stdout, waits] = [new CapturedOutput(), [] as number[]];
  const sleep = async (milliseconds: number) => waits.push(milliseconds) < 3;
  const io = { director: () => new MemoryDirector(), stdin: textInput(''), stdout, stderr: stdout, names, sleep };
  await runIpvsadm(['-L', '--timeout', '--watch', '5'], { ...io, programName: 'ipvsadm' });
  expect(waits).toEqual([5000, 5000, 5000]);
  expect(stdout.text.match(/Timeout/g)).toHaveLength(3);
});

test('a director that cannot be opened is status 2, and help needs none', async () => {
  const stderr = new CapturedOutput();
  const director = () => {
    throw new DirectorError('EPERM', 'Cannot open the director: not root');
  };
  const io = { director, stdin: textInput(''), stdout: new CapturedOutput(), stderr, names, programName: 'ipvsadm' };
  expect(await runIpvsadm(['-h'], io)).toBe(0);
  expect(await runIpvsadm(['-L'], io)).toBe(2);
  expect(stderr.text).toBe(
    "Can't initialize ipvs: Permission denied (you must be root)\n" +
      'Are you sure that IP Virtual Server is built in the kernel or as module?\n',
  );
});
