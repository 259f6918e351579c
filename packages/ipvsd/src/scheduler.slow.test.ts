/** Schedulers of operators' own on the real kernel: added, used, exchanged under load, refused, removed. */
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describeKernel, uniqueName } from '@ipvsd/bpf/testing';
import { spawnInNamespace } from '@ipvsd/linux';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { Cluster, type Host } from './demo/cluster.ts';
import { bundle, ours, runOurs, serveName } from './testing/ours.ts';

const example = (name: string): string =>
  fileURLToPath(new URL(`../../../examples/schedulers/${name}.ts`, import.meta.url));
const node = process.execPath;
const VIP = '172.16.45.10';
const OFFICE_CLIENT = '10.1.0.2';

let cluster: Cluster;
let client: Host;
let director: Host;
let folder: string;

const ok = (command: 'ipvsd' | 'ipvsadm', ...args: string[]): string => ours(director, command, ...args);

/** Who answers, to one request from the client's own or another address of it. */
function ask(from: string): string {
  return client.run('curl', ['-sS', '--max-time', '10', '--interface', from, `http://${VIP}/`]).stdout.split(' ')[0]!;
}

function write(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

describeKernel('schedulers of operators of their own', () => {
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'ipvsd-scheduler-'));
    cluster = new Cluster(uniqueName('ipvsd-sched'));
    client = cluster.host('client');
    director = cluster.host('director');
    const reals = ['real1', 'real2'].map((name) => cluster.host(name));
    cluster.connect(client, { name: 'eth0', addresses: ['172.16.45.2/24', `${OFFICE_CLIENT}/16`] }, director, {
      name: 'eth0',
      addresses: [`${VIP}/24`, '10.1.0.1/16'],
    });
    cluster.switch('switch', [
      [director, { name: 'eth1', addresses: ['192.168.45.1/24'] }],
      ...reals.map((real, i) => [real, { name: 'eth0', addresses: [`192.168.45.${i + 2}/24`] }] as const),
    ]);
    for (const real of reals) real.route('default', '192.168.45.1');
    director.sysctl('net.ipv4.ip_forward', 1);
    await Promise.all(reals.map((real) => serveName(real, 80)));
  });

  afterAll(() => {
    cluster?.remove();
    rmSync(folder, { recursive: true, force: true });
  });

  /** real1 was added first. */
  const serviceWith = (scheduler: string): void => {
    ok('ipvsadm', '-A', '-t', `${VIP}:80`, '-s', scheduler);
    ok('ipvsadm', '-a', '-t', `${VIP}:80`, '-r', '192.168.45.2', '-m', '-w', '1');
    ok('ipvsadm', '-a', '-t', `${VIP}:80`, '-r', '192.168.45.3', '-m', '-w', '100');
  };

  beforeEach(() => {
    ok('ipvsadm', '-C');
  });

  test('the example by client network sends its clients to the first real server', () => {
    expect(ok('ipvsd', 'scheduler', 'add', example('office'))).toBe('Added scheduler office: ipvsadm -s office\n');
    serviceWith('office');
    expect([1, 2, 3].map(() => ask(OFFICE_CLIENT))).toEqual(['real1', 'real1', 'real1']);
    expect([1, 2, 3].map(() => ask('172.16.45.2'))).toEqual(['real2', 'real2', 'real2']);
    // A quiesced first real server is passed by.
    ok('ipvsadm', '-e', '-t', `${VIP}:80`, '-r', '192.168.45.2', '-m', '-w', '0');
    expect(ask(OFFICE_CLIENT)).toBe('real2');
  });

  test('the example by load fills real servers in proportion to what they are made for', async () => {
    ok('ipvsd', 'scheduler', 'add', example('spare'));
    serviceWith('spare');
    ok('ipvsadm', '-e', '-t', `${VIP}:80`, '-r', '192.168.45.2', '-m', '-w', '10');
    ok('ipvsadm', '-e', '-t', `${VIP}:80`, '-r', '192.168.45.3', '-m', '-w', '30');
    const script = `const net = require('net'); let n = 0; const next = () => { if (n++ === 40) return console.log('up'); net.connect(80, '${VIP}', next); }; next();`;
    const holder = client.start(node, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
    await new Promise((resolve) => holder.stdout!.once('data', resolve));
    const active = ok('ipvsadm', '-Ln')
      .split('\n')
      .filter((line) => line.includes('->') && line.includes('Masq'))
      .map((line) => Number(line.trim().split(/\s+/)[4]));
    holder.kill();
    expect(active).toEqual([10, 30]);
  });

  test('names are listed, saved and restored', () => {
    ok('ipvsd', 'scheduler', 'add', example('office'));
    serviceWith('office');
    expect(ok('ipvsadm', '-Ln')).toMatch(/TCP +172\.16\.45\.10:80 office/);
    const saved = ok('ipvsadm', '-Sn');
    expect(saved).toContain('-s office');
    ok('ipvsadm', '-C');
    const restore = `'${node}' '${bundle('ipvsadm')}' -R < '${write('saved', saved)}'`;
    const { status, stderr } = director.run('sh', ['-c', restore]);
    expect([status, stderr]).toEqual([0, '']);
    expect(ok('ipvsadm', '-Sn')).toBe(saved);
    expect(JSON.parse(ok('ipvsd', 'scheduler', 'list', '--json'))).toContainEqual({
      name: 'office',
      number: 32,
      file: example('office'),
      services: ['tcp 172.16.45.10 80'],
    });
  });

  test('exchanged under load, no connection fails', async () => {
    const towards = (place: string): string =>
      write(
        'swapped.ts',
        `import { memberNumber, scheduler, u32 } from 'ipvsd/scheduler';
export default scheduler('swapped', (service) => memberNumber(service, ${place}));
`,
      );
    ok('ipvsd', 'scheduler', 'add', towards('0'));
    serviceWith('swapped');
    const words = ['demo-load', `http://${VIP}/`, '--requests', '4000', '--concurrency', '50'];
    // As many loads as it takes to exchange it six times while one runs.
    for (let swaps = 0; swaps < 6; ) {
      const load = spawnInNamespace(client.namespace, node, [bundle('ipvsd'), ...words]);
      let out = '';
      load.stdout!.on('data', (chunk) => {
        out += chunk;
      });
      const ended = new Promise((resolve) => load.once('exit', resolve));
      for (; out === ''; swaps++) {
        const place = swaps % 2 === 0 ? 'u32(service.count - 1)' : '0';
        expect(ok('ipvsd', 'scheduler', 'add', towards(place))).toMatch(/^Replaced/);
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      await ended;
      expect(JSON.parse(out)).toMatchObject({ requests: 4000, failures: 0 });
    }
    ok('ipvsd', 'scheduler', 'add', towards('u32(service.count - 1)'));
    expect(ask('172.16.45.2')).toBe('real1');
    ok('ipvsd', 'scheduler', 'add', towards('0'));
    expect(ask('172.16.45.2')).toBe('real2');
  });

  test('a choice that is none of the service is no choice', () => {
    const wild = `import { scheduler } from 'ipvsd/scheduler';
export default scheduler('wild', () => 5);
`;
    ok('ipvsd', 'scheduler', 'add', write('wild.ts', wild));
    serviceWith('wild');
    expect(client.run('curl', ['-sS', '--max-time', '5', `http://${VIP}/`]).status).toBe(7);
  });

  test.each([
    ['loops for ever', 'while (service.count > 0) {} return 0;', /unsound\.ts:3:.*while loop/],
    ['asks for what may not be there', 'return hits.at(0).n;', /possibly 'null'/],
    [
      'takes more steps than the verifier follows',
      `let h: u32 = asking.mark; for (let i = 0; i < 64; i++) for (let j = 0; j < 64; j++) for (let k = 0; k < 64; k++)
       { if ((h & 1) === 0) h = u32(h + state.cursor); else h = u32((h >>> 1) ^ state.current); } return h;`,
      /verifier refuses it/,
    ],
  ])('one that %s is refused, and the one of its name stays', (_, body, words) => {
    const sound = `import { memberNumber, scheduler } from 'ipvsd/scheduler';
export default scheduler('unsound', (service) => memberNumber(service, 0));
`;
    ok('ipvsd', 'scheduler', 'add', write('unsound.ts', sound));
    serviceWith('unsound');
    const before = ok('ipvsd', 'scheduler', 'list', '--json');
    const text = `import { arrayMap, scheduler, struct, u32 } from 'ipvsd/scheduler';
const hits = arrayMap('my_hits', struct('hits', { n: u32 }), { maxEntries: 1 });
export default scheduler('unsound', (service, asking, state) => { ${body} });
`;
    const { status, stdout, stderr } = runOurs(director, 'ipvsd', 'scheduler', 'add', write('unsound.ts', text));
    expect([status, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(/^Cannot add the scheduler of .*unsound\.ts: .*nothing has changed\n/);
    expect(stderr).toMatch(words);
    expect(ok('ipvsd', 'scheduler', 'list', '--json')).toBe(before);
    expect(ask('172.16.45.2')).toBe('real2');
  });

  test('an installation without typescript says what to install', () => {
    const installed = join(folder, 'installed');
    const of = (name: string): string => fileURLToPath(new URL(`../${name}`, import.meta.url));
    for (const name of ['bundle', 'kernel', 'programs', 'package.json']) {
      cpSync(of(name), join(installed, name), { recursive: true });
    }
    mkdirSync(join(installed, 'node_modules'));
    for (const name of ['koffi', '@koromix']) {
      const path = fileURLToPath(new URL(`../../../node_modules/${name}`, import.meta.url));
      if (existsSync(path)) symlinkSync(path, join(installed, 'node_modules', name));
    }
    const add = () => director.run(node, [join(installed, 'bundle/ipvsd.js'), 'scheduler', 'add', example('office')]);
    const { status, stderr } = add();
    expect([status, stderr]).toEqual([2, expect.stringContaining('npm install typescript')]);
    symlinkSync(
      fileURLToPath(new URL('../../../node_modules/typescript', import.meta.url)),
      join(installed, 'node_modules/typescript'),
    );
    expect(add()).toMatchObject({ status: 0, stderr: '' });
  });

  test('what is no scheduler, and what must not be touched, is refused with a sentence', () => {
    const refusal = (...args: string[]): string => {
      const { status, stderr } = runOurs(director, 'ipvsd', 'scheduler', ...args);
      expect(status).toBe(2);
      return stderr;
    };
    expect(refusal('add', join(folder, 'none.ts'))).toMatch(/there is no such file/);
    expect(refusal('add', write('empty.ts', 'export const x = 1;\n'))).toMatch(/it exports no scheduler, must have/);
    const rr = `import { scheduler } from 'ipvsd/scheduler';\nexport default scheduler('rr', () => 0);\n`;
    expect(refusal('add', write('rr.ts', rr))).toBe(
      'Cannot add scheduler rr: it is built in, must have another name\n',
    );
    ok('ipvsd', 'scheduler', 'add', example('office'));
    serviceWith('office');
    expect(refusal('remove', 'office')).toBe(
      'Cannot remove scheduler office: virtual service tcp 172.16.45.10 80 uses it, must be given another scheduler first\n',
    );
    expect(refusal('remove', 'rr')).toMatch(/it is built in/);
    ok('ipvsadm', '-C');
    ok('ipvsd', 'scheduler', 'remove', 'office');
    const { status, stderr } = runOurs(director, 'ipvsadm', '-A', '-t', `${VIP}:80`, '-s', 'office');
    expect([status, stderr]).toEqual([255, expect.stringContaining('Scheduler')]);
  });
});
