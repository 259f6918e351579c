/** `ipvsd set`, `settings` and `mark` on the real kernel. */
import { spawnSync } from 'node:child_process';
import { describeKernel, uniqueName } from '@ipvsd/bpf/testing';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { Cluster, type Host } from './demo/cluster.ts';
import { bundle, ours, runOurs, serveName, until } from './testing/ours.ts';

const node = process.execPath;
const VIP = '172.16.45.10';
const OTHER_VIP = '172.16.45.11';

let cluster: Cluster;
let client: Host;
let director: Host;

const ok = (command: 'ipvsd' | 'ipvsadm', ...args: string[]): string => ours(director, command, ...args);

/** Our command with a text on its standard input. */
function feed(text: string, ...args: string[]): { status: number | null; stdout: string; stderr: string } {
  const words = [node, bundle('ipvsd'), ...args].map((word) => `'${word}'`).join(' ');
  return director.run('sh', ['-c', `${words} <<'END'\n${text}\nEND\n`]);
}

const curl = (url: string, seconds = 5): string =>
  client.run('curl', ['-s', '--max-time', `${seconds}`, '--connect-timeout', `${seconds}`, url]).stdout.split(' ')[0]!;

const serve = (host: Host, port: number) => serveName(host, port, `${host.name}:${port}`);

describeKernel('settings and marks on the real kernel', () => {
  beforeAll(async () => {
    cluster = new Cluster(uniqueName('ipvsd-cmd'));
    client = cluster.host('client');
    director = cluster.host('director');
    const real = cluster.host('real1');
    cluster.connect(client, { name: 'eth0', addresses: ['172.16.45.2/24'] }, director, {
      name: 'eth0',
      addresses: [`${VIP}/24`, `${OTHER_VIP}/24`],
    });
    cluster.connect(director, { name: 'eth1', addresses: ['192.168.45.1/24'] }, real, {
      name: 'eth0',
      addresses: ['192.168.45.2/24'],
    });
    real.route('default', '192.168.45.1');
    director.sysctl('net.ipv4.ip_forward', 1);
    await Promise.all([serve(real, 80), serve(real, 443), serve(real, 8080)]);
  });

  afterAll(() => cluster?.remove());

  beforeEach(() => {
    ok('ipvsadm', '-C');
    ok('ipvsd', 'mark', 'delete', '--all');
  });

  const byMark = (mark: number): void => {
    ok('ipvsadm', '-A', '-f', `${mark}`, '-s', 'rr');
    ok('ipvsadm', '-a', '-f', `${mark}`, '-r', '192.168.45.2', '-m');
  };

  test('a setting takes effect in packets, and is listed with its default', async () => {
    byMark(1);
    ok('ipvsd', 'mark', 'add', '--mark', '1', '-t', `${VIP}:80`);
    expect(curl(`http://${VIP}/`)).toBe('real1:80');
    ok('ipvsd', 'set', 'am_droprate', '1');
    ok('ipvsd', 'set', 'drop_packet', '3');
    await until('a dropped request', () => curl(`http://${VIP}/`, 1) === '');
    const shown = JSON.parse(ok('ipvsd', 'settings', '--json')) as { name: string; value: string; default: string }[];
    expect(shown).toContainEqual(expect.objectContaining({ name: 'drop_packet', value: '3', default: '0' }));
    expect(ok('ipvsd', 'settings')).toMatch(/^am_droprate +1 +10 +In mode 3 of drop_packet/m);
    ok('ipvsd', 'set', 'drop_packet', '0');
    await until('an answer', () => curl(`http://${VIP}/`, 1) === 'real1:80');
    ok('ipvsd', 'set', 'am_droprate', '10');
    ok('ipvsd', 'set', 'sync_threshold', '5', '60');
    expect(ok('ipvsd', 'settings')).toMatch(/^sync_threshold +5 60 +3 50 /m);
  });

  test.each([
    ['drop_entry', '9', 'Cannot set drop_entry to "9": it is 0, must be 0..3\n'],
    ['debug_level', '3', 'Cannot set debug_level to "3": it is read-only and stays 0\n'],
    ['nosuch', '3', /^Cannot set nosuch to "3": there is no such setting, must be/],
  ])('set %s %s is refused', (name, value, words) => {
    const before = ok('ipvsd', 'settings');
    const { status, stdout, stderr } = runOurs(director, 'ipvsd', 'set', name, value);
    expect([status, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(words);
    expect(ok('ipvsd', 'settings')).toBe(before);
  });

  test('one mark makes one service of several ports and addresses', () => {
    byMark(1);
    ok('ipvsd', 'mark', 'add', '--mark', '1', '-t', `${VIP}:80`, '-t', `${VIP}:443`, '-u', `${VIP}:53`);
    expect(curl(`http://${VIP}/`)).toBe('real1:80');
    expect(curl(`http://${VIP}:443/`)).toBe('real1:443');
    expect(curl(`http://${VIP}:8080/`)).toBe('');
    expect(curl(`http://${OTHER_VIP}/`)).toBe('');
    ok('ipvsd', 'mark', 'add', '--mark', '1', '-t', '172.16.45.8/29:80', '-t', `${OTHER_VIP}`);
    expect(curl(`http://${OTHER_VIP}/`)).toBe('real1:80');
    expect(curl(`http://${OTHER_VIP}:8080/`)).toBe('real1:8080');
    ok('ipvsd', 'mark', 'delete', '-t', `${VIP}:443`);
    expect(curl(`http://${VIP}:443/`)).toBe('');
    expect(ok('ipvsd', 'mark', 'list')).toBe(
      [
        'Mark        Packets to',
        '1           tcp 172.16.45.8/29:80',
        '1           tcp 172.16.45.10:80',
        '1           udp 172.16.45.10:53',
        '1           tcp 172.16.45.11',
        '',
      ].join('\n'),
    );
    ok('ipvsd', 'mark', 'delete', '--mark', '1');
    expect(ok('ipvsd', 'mark', 'list')).toBe('No rules for marks\n');
    expect(curl(`http://${VIP}/`)).toBe('');
  });

  test('rules of iptables and nft are imported, and what is read twice is the same', () => {
    byMark(7);
    const saved = `# Generated by iptables-save v1.8.9
*mangle
:PREROUTING ACCEPT [0:0]
-A PREROUTING -d ${VIP}/32 -p tcp -m multiport --dports 80,443 -j MARK --set-xmark 0x7/0xffffffff
COMMIT`;
    expect(feed(saved, 'mark', 'import')).toMatchObject({ status: 0, stderr: '' });
    expect(curl(`http://${VIP}/`)).toBe('real1:80');
    expect(curl(`http://${VIP}:443/`)).toBe('real1:443');
    const before = ok('ipvsd', 'mark', 'list');
    expect(feed(saved, 'mark', 'import').status).toBe(0);
    expect(ok('ipvsd', 'mark', 'list')).toBe(before);
    const nft = `ip daddr ${VIP} tcp dport { 443, 8080 } meta mark set 7`;
    expect(feed(nft, 'mark', 'import', '--replace').status).toBe(0);
    expect(curl(`http://${VIP}:8080/`)).toBe('real1:8080');
    expect(curl(`http://${VIP}/`)).toBe('');
    expect(JSON.parse(ok('ipvsd', 'mark', 'list', '--json'))).toEqual(
      [443, 8080].map((port) => ({ mark: 7, family: 'ipv4', protocol: 'tcp', network: `${VIP}/32`, port })),
    );
  });

  test.skipIf(spawnSync('nft', ['--version']).status !== 0)('--run reads what nft has here (nft is installed)', () => {
    byMark(7);
    const rules = `table ip balance { chain pre { type filter hook prerouting priority mangle; ip daddr ${VIP} tcp dport { 80, 443 } meta mark set 7; }; }`;
    expect(director.run('nft', [rules]).stderr).toBe('');
    ok('ipvsd', 'mark', 'import', '--run', '--dry-run');
    expect(ok('ipvsd', 'mark', 'list')).toBe('No rules for marks\n');
    ok('ipvsd', 'mark', 'import', '--run');
    expect(curl(`http://${VIP}:443/`)).toBe('real1:443');
    expect(director.run('nft', ['flush ruleset']).stderr).toBe('');
  });

  test('a rule set with a line that cannot be said is refused line by line, and nothing is applied', () => {
    ok('ipvsd', 'mark', 'add', '--mark', '3', '-t', `${VIP}:80`);
    const before = ok('ipvsd', 'mark', 'list');
    const rules = [
      `-A PREROUTING -d ${OTHER_VIP}/32 -p tcp --dport 80 -j MARK --set-mark 7`,
      '-A PREROUTING -s 10.0.0.0/8 -p tcp --dport 80 -j MARK --set-mark 7',
      '-A PREROUTING -p icmp -j MARK --set-mark 7',
    ].join('\n');
    const { status, stdout, stderr } = feed(rules, 'mark', 'import');
    expect([status, stdout]).toEqual([2, '']);
    expect(stderr).toBe(`Cannot import rules for marks: 2 lines have no equal here, and nothing has changed
standard input, line 2: it says -s; rules here know only where packets go
  -A PREROUTING -s 10.0.0.0/8 -p tcp --dport 80 -j MARK --set-mark 7
standard input, line 3: its protocol is icmp, must be tcp, udp or sctp
  -A PREROUTING -p icmp -j MARK --set-mark 7
`);
    for (const [args, words] of [
      [['add', '--mark', '4', '-t', `${OTHER_VIP}:80`, '-t', `${VIP}:80`], /it has mark 3, must be deleted first/],
      [['add', '--mark', 'x', '-t', `${VIP}:80`], /--mark is "x", must be 0\.\.4294967295/],
      [['add', '--mark', '4', '-t', 'nonsense'], /-t is "nonsense", must be network\[:port\]/],
      [['delete', '--mark', '9'], /there is none for mark 9/],
      [['delete', '-t', `${VIP}:80`, '-t', `${VIP}:81`], /there is no such rule/],
    ] as const) {
      const refused = runOurs(director, 'ipvsd', 'mark', ...args);
      expect([refused.status, refused.stdout]).toEqual([2, '']);
      expect(refused.stderr).toMatch(words);
    }
    expect(ok('ipvsd', 'mark', 'list')).toBe(before);
  });
});
