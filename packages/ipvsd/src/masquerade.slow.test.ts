/** Masquerading with real programs: hosts behind the director fetch from the outside, ask by UDP, ping and trace their way. */
import { describeKernel, uniqueName } from '@ipvsd/bpf/testing';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Cluster, type Host } from './demo/cluster.ts';
import { ours, runOurs, serveName, startServer } from './testing/ours.ts';

const node = process.execPath;

let cluster: Cluster;
let outside: Host;
let director: Host;
let one: Host;
let two: Host;

const run = (...args: string[]) => runOurs(director, 'ipvsd', ...args);
const ipvsd = (...args: string[]): string => ours(director, 'ipvsd', ...args);

const fetch = (host: Host, url: string): string => host.run('curl', ['-sS', '--max-time', '5', url]).stdout;

describeKernel('hosts behind a director that masquerades them', () => {
  beforeAll(async () => {
    cluster = new Cluster(uniqueName('ipvsd-out'));
    outside = cluster.host('outside');
    director = cluster.host('director');
    one = cluster.host('real1');
    two = cluster.host('real2');
    // The outside knows no way to what is behind the director.
    cluster.connect(outside, { name: 'eth0', addresses: ['172.16.45.2/24', 'fd00:45::2/64'] }, director, {
      name: 'eth0',
      addresses: ['172.16.45.10/24', 'fd00:45::10/64'],
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
    await serveName(outside, 80, 'outside');
    ipvsd('masquerade', 'add', '--from', '192.168.45.0/24', '--to', 'eth0');
    ipvsd('masquerade', 'add', '--from', 'fd00:46::/64', '--to', 'eth0');
  });

  afterAll(() => cluster?.remove());

  describe.each([
    ['IPv4', '172.16.45.2', '172.16.45.2', '172.16.45.10', '4'],
    ['IPv6', 'fd00:45::2', '[fd00:45::2]', 'fd00:45::10', '6'],
  ] as const)('over %s', (_, address, inUrl, own, family) => {
    test('they fetch from a server that sees the director', () => {
      for (const host of [one, two, one]) {
        const answer = fetch(host, `http://${inUrl}/`);
        expect(answer).toMatch(/^outside served/);
        expect(answer).toContain(own);
      }
    });

    test('they ping, both with the same identifier', () => {
      for (const host of [one, two]) {
        const { stdout } = host.run('ping', [`-${family}`, '-c', '2', '-i', '0.2', '-W', '2', '-e', '77', address]);
        expect(stdout).toMatch(/2 received/);
      }
    });

    test('they ask by UDP from the same port, and each gets its own answer', async () => {
      const port = 9000 + Number(family);
      const server = `const s = require('dgram').createSocket('udp${family}').on('message', (m, f) => s.send(m + ' ' + f.address + ' ' + f.port, f.port, f.address)).bind(${port}, () => console.log('up'))`;
      await startServer(outside, ['-e', server]);
      const ask = (name: string): string =>
        `const s = require('dgram').createSocket('udp${family}').on('message', (m) => { console.log(String(m)); s.close(); }).bind(5555, () => s.send('${name}', ${port}, '${address}')); setTimeout(() => process.exit(1), 3000).unref()`;
      const answers = [one, two].map((host) =>
        host
          .run(node, ['-e', ask(host.name)])
          .stdout.trim()
          .split(' '),
      );
      expect(answers.map(([name, seen]) => [name, seen])).toEqual([
        ['real1', own],
        ['real2', own],
      ]);
      expect(answers[0]![2]).not.toBe(answers[1]![2]);
    });

    test('they hear that nobody listens, by the error about their own packet', () => {
      const ask = `const s = require('dgram').createSocket('udp${family}'); s.on('error', (e) => { console.log(e.code); process.exit(); }); s.connect(9999, '${address}', () => s.send('x')); setTimeout(() => process.exit(1), 3000)`;
      expect(one.run(node, ['-e', ask]).stdout.trim()).toBe('ECONNREFUSED');
    });

    test('a hop too many is told by the director, in its own name', () => {
      const { stdout } = one.run('ping', [`-${family}`, '-n', '-c', '1', '-W', '2', '-t', '1', address]);
      expect(stdout).toMatch(family === '4' ? /From 192\.168\.45\.1 .*exceeded/ : /From fd00:46::1 .*exceeded/);
    });
  });

  test('traceroute sees the director and then the other end', () => {
    const { stdout } = one.run('traceroute', ['-n', '-q', '1', '-w', '2', '-m', '5', '172.16.45.2']);
    expect([...stdout.matchAll(/^ *\d+ +(\S+)/gm)].map(([, hop]) => hop)).toEqual(['192.168.45.1', '172.16.45.2']);
  });

  test('packets that do not leave by that interface, and the director’s own, are as they were', async () => {
    await serveName(two, 8080, 'inside');
    expect(fetch(one, 'http://192.168.45.3:8080/')).toContain('192.168.45.2');
    expect(fetch(director, 'http://172.16.45.2/')).toContain('172.16.45.10');
    expect(director.run('ping', ['-c', '1', '-W', '2', '172.16.45.2']).stdout).toMatch(/1 received/);
  });

  test('they are no connections of a virtual service', () => {
    fetch(one, 'http://172.16.45.2/');
    expect(ours(director, 'ipvsadm', '-Lnc')).not.toContain('192.168.45.2');
  });

  test('the list names networks and interfaces, and a removed one is masqueraded no more', () => {
    expect(ipvsd('masquerade', 'list')).toBe('From             To\n192.168.45.0/24  eth0\nfd00:46::/64     eth0\n');
    ipvsd('masquerade', 'remove', '--from', '192.168.45.0/24');
    expect(JSON.parse(ipvsd('masquerade', 'list', '--json'))).toEqual([{ from: 'fd00:46::/64', to: 'eth0' }]);
    expect(fetch(one, 'http://172.16.45.2/')).toBe('');
    ipvsd('masquerade', 'add', '--from', '192.168.45.2', '--to', 'eth0');
    expect(fetch(one, 'http://172.16.45.2/')).toMatch(/^outside/);
    expect(fetch(two, 'http://172.16.45.2/')).toBe('');
  });

  test.each([
    [['add', '--from', '192.168.45.0/33', '--to', 'eth0'], /must be a network such as/],
    [['add', '--from', '192.168.45.0/24', '--to', 'eth7'], /there is no interface eth7, must be one of lo, eth0, eth1/],
    [['add', '--from', '192.168.45.0/24', '--to', 'lo'], /the loopback leads to no outside/],
    [['remove', '--from', '10.0.0.0/8'], /it is not masqueraded/],
  ])('bad input is refused: %s', (args, message) => {
    const { status, stderr } = run('masquerade', ...args);
    expect(status).toBe(2);
    expect(stderr).toMatch(message);
  });
});
