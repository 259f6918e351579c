/** `ipvsd real-server` on real hosts: what it changes, what that means to packets, and that it takes everything back. */
import { existsSync } from 'node:fs';
import { describeKernel, uniqueName } from '@ipvsd/bpf/testing';
import { inNamespace, withRoutes, writeSysctl } from '@ipvsd/linux';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { Cluster, type Host } from './demo/cluster.ts';
import { statePath } from './real-server/state.ts';
import { surveyHost } from './real-server/survey.ts';
import { ours, runOurs, until } from './testing/ours.ts';
import { download, echo, serveTransfers, upload } from './testing/transfers.ts';

const VIP = '192.168.2.254';
const VIP6 = 'fd00:2::254';
const PORT = 7000;
const ECHO_PORT = 7100;
let cases = 0;

let cluster: Cluster;
let client: Host;
let director: Host;
let real: Host;

const survey = () => inNamespace(real.namespace, surveyHost);

function realServer(...args: readonly string[]): { status: number | null; lines: string[]; error: string } {
  const { status, stdout, stderr } = runOurs(real, 'ipvsd', 'real-server', ...args);
  return { status, lines: stdout.trim().split('\n'), error: stderr };
}

const ipvsadm = (...args: readonly string[]): string => ours(director, 'ipvsadm', ...args);

const CHECK_RIGHT = { status: 0, lines: ['Everything is as it should be'], error: '' };
const MEGABYTES = 4_000_000;

describeKernel('a real server', () => {
  beforeAll(async () => {
    cluster = new Cluster(uniqueName('ipvsd-rs'));
    [client, director, real] = ['client', 'director', 'real'].map((name) => cluster.host(name)) as [Host, Host, Host];
    cluster.switch('switch', [
      [client, { name: 'eth0', addresses: ['192.168.2.100/24', 'fd00:2::100/64'] }],
      [director, { name: 'eth0', addresses: ['192.168.2.10/24', 'fd00:2::10/64', `${VIP}/32`, `${VIP6}/128`] }],
      [real, { name: 'eth0', addresses: ['192.168.2.2/24', 'fd00:2::2/64'] }],
    ]);
    for (const host of [client, director, real]) {
      for (const name of ['all', 'default', 'eth0']) host.sysctl(`net.ipv4.conf.${name}.rp_filter`, 0);
    }
    director.sysctl('net.ipv4.ip_forward', 1);
    director.sysctl('net.ipv6.conf.all.forwarding', 1);
    real.route('default', '192.168.2.1');
    await serveTransfers(real, PORT, []);
    // The kernel asks for a second whether anybody else has an address; what is surveyed meanwhile is no host at rest.
    await until('addresses that nobody else has', () => survey().addresses.every(({ tentative }) => !tentative));
  });

  afterAll(() => cluster?.remove());

  afterEach(() => {
    expect(realServer('undo').status).toBe(0);
    ipvsadm('-C');
  });

  test('is set up once, is right then, and is as before when that is undone', () => {
    const before = survey();
    expect(realServer('setup', '--vip', VIP, '--method', 'dr')).toEqual({
      status: 0,
      lines: [
        `# ip address add ${VIP}/32 dev lo`,
        '# sysctl -w net.ipv4.conf.all.arp_ignore=1',
        '# sysctl -w net.ipv4.conf.all.arp_announce=2',
      ],
      error: '',
    });
    expect(realServer('setup', '--vip', VIP, '--method', 'dr')).toEqual(CHECK_RIGHT);
    expect(realServer('check')).toEqual(CHECK_RIGHT);
    expect(survey()).not.toEqual(before);
    expect(realServer('undo')).toEqual({ status: 0, lines: [''], error: '' });
    expect(survey()).toEqual(before);
    expect(existsSync(inNamespace(real.namespace, () => statePath()))).toBe(false);
  });

  test('is as before when a tunnel is undone, programs and all', () => {
    const before = survey();
    realServer('setup', '--vip', VIP, '--vip', VIP6, '--method', 'tun');
    expect(survey()).toMatchObject({ attached: new Set(['eth0']) });
    expect(realServer('check')).toEqual(expect.objectContaining({ status: 0 }));
    // One of two: what the other needs stays.
    expect(realServer('undo', '--vip', VIP6)).toEqual({ status: 0, lines: [''], error: '' });
    expect([...survey().programs.keys()]).toEqual([VIP]);
    expect(realServer('check')).toEqual(CHECK_RIGHT);
    expect(realServer('undo')).toEqual({ status: 0, lines: [''], error: '' });
    expect(survey()).toEqual(before);
  });

  test('does not answer ARP for the VIP, while a host that only has the address does', async () => {
    // A neighbour that nobody but the real server could answer for.
    const lonely = '192.168.2.253';
    const reach = () =>
      download(client, lonely, PORT, 1000).then(
        () => true,
        () => false,
      );
    withRoutes(real.namespace, (routes) => routes.addAddress('lo', `${lonely}/32`));
    expect(await reach()).toBe(true);
    withRoutes(real.namespace, (routes) => routes.deleteAddress('lo', `${lonely}/32`));
    realServer('setup', '--vip', lonely, '--method', 'dr');
    client.run('ip', ['neighbour', 'flush', 'dev', 'eth0']);
    expect(await reach()).toBe(false);
    // What arrives all the same, as from a director, is taken.
    const { mac } = withRoutes(real.namespace, (routes) => routes.link('eth0'));
    withRoutes(client.namespace, (routes) => routes.addNeighbour('eth0', lonely, mac));
    expect(await reach()).toBe(true);
    withRoutes(client.namespace, (routes) => routes.deleteNeighbour('eth0', lonely));
  });

  test('says what somebody else made wrong, and the command that mends it', () => {
    realServer('setup', '--vip', VIP, '--method', 'tun', '--director', '192.168.2.10');
    const breakages: readonly (readonly [() => void, RegExp])[] = [
      [() => writeSysctl('net.ipv4.conf.all.arp_ignore', 0, real.namespace), /arp_ignore=1$/m],
      [() => writeSysctl('net.ipv4.conf.all.arp_announce', 0, real.namespace), /arp_announce=2$/m],
      [
        () => withRoutes(real.namespace, (routes) => routes.deleteAddress('lo', `${VIP}/32`)),
        new RegExp(`ip address add ${VIP}/32 dev lo`),
      ],
      [() => withRoutes(real.namespace, (routes) => routes.setMtu('eth0', 1400)), /real-server setup .*--method tun$/m],
    ];
    for (const [breakIt, command] of breakages) {
      breakIt();
      const { status, lines } = realServer('check');
      expect(status).toBe(1);
      expect(lines.join('\n')).toMatch(command);
      const after = realServer('setup', '--vip', VIP, '--method', 'tun', '--director', '192.168.2.10');
      expect(after.lines.join('\n')).toMatch(/^# /);
      expect(realServer('check')).toEqual(CHECK_RIGHT);
    }
    withRoutes(real.namespace, (routes) => {
      routes.setMtu('eth0', 1500);
      routes.replaceRoute({ to: 'default', via: '192.168.2.10' });
    });
    const { status, lines } = realServer('check');
    expect([status, lines.at(-1)]).toEqual([1, '    ip route replace default via ROUTER']);
    withRoutes(real.namespace, (routes) => routes.replaceRoute({ to: 'default', via: '192.168.2.1' }));
  });

  test('is refused, with nothing changed, while another interface answers for the VIP', () => {
    withRoutes(real.namespace, (routes) => routes.addAddress('eth0', `${VIP}/24`));
    const before = survey();
    const { status, error } = realServer('setup', '--vip', VIP, '--method', 'dr');
    expect([status, error]).toEqual([2, expect.stringContaining(`ip address delete ${VIP}/24 dev eth0`)]);
    expect(survey()).toEqual(before);
    withRoutes(real.namespace, (routes) => routes.deleteAddress('eth0', `${VIP}/24`));
  });

  test('leaves alone at undo what somebody else has changed since, and says so', () => {
    realServer('setup', '--vip', VIP, '--method', 'dr');
    writeSysctl('net.ipv4.conf.all.arp_ignore', 2, real.namespace);
    expect(realServer('undo').lines).toEqual([
      'net/ipv4/conf/all/arp_ignore is 2, not 1 as set up: somebody else changed it, so it is left alone',
    ]);
    writeSysctl('net.ipv4.conf.all.arp_ignore', 0, real.namespace);
  });

  test.each([
    [['setup', '--method', 'dr'], 'which virtual addresses'],
    [['setup', '--vip', VIP], '--method dr or --method tun'],
    [['check'], 'was not set up by ipvsd'],
    [['undo', '--vip', VIP], 'was not set up for it'],
    [['setup', '--vip', 'nonsense', '--method', 'dr'], 'must be an IPv4 or IPv6 address'],
  ])('refuses %j and says what it wants', (args, sentence) => {
    const { status, error } = realServer(...args);
    expect(status).not.toBe(0);
    expect(error).toContain(sentence);
  });

  describe('takes what the director sends', () => {
    const METHODS: readonly (readonly [name: string, forward: string[], setup: string[]])[] = [
      ['dr', ['-g'], ['--method', 'dr']],
      ['ipip', ['-i'], ['--method', 'tun']],
      ['gre', ['-i', '--tun-type', 'gre', '--tun-nocsum'], ['--method', 'tun', '--tunnel', 'gre']],
      ['gre with a checksum', ['-i', '--tun-type', 'gre', '--tun-csum'], ['--method', 'tun', '--tunnel', 'gre']],
      [
        'gue',
        ['-i', '--tun-type', 'gue', '--tun-port', '6081', '--tun-nocsum'],
        ['--method', 'tun', '--tunnel', 'gue', '--tun-port', '6081'],
      ],
    ];
    const WAYS = [
      [VIP, '192.168.2.2'],
      [VIP6, 'fd00:2::2'],
      [VIP, 'fd00:2::2'],
      [VIP6, '192.168.2.2'],
    ] as const;
    const bracket = (address: string): string => (address.includes(':') ? `[${address}]` : address);

    test.each(
      METHODS.flatMap(([name, forward, setup]) =>
        WAYS.filter(([vip, to]) => name !== 'dr' || vip.includes(':') === to.includes(':')).map(
          ([vip, to]) => [name, vip, to, forward, setup] as const,
        ),
      ),
    )('by %s to %s through %s', async (_name, vip, to, forward, setup) => {
      realServer('setup', '--vip', vip, ...setup);
      ipvsadm('-A', '-t', `${bracket(vip)}:${PORT}`, '-s', 'rr');
      ipvsadm('-a', '-t', `${bracket(vip)}:${PORT}`, '-r', `${bracket(to)}:${PORT}`, ...forward);
      const down = await download(client, vip, PORT, MEGABYTES);
      expect(down).toEqual({ bytes: MEGABYTES, sent: down.received, received: down.sent });
      const up = await upload(client, vip, PORT, MEGABYTES);
      expect(up).toEqual({ bytes: MEGABYTES, sent: up.received, received: up.sent });
      // A port of its own for each, as a socket bound to the address would outlive it.
      const port = ECHO_PORT + cases++;
      ipvsadm('-A', '-u', `${bracket(vip)}:${port}`, '-s', 'rr');
      ipvsadm('-a', '-u', `${bracket(vip)}:${port}`, '-r', `${bracket(to)}:${port}`, ...forward);
      await serveTransfers(real, port, [vip]);
      expect(await echo(client, vip, port, 1000, 5)).toEqual({ sent: 5, received: 5 });
      // As large as a datagram gets, nearly: in fragments, which are split again where an outer header makes them too long.
      if (!vip.includes(':')) {
        expect(await echo(client, vip, port, 60_000, 5)).toEqual({ sent: 5, received: 5 });
      }
    });
  });
});
