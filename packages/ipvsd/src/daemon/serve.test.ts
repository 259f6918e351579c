/** The daemon as a process of its own: signals, the lock, systemd's datagrams, the control socket; the director is memory. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { askDaemon } from './control.ts';

// Beside the modules it does not bundle, so that they are found.
const bundleFolder = fileURLToPath(new URL('../../../../node_modules/.cache/ipvsd-test', import.meta.url));
const bundle = join(bundleFolder, `run-in-memory-${process.pid}.mjs`);
const folder = mkdtempSync(join(tmpdir(), 'ipvsd-serve-'));
const control = join(folder, 'daemon-test.sock');
const conf = join(folder, 'k.conf');
const running: ChildProcess[] = [];

beforeAll(async () => {
  mkdirSync(bundleFolder, { recursive: true });
  const source = (name: string): string => fileURLToPath(new URL(`../../../${name}/src/index.ts`, import.meta.url));
  await build({
    entryPoints: [fileURLToPath(new URL('../testing/run-in-memory.ts', import.meta.url))],
    outfile: bundle,
    bundle: true,
    format: 'esm',
    platform: 'node',
    external: ['koffi', 'typescript'],
    alias: Object.fromEntries(
      ['linux', 'director', 'keepalived', 'load', 'ipvs'].map((name) => [`@ipvsd/${name}`, source(name)]),
    ),
    plugins: [
      {
        name: 'doors of bpf',
        setup: ({ onResolve }) => {
          onResolve({ filter: /^@ipvsd\/bpf/ }, ({ path }) => ({
            path:
              path === '@ipvsd/bpf'
                ? source('bpf')
                : source('bpf').replace('index.ts', `${path.slice('@ipvsd/bpf/'.length)}/index.ts`),
          }));
        },
      },
    ],
    banner: {
      js: "import { createRequire as _require } from 'node:module'; const require = _require(import.meta.url);",
    },
    logLevel: 'error',
  });
});

afterEach(() => {
  for (const child of running.splice(0)) child.kill('SIGKILL');
});
afterAll(() => {
  rmSync(folder, { recursive: true });
  rmSync(bundle, { force: true });
});

function start(environment: Record<string, string> = {}) {
  const child = spawn(process.execPath, [bundle, conf, folder], { env: { ...process.env, ...environment } });
  running.push(child);
  let output = '';
  child.stdout.on('data', (bytes) => {
    output += bytes;
  });
  child.stderr.on('data', (bytes) => {
    output += bytes;
  });
  const ended = new Promise<number | null>((resolve) => child.on('exit', resolve));
  return { child, ended, tables: () => output.match(/^table .*$/gm) ?? [], output: () => output };
}

async function until<T>(read: () => T | undefined | false, what: string): Promise<T> {
  for (let tries = 0; tries < 500; tries++) {
    const found = read();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`waited in vain for ${what}`);
}

function write(servers: readonly number[], weight = 1, more = ''): void {
  const blocks = servers.map(
    (port) => `real_server 127.0.0.1 ${port} {\nweight ${weight}\nTCP_CHECK {\nconnect_timeout 1\n}\n}\n`,
  );
  writeFileSync(
    conf,
    `virtual_server 10.0.0.1 80 {\ndelay_loop 0.2\nwarmup 0\nretry 0\nlvs_sched rr\nlvs_method NAT\nprotocol TCP\n${more}${blocks.join('')}}\n`,
  );
}

async function listen() {
  const server = createServer((socket) => socket.end());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { port: (server.address() as AddressInfo).port, close: () => server.close() };
}

test('it runs, follows its checks, reloads on SIGHUP, answers on its socket, and cleans up on SIGTERM', async () => {
  const [one, two] = [await listen(), await listen()];
  write([one.port, two.port]);
  const { child, ended, tables, output } = start();
  const table = (...servers: string[]) => `table tcp 10.0.0.1 80 [${servers.sort().join(', ')}]`;
  const [a, b] = [`127.0.0.1 ${one.port}`, `127.0.0.1 ${two.port}`];
  await until(() => tables().length === 1, 'the first table');
  expect(tables()[0]).toBe(table(`${a}=1`, `${b}=1`));

  two.close();
  await until(() => /Removing service/.test(output()), 'the failure');
  expect(output()).toMatch(/TCP_CHECK on service .* failed/);
  child.kill('SIGUSR1');
  await until(() => tables().length === 2, 'a second table');
  expect(tables()[1], 'the dead one has left').toBe(table(`${a}=1`));
  expect(output()).toMatch(/"level":"warn".*"msg":"Removing service \[127\.0\.0\.1\]:tcp:/);

  write([one.port, two.port], 5);
  child.kill('SIGHUP');
  await until(() => tables().length === 3, 'a third table');
  expect(tables()[2], 'a reload forgets no state').toBe(table(`${a}=5`));

  write([one.port, two.port], 7, 'lvs_shed rr\n');
  child.kill('SIGHUP');
  await until(() => tables().length === 4, 'a fourth table');
  expect(tables()[3], 'an unknown keyword is left out and the rest runs, as in keepalived').toBe(table(`${a}=7`));
  expect(output()).toContain('There is no keyword \\"lvs_shed\\"');

  writeFileSync(conf, 'virtual_server\n');
  child.kill('SIGHUP');
  await until(() => tables().length === 5, 'a fifth table');
  expect(tables()[4], 'what keepalived would not start with is refused').toBe(tables()[3]);

  const status = await askDaemon<{ server: string; alive: boolean }[]>(control, { op: 'status' });
  expect(status?.map(({ alive }) => alive)).toEqual([true, false]);
  await askDaemon(control, { op: 'drain', address: '127.0.0.1', port: one.port, drain: 'draining' });
  const service = { address: '10.0.0.1', port: 80 };
  const explained = await askDaemon(control, { op: 'explain-weight', service, address: '127.0.0.1', port: one.port });
  expect(explained).toBe('weight 0: it is draining');

  child.kill('SIGTERM');
  expect(await ended).toBe(0);
  expect(tables().at(-1), 'nothing is left behind').toBe('table ');
  expect(await askDaemon(control, { op: 'status' }), 'and nobody answers').toBeUndefined();
  one.close();
});

test('a second daemon in the same network namespace refuses to run', async () => {
  write([1]);
  const first = start();
  await until(() => first.tables().length === 1, 'the first daemon');
  const second = start();
  expect(await second.ended).toBe(2);
  expect(second.output()).toBe('Cannot run: a daemon runs in this network namespace already\n');
});

test('a configuration that keepalived refuses is refused, and with --strict one with errors; each with its errors', async () => {
  writeFileSync(conf, 'virtual_server\n');
  const refused = start();
  expect(await refused.ended).toBe(2);
  expect(refused.output()).toContain('needs an argument');
  expect(refused.output()).toContain('is refused, as keepalived would (ipvsd check');
  write([1], 1, 'lvs_shed rr\n');
  const strict = start({ STRICT: '1' });
  expect(await strict.ended).toBe(2);
  expect(strict.output()).toContain('There is no keyword \\"lvs_shed\\"');
  expect(strict.output()).toContain('has errors (ipvsd check');
});

test('with reload_check_config a reload with errors is refused, and the configuration before it goes on', async () => {
  const checked = 'global_defs {\n reload_check_config\n}\n';
  write([1]);
  writeFileSync(conf, checked + readFileSync(conf, 'utf8'));
  const { child, tables, output } = start();
  await until(() => tables().length === 1, 'the first table');
  write([1, 2], 1, 'lvs_shed rr\n');
  child.kill('SIGHUP');
  await until(() => tables().length === 2, 'a second table');
  expect(output()).toContain('Did not reload');
  expect(tables()[1]).not.toContain(' 2=');
});

test('where the director cannot be opened it says so and ends, and the lock is free again', async () => {
  write([1]);
  const { ended, output } = start({ BROKEN_DIRECTOR: '1' });
  expect(await ended).toBe(2);
  expect(output()).toContain('Cannot open the director');
  const next = start();
  await until(() => next.tables().length === 1, 'a daemon after it');
});

const hasPython = spawnSync('python3', ['--version']).status === 0;

test.skipIf(!hasPython)(
  'systemd hears of it: ready, reloading, ready again, stopping (skipped without python3)',
  async () => {
    write([1]);
    const path = join(folder, 'notify.sock');
    // Node cannot receive Unix datagrams either; Python can, where it is installed.
    const receiver = spawn('python3', [
      '-uc',
      `import socket,sys
s=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM);s.bind(${JSON.stringify(path)});print("listening")
while True: print(s.recv(4096).decode().replace("\\n","|"))`,
    ]);
    running.push(receiver);
    let heard = '';
    receiver.stdout.on('data', (bytes) => {
      heard += bytes;
    });
    await until(() => heard.includes('listening'), 'the receiver');
    const { child } = start({ NOTIFY_SOCKET: path });
    await until(() => heard.includes('READY=1|STATUS=1 virtual services, 1 real servers, 1 checks|'), 'READY');
    child.kill('SIGHUP');
    await until(() => /RELOADING=1\|MONOTONIC_USEC=[0-9]+\|\nREADY=1/.test(heard), 'RELOADING');
    child.kill('SIGTERM');
    await until(() => heard.includes('STOPPING=1'), 'STOPPING');
  },
);
