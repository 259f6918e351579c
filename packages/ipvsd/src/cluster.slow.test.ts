/** A real cluster: network namespaces, our built commands, curl and ab against real HTTP servers, eBPF in the kernel. */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { attachedPrograms } from '@ipvsd/bpf/kernel';
import { describeKernel, uniqueName } from '@ipvsd/bpf/testing';
import { currentNamespaceCookie, findBpfFileSystem, inNamespace, spawnInNamespace } from '@ipvsd/linux';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { Cluster, type Host } from './demo/cluster.ts';
import { bundle, ours, runOurs, serveName } from './testing/ours.ts';

const node = process.execPath;
const VIP4 = '172.16.45.10';
const VIP6 = 'fd00:45::10';

let cluster: Cluster;
let client: Host;
let director: Host;
let one: Host;
let two: Host;

const ipvsadm = (...args: string[]): string => ours(director, 'ipvsadm', ...args);
const ipvsd = (...args: string[]): string => ours(director, 'ipvsd', ...args);

const get = (url: string): string => client.run('curl', ['-sS', '--max-time', '10', url]).stdout;

describeKernel('a NAT cluster on the real kernel', () => {
  beforeAll(async () => {
    cluster = new Cluster(uniqueName('ipvsd-test'));
    client = cluster.host('client');
    director = cluster.host('director');
    one = cluster.host('real1');
    two = cluster.host('real2');
    cluster.connect(client, { name: 'eth0', addresses: ['172.16.45.2/24', 'fd00:45::2/64'] }, director, {
      name: 'eth0',
      addresses: [`${VIP4}/24`, `${VIP6}/64`],
    });
    cluster.switch('switch', [
      [director, { name: 'eth1', addresses: ['192.168.45.1/24', 'fd00:46::1/64'] }],
      [one, { name: 'eth0', addresses: ['192.168.45.2/24', 'fd00:46::2/64'] }],
      [two, { name: 'eth0', addresses: ['192.168.45.3/24', 'fd00:46::3/64'] }],
    ]);
    for (const real of [one, two]) {
      real.route('default', '192.168.45.1');
      real.route('default', 'fd00:46::1');
    }
    director.sysctl('net.ipv4.ip_forward', 1);
    director.sysctl('net.ipv6.conf.all.forwarding', 1);
    await Promise.all([serveName(one, 8000), serveName(two, 80)]);
  });

  afterAll(() => cluster?.remove());

  beforeEach(() => {
    ipvsadm('-C');
    ipvsadm('-A', '-t', `${VIP4}:80`, '-s', 'rr');
    ipvsadm('-a', '-t', `${VIP4}:80`, '-r', '192.168.45.2:8000', '-m');
    ipvsadm('-a', '-t', `${VIP4}:80`, '-r', '192.168.45.3', '-m');
  });

  test('curl reaches both real servers in turn', () => {
    const answers = [1, 2, 3, 4].map(() => get(`http://${VIP4}/`).split(' ')[0]);
    expect(answers).toEqual(['real2', 'real1', 'real2', 'real1']);
  });

  test('curl reaches them through the queues of the veth pairs too', () => {
    ipvsd('set', 'local_peers', '0');
    expect(get(`http://${VIP4}/`)).toContain('real2');
    ipvsd('set', 'local_peers', '1');
  });

  test('curl reaches them over IPv6', () => {
    ipvsadm('-A', '-t', `[${VIP6}]:80`, '-s', 'rr');
    ipvsadm('-a', '-t', `[${VIP6}]:80`, '-r', '[fd00:46::2]:8000', '-m');
    expect(get(`http://[${VIP6}]/`)).toMatch(/^real1 served/);
    expect(get(`http://[${VIP6}]/`)).toContain('fd00:45::2');
  });

  test('a listing names states, and entries leave when their time is over with no process of ours', async () => {
    ipvsadm('--set', '900', '2', '300');
    get(`http://${VIP4}/`);
    expect(ipvsadm('-Lnc')).toMatch(/TCP 0[01]:\d\d +(TIME_WAIT|FIN_WAIT|CLOSE_WAIT|CLOSE) +172\.16\.45\.2:\d+/);
    expect(JSON.parse(ipvsd('status', '--json')).connections.alive).toBeGreaterThan(0);
    ipvsadm('--set', '900', '120', '300');
  });

  test('weights edited and real servers added and removed under load break no connection', async () => {
    const load = spawnInNamespace(client.namespace, node, [
      bundle('ipvsd'),
      'demo-load',
      `http://${VIP4}/`,
      '--requests',
      '3000',
      '--concurrency',
      '50',
    ]);
    let out = '';
    load.stdout!.on('data', (chunk) => {
      out += chunk;
    });
    const ended = new Promise((resolve) => load.once('exit', resolve));
    for (let round = 0; out === '' && round < 100; round++) {
      ipvsadm('-e', '-t', `${VIP4}:80`, '-r', '192.168.45.2:8000', '-m', '-w', `${round % 3}`);
      if (round % 2 === 0) ipvsadm('-a', '-t', `${VIP4}:80`, '-r', '192.168.45.2:9999', '-m', '-w', '0');
      else ipvsadm('-d', '-t', `${VIP4}:80`, '-r', '192.168.45.2:9999');
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    await ended;
    expect(JSON.parse(out)).toMatchObject({ requests: 3000, failures: 0 });
  });

  test('ten processes at once leave the table that some order of theirs would', async () => {
    const ends = Array.from({ length: 10 }, (_, i) => {
      const child = spawnInNamespace(director.namespace, node, [
        bundle('ipvsadm'),
        '-a',
        '-t',
        `${VIP4}:80`,
        '-r',
        `192.168.45.${100 + i}:80`,
        '-m',
      ]);
      return new Promise((resolve) => child.once('exit', resolve));
    });
    expect(await Promise.all(ends)).toEqual(new Array(10).fill(0));
    expect(ipvsadm('-Ln').match(/-> 192\.168\.45\.1\d\d:80/g)).toHaveLength(10);
  });

  test('large segments pass whole', async () => {
    const megabytes = 64;
    const script = `require('net').createServer((s) => s.end(Buffer.alloc(${megabytes} << 20))).listen(7000, '::', () => console.log('up'))`;
    const server = one.start(node, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
    await new Promise((resolve) => server.stdout!.once('data', resolve));
    ipvsadm('-A', '-t', `${VIP4}:7000`, '-s', 'rr');
    ipvsadm('-a', '-t', `${VIP4}:7000`, '-r', '192.168.45.2:7000', '-m');
    const read = `let n = 0; require('net').connect(7000, '${VIP4}').on('data', (c) => (n += c.length)).on('close', () => console.log(n))`;
    expect(client.run(node, ['-e', read]).stdout.trim()).toBe(`${megabytes << 20}`);
    // Counters are published every two seconds.
    await new Promise((resolve) => setTimeout(resolve, 2500));
    const line = ipvsadm('-Ln', '-t', `${VIP4}:7000`, '--stats', '--exact')
      .split('\n')
      .find((l) => l.startsWith('TCP'))!;
    const [, , , , packets, , bytes] = line.split(/\s+/).map(Number);
    expect(bytes! / packets!).toBeGreaterThan(4 * 1500);
  });

  test('bad input is refused in ipvsadm words and leaves everything as it was', () => {
    const before = ipvsadm('-Sn');
    for (const [args, status, text] of [
      [['-d', '-t', `${VIP4}:80`, '-r', '192.168.45.99'], 255, 'No such destination'],
      [['-A', '-t', `${VIP4}:80`], 255, 'Service already exists'],
      [['-A', '-t', 'nonsense'], 2, 'illegal virtual server address[:port] specified'],
    ] as const) {
      const { status: got, stderr } = runOurs(director, 'ipvsadm', ...args);
      expect([got, stderr]).toEqual([status, expect.stringContaining(text)]);
    }
    expect(ipvsadm('-Sn')).toBe(before);
  });

  test('detach leaves no program and no pin behind, and the next command starts anew', () => {
    expect(inNamespace(director.namespace, () => attachedPrograms('eth0', 'ingress'))).toHaveLength(1);
    ipvsadm('-C');
    ipvsd('detach');
    expect(inNamespace(director.namespace, () => attachedPrograms('eth0', 'ingress'))).toEqual([]);
    const folder = `${findBpfFileSystem()}/${inNamespace(director.namespace, currentNamespaceCookie)}`;
    expect(existsSync(folder)).toBe(false);
    expect(ipvsd('status')).toBe('No director in this network namespace\n');
  });
});

describeKernel('the demo', () => {
  test('ends with equal shares and no failure, and leaves no namespace', () => {
    const { pid, status, stdout, stderr } = spawnSync(node, [bundle('ipvsd'), 'demo', '--json'], { encoding: 'utf8' });
    expect(stderr).toBe('');
    expect(status).toBe(0);
    const { failures, plane, realServers } = JSON.parse(stdout.trim().split('\n').at(-1)!);
    expect([failures, plane]).toEqual([0, 'kernel']);
    const [a, b] = realServers.map((server: { connections: number }) => server.connections);
    expect(Math.abs(a - b)).toBeLessThanOrEqual((a + b) / 100);
    expect(readdirSync('/run/netns').filter((name) => name.startsWith(`ipvsd-demo-${pid}`))).toEqual([]);
  });

  test.each([
    ['dr', '172.16.45.2', ['192.168.2.2:80', '192.168.2.3:80']],
    ['tun', '172.16.45.2', ['10.1.0.2:80', '10.2.0.2:80']],
    ['fullnat', '192.168.45.1', ['192.168.45.2:8000', '192.168.45.3:80']],
  ])('shows %s: no failure, requests from %s at both real servers, and the listing at the end', (method, source, reals) => {
    const { status, stdout, stderr } = spawnSync(node, [bundle('ipvsd'), 'demo', '--method', method, '--json'], {
      encoding: 'utf8',
    });
    expect([stderr, status]).toEqual(['', 0]);
    const lines = stdout.trim().split('\n');
    const result = JSON.parse(lines.at(-1)!);
    expect(result).toMatchObject({ requests: 10_000, failures: 0, plane: 'kernel', method, sources: [source] });
    const served = result.realServers as { address: string; connections: number }[];
    expect(served.map(({ address }) => address)).toEqual(reals);
    expect(served.every(({ connections }) => connections > 0)).toBe(true);
    expect(stdout).toContain(`The real servers saw requests from ${source}\n`);
    expect(lines.at(-2)).toContain(`-> ${reals[1]}`);
    if (method === 'dr') {
      expect(result.ftp).toMatchObject({ sessions: 40, failures: 0 });
      expect(Object.values(result.ftp.servers as Record<string, string[]>).map(({ length }) => length)).toEqual([
        1, 1, 1, 1,
      ]);
    }
  });

  test('cleans up when nobody reads on', async () => {
    const child = spawn(node, [bundle('ipvsd'), 'demo', '--method', 'tun'], { stdio: ['ignore', 'pipe', 'inherit'] });
    await new Promise((resolve) => child.stdout!.once('data', resolve));
    child.stdout!.destroy();
    await new Promise((resolve) => child.once('exit', resolve));
    expect(readdirSync('/run/netns').filter((name) => name.startsWith(`ipvsd-demo-${child.pid}`))).toEqual([]);
  });

  test('cleans up when interrupted', async () => {
    const child = spawn(node, [bundle('ipvsd'), 'demo'], { stdio: ['ignore', 'pipe', 'inherit'] });
    await new Promise((resolve) => child.stdout!.once('data', resolve));
    child.kill('SIGINT');
    expect(await new Promise((resolve) => child.once('exit', resolve))).toBe(130);
    expect(readdirSync('/run/netns').filter((name) => name.startsWith(`ipvsd-demo-${child.pid}`))).toEqual([]);
  });
});

describeKernel('the feedback demo', () => {
  test('the median response time falls when the weights follow the load, and nothing is left behind', () => {
    const args = [bundle('ipvsd'), 'demo', '--feedback', '--json'];
    const { pid, status, stdout, stderr } = spawnSync(node, args, { encoding: 'utf8' });
    expect(stderr).toBe('');
    expect(status).toBe(0);
    const medians = JSON.parse(stdout.trim().split('\n').at(-1)!) as Record<string, number>;
    expect(Object.keys(medians)).toEqual(['medianMsWithout', 'medianMsWith']);
    expect(medians['medianMsWith']).toBeLessThan(medians['medianMsWithout']!);
    expect(readdirSync('/run/netns').filter((name) => name.startsWith(`ipvsd-demo-${pid}`))).toEqual([]);
  }, 120_000);
});

describe('the demo in Node', () => {
  test.each(['dr', 'tun', 'fullnat'])('shows %s with the programs that real servers have', (method) => {
    const { status, stdout } = spawnSync(node, [bundle('ipvsd'), 'demo', '--node', '--json', '--method', method], {
      encoding: 'utf8',
    });
    expect(status).toBe(0);
    expect(JSON.parse(stdout.trim().split('\n').at(-1)!)).toMatchObject({
      requests: 10_000,
      failures: 0,
      plane: 'node',
      method,
      sources: [method === 'fullnat' ? '192.168.45.1' : '172.16.45.2'],
      realServers: [{ connections: 5000 }, { connections: 5000 }],
    });
  });

  test('says why and ends with equal shares', () => {
    const { status, stdout } = spawnSync(node, [bundle('ipvsd'), 'demo', '--node', '--json'], { encoding: 'utf8' });
    expect(status).toBe(0);
    expect(stdout).toMatch(/^The data plane runs in Node on a simulated network: /);
    expect(JSON.parse(stdout.trim().split('\n').at(-1)!)).toEqual({
      requests: 10_000,
      failures: 0,
      plane: 'node',
      realServers: [
        { address: '192.168.45.2:8000', connections: 5000 },
        { address: '192.168.45.3:80', connections: 5000 },
      ],
    });
  });
});
