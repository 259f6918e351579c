/**
 * Real clients through every forwarding method: large transfers whole, datagrams in fragments, and the tools by which operators
 * look at a network. On the demo's networks (demo/site.ts).
 */
import { describeKernel, uniqueName } from '@ipvsd/bpf/testing';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Cluster, type Host } from './demo/cluster.ts';
import { LOCAL_ADDRESS, METHODS, SCENES, type Scene } from './demo/scene.ts';
import { buildSite, type Site } from './demo/site.ts';
import { ours } from './testing/ours.ts';
import { addSecondFamily, sixOf } from './testing/second-family.ts';
import { download, echo, serveTransfers, upload } from './testing/transfers.ts';

const node = process.execPath;
const PORT = 7000;
const FLAGS = { nat: ['-m'], dr: ['-g'], tun: ['-i'], fullnat: ['--fullnat'] } as const;
/** What each direction carries; IPVSD_TEST_BYTES=1e9 for the whole gigabyte. */
const BYTES = Number(process.env['IPVSD_TEST_BYTES'] ?? 32e6);
/** As much as UDP over IPv4 carries, nearly. */
const DATAGRAM = 60_000;
const NARROW = 1400;
/** Where nobody listens, and on none of the next ports. */
const CLOSED = 7001;
/** What fits through the narrow way: in a tunnel less by the outer header. */
const FITS = {
  nat: { IPv4: NARROW, IPv6: NARROW },
  fullnat: { IPv4: NARROW, IPv6: NARROW },
  dr: { IPv4: NARROW, IPv6: NARROW },
  tun: { IPv4: NARROW - 20, IPv6: NARROW - 40 },
} as const;

const FAMILIES = ['IPv4', 'IPv6'] as const;

describeKernel('real clients', () => {
  describe.each(
    METHODS.flatMap((method) => FAMILIES.map((family) => [method, family] as const)),
  )('through %s, %s', (method, family) => {
    const scene: Scene = SCENES[method];
    const six = family === 'IPv6';
    const addressOf = (v4: string): string => (six ? sixOf(v4) : v4);
    const ending = (v4: string, port: number): string => (six ? `[${sixOf(v4)}]:${port}` : `${v4}:${port}`);
    const vip = addressOf(scene.vip);
    const translates = method === 'nat' || method === 'fullnat';
    const version = six ? '-6' : '-4';
    let cluster: Cluster;
    let site: Site;

    function narrow(host: Host, address: string, ...way: readonly string[]): void {
      const { status, stderr } = host.run('ip', [version, 'route', 'add', address, ...way, 'mtu', 'lock', `${NARROW}`]);
      expect([stderr, status]).toEqual(['', 0]);
    }

    beforeAll(async () => {
      cluster = new Cluster(uniqueName(`ipvsd-${method}`));
      site = buildSite(cluster, scene);
      if (six) for (const host of cluster.hosts) addSecondFamily(host);
      const { director, realServers } = site;
      if (scene.setup !== undefined)
        for (const host of realServers) ours(host, 'ipvsd', 'real-server', 'setup', '--vip', vip, '--method', method);
      await Promise.all(
        realServers.map((host, i) =>
          serveTransfers(host, PORT, [scene.setup === undefined ? addressOf(scene.realServers[i]!.address) : vip]),
        ),
      );
      for (const [kind, port] of [
        ['-t', PORT],
        ['-u', PORT],
        // tracepath asks another port each time.
        ['-u', 0],
      ] as const) {
        const service = [kind, ending(scene.vip, port)];
        ours(director, 'ipvsadm', '-A', ...service, '-s', 'rr', ...(port === 0 ? ['-p', '60'] : []));
        if (method === 'fullnat') ours(director, 'ipvsadm', '-P', ...service, '-z', addressOf(LOCAL_ADDRESS));
        for (const { address } of scene.realServers) {
          ours(director, 'ipvsadm', '-a', ...service, '-r', ending(address, port), ...FLAGS[method]);
        }
      }
    }, 60_000);

    afterAll(() => cluster?.remove());

    test('what is fetched comes as it was sent', async () => {
      const { bytes, sent, received } = await download(site.client, vip, PORT, BYTES);
      expect([bytes, received]).toEqual([BYTES, sent]);
    }, 600_000);

    test('what is sent arrives as it was', async () => {
      const { sent, received } = await upload(site.client, vip, PORT, BYTES);
      expect(received).toBe(sent);
    }, 600_000);

    test('datagrams come back whole, however many fragments they take', async () => {
      expect(await echo(site.client, vip, PORT, 1000, 10)).toEqual({ sent: 10, received: 10 });
      // Nobody on the way fragments IPv6: in a tunnel less fits, which the client hears about its first one.
      if (method === 'tun' && six) expect((await echo(site.client, vip, PORT, DATAGRAM, 1)).received).toBe(0);
      expect(await echo(site.client, vip, PORT, DATAGRAM, 20)).toEqual({ sent: 20, received: 20 });
    });

    test('ping is answered by the director, also in fragments', () => {
      for (const bytes of ['56', '20000']) {
        const { status, stdout } = site.client.run('ping', ['-c', '3', '-i', '0.2', '-W', '2', '-s', bytes, vip]);
        expect(stdout).toContain('3 received');
        expect(status).toBe(0);
      }
    });

    test.each([
      ['UDP', ['-U', '-p', `${PORT}`]],
      ['TCP', ['-T', '-p', `${PORT}`]],
    ])('traceroute by %s ends at the virtual address', (_protocol, how) => {
      const { stdout, stderr } = site.client.run('traceroute', ['-n', '-q', '2', '-w', '2', '-m', '8', ...how, vip]);
      expect(stderr).toBe('');
      const hops = stdout.trim().split('\n').slice(1);
      expect(hops.at(-1)).toContain(vip);
      expect(hops.length).toBeLessThanOrEqual(4);
    });

    test('segments are as large as the service says, as far as its handshake passes the director', async () => {
      const { director, client, realServers } = site;
      const service = ['-t', ending(scene.vip, PORT), '-s', 'rr'];
      ours(director, 'ipvsadm', '-E', ...service, '--mss', '1000');
      const script = `require('net').connect(${PORT}, '${vip}', () => console.log('there'))`;
      const child = client.start(node, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
      await new Promise((resolve) => child.stdout!.once('data', resolve));
      // What each end sends at most; timestamps take twelve bytes of it.
      const [sent = 0] = segmentSizes(client);
      const [answered = 0] = realServers.flatMap(segmentSizes);
      child.kill();
      ours(director, 'ipvsadm', '-E', ...service);
      expect([988, 1000]).toContain(answered);
      if (translates) expect([988, 1000]).toContain(sent);
      else expect(sent).toBeGreaterThan(1000);
    });

    test('a way that is narrower is found out by the client, and what it sends arrives', async () => {
      const { director, client } = site;
      const via = method === 'tun' ? ['via', addressOf('192.168.2.1')] : [];
      for (const { address } of scene.realServers)
        narrow(director, addressOf(address), ...via, 'dev', translates ? 'eth1' : 'eth0');
      // The director asks the kernel for a route once a second.
      await new Promise((resolve) => setTimeout(resolve, 1500));
      const up = await upload(client, vip, PORT, 2e6);
      expect(up.received).toBe(up.sent);
      const route = client.run('ip', ['route', 'get', vip]).stdout;
      // FULLNAT has named segments that fit at the beginning, as they leave room for its option; in a tunnel less fits.
      if (method === 'fullnat') expect(route).not.toContain('mtu');
      else expect(route).toContain(`mtu ${FITS[method][family]}`);
    });

    test('tracepath hears how much fits, and that nobody listens', () => {
      site.client.run('ip', [version, 'route', 'flush', 'cache']);
      const { stdout, stderr } = site.client.run('tracepath', ['-n', '-m', '8', '-p', `${CLOSED}`, vip]);
      expect(stderr).toBe('');
      expect(stdout).toMatch(new RegExp(`Resume: pmtu ${FITS[method][family]} `));
      expect(stdout).toMatch(new RegExp(`${vip} .*reached`));
    });

    test('datagrams pass it too, in smaller fragments', async () => {
      // The client knows by now, or hears it about its first one.
      await echo(site.client, vip, PORT, DATAGRAM, 1);
      expect(await echo(site.client, vip, PORT, DATAGRAM, 5)).toEqual({ sent: 5, received: 5 });
    });

    test.runIf(translates)(
      'a narrow way to the client is found out by the real server, and what it sends arrives',
      async () => {
        const { director, client, realServers } = site;
        const address = addressOf(scene.clients[0]!);
        narrow(director, address, 'dev', 'eth0');
        await new Promise((resolve) => setTimeout(resolve, 1500));
        client.run('ip', [version, 'route', 'flush', 'cache']);
        for (const _ of realServers) {
          const { bytes, sent, received } = await download(client, vip, PORT, 2e6);
          expect([bytes, received]).toEqual([2e6, sent]);
        }
        const seen = method === 'nat' ? address : addressOf(LOCAL_ADDRESS);
        for (const host of realServers)
          expect(host.run('ip', ['route', 'get', seen]).stdout).toContain(`mtu ${NARROW}`);
      },
    );
  });
});

/** Of the connections to the port of transfers that are open on the host. */
const segmentSizes = (host: Host): number[] => {
  const { stdout } = host.run('ss', ['-Htin', `( sport = :${PORT} or dport = :${PORT} )`]);
  return [...stdout.matchAll(/\bmss:(\d+)/g)].map(([, size]) => Number(size));
};
