/** RTSP with real programs: Debian's rtsp-server-perl on the real servers, GStreamer's rtspsrc as the client, sound by RTP over UDP. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describeKernel, uniqueName } from '@ipvsd/bpf/testing';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Cluster, type Host } from './demo/cluster.ts';
import { addService, buildNetworks, type Networks, VIP, waitForPort } from './testing/networks.ts';
import { ours, startServer } from './testing/ours.ts';

const SOURCE = fileURLToPath(new URL('./testing/rtsp-source.mjs', import.meta.url));
const SERVER = '/usr/bin/rtsp-server-perl';
const PLAYER = '/usr/bin/gst-launch-1.0';
/** Where rtspsrc is, by the machine's architecture. */
const PLUGINS = ['x86_64', 'aarch64'].map((machine) => `/usr/lib/${machine}-linux-gnu/gstreamer-1.0/libgstrtsp.so`);
const missing = [
  ...[SERVER, PLAYER].filter((file) => !existsSync(file)),
  ...(PLUGINS.some((file) => existsSync(file)) ? [] : ['rtspsrc (gstreamer1.0-plugins-good)']),
];
const HOOK_MS = 120_000;
const PACKETS = 25;
const BYTES = 160;
let folder: string;

async function serveSound(host: Host): Promise<void> {
  host.start(SERVER, [], { stdio: 'ignore' });
  await waitForPort(host, 554);
  await waitForPort(host, 5545);
  await startServer(host, [SOURCE, '5545', host.name]);
}

/** Whose sound a host hears for half a second. `ports`: where it may listen. */
async function listen(host: Host, address: string, ports = '0-0'): Promise<string> {
  const file = join(folder, uniqueName('sound'));
  const source = ['rtspsrc', `location=rtsp://${address}/live`, 'protocols=udp', 'latency=0', `port-range=${ports}`];
  const rest = ['rtppcmudepay', '!', 'identity', `eos-after=${PACKETS}`, '!', 'filesink', `location=${file}`];
  const { status, stdout, stderr } = await host.execute('timeout', ['10', PLAYER, '-q', ...source, '!', ...rest]);
  expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: '', stderr: '' });
  const sound = readFileSync(file, 'latin1');
  expect(sound.length).toBeGreaterThanOrEqual((PACKETS - 1) * BYTES);
  const [name = ''] = /^(real|client)\d/.exec(sound) ?? [];
  expect(
    Buffer.alloc(BYTES, name)
      .toString()
      .repeat(sound.length / BYTES),
  ).toBe(sound);
  return name;
}

function describeRtsp(name: string, body: () => void): void {
  if (missing.length === 0) describeKernel(name, body);
  else describe.skip(`${name} (skipped: there is no ${missing.join(' and no ')})`, body);
}

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'ipvsd-rtsp-'));
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

describeRtsp('RTSP', () => {
  describe.each(['NAT', 'FULLNAT'] as const)('through %s', (method) => {
    let cluster: Cluster;
    let networks: Networks;

    beforeAll(async () => {
      cluster = new Cluster(uniqueName('ipvsd-rtsp'));
      networks = buildNetworks(cluster, true);
      const { director, clients, reals } = networks;
      ours(director, 'ipvsd', 'set', 'rtsp_ports', '554');
      addService(director, '-t', 554, method);
      ours(director, 'ipvsd', 'masquerade', 'add', '--from', '192.168.45.0/24', '--to', 'eth0');
      for (const host of [clients[0], ...reals]) await serveSound(host);
    }, HOOK_MS);

    afterAll(() => cluster?.remove());

    test('a client hears the real server that its connection went to', async () => {
      const [client] = networks.clients;
      const heard = [await listen(client, VIP.ipv4), await listen(client, VIP.ipv4)];
      expect(heard.sort()).toEqual(['real1', 'real2']);
    }, 60_000);

    test('four at once, two on each host, all of one port range', async () => {
      const { clients } = networks;
      const heard = await Promise.all([...clients, ...clients].map((host) => listen(host, VIP.ipv4, '5000-5010')));
      expect(heard.sort()).toEqual(['real1', 'real1', 'real2', 'real2']);
    }, 60_000);

    test('two masqueraded hosts at once hear a server outside, on the same ports', async () => {
      const heard = await Promise.all(networks.reals.map((host) => listen(host, '172.16.45.2', '6000-6010')));
      expect(heard).toEqual(['client1', 'client1']);
    }, 60_000);
  });
});
