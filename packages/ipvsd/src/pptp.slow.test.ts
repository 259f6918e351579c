/**
 * PPTP with real programs: Debian's pptpd on the real servers, pptp as the client. Kernels need not have PPP, so what carries the
 * frames at both ends of a call is testing/ppp-end.mjs; the control connection, its numbers of calls and GRE are theirs.
 */
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describeKernel, uniqueName } from '@ipvsd/bpf/testing';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Cluster, type Host } from './demo/cluster.ts';
import { addService, buildNetworks, LOCAL, type Networks, VIP, waitForPort } from './testing/networks.ts';
import { ours } from './testing/ours.ts';

const END = fileURLToPath(new URL('./testing/ppp-end.mjs', import.meta.url));
const PPTPD = '/usr/sbin/pptpd';
const PPTP = '/usr/sbin/pptp';
const missing = [PPTPD, PPTP].filter((file) => !existsSync(file));
const HOOK_MS = 120_000;
/** Frames of a call, small ones and such as fill a packet. */
const COUNT = 20;
let folder: string;

async function servePptp(host: Host): Promise<void> {
  const path = (name: string): string => join(folder, `${host.name}.${name}`);
  // "local file OPTIONS 115200 LOCAL:REMOTE ipparam CLIENT ...", and it is to speak first.
  const stands = `stty raw -echo\n"${process.execPath}" "${END}" greet "${host.name} hears $7"\nexec cat 2>/dev/null\n`;
  writeFileSync(path('pppd'), `#!/bin/sh\n${stands}`);
  chmodSync(path('pppd'), 0o755);
  writeFileSync(path('options'), '');
  writeFileSync(path('conf'), 'localip 10.99.0.1\nremoteip 10.99.0.2-50\n');
  const files = ['--conf', path('conf'), '--option', path('options'), '--ppp', path('pppd'), '--pidfile', path('pid')];
  host.start(PPTPD, ['--fg', ...files], { stdio: ['ignore', 'ignore', 'inherit'] });
  await waitForPort(host, 1723);
}

/** A call manager of its own, though hosts share files; and where it asks for chance, `number` is what it gets. */
const ALONE = 'mount -t tmpfs none /run && mkdir /run/pptp && mount --bind "$1" /dev/random && shift && exec "$@"';

async function call(host: Host, address: string, number: number, bytes = 30): Promise<string> {
  const chance = join(folder, `chance-${number}`);
  writeFileSync(chance, Buffer.alloc(64, Buffer.from([number & 255, number >> 8])));
  const pptp = [PPTP, address, '--nolaunchpppd', '--nohostroute'];
  const words = ['call', `${COUNT}`, `${bytes}`, 'unshare', '-m', 'sh', '-c', ALONE, 'sh', chance, ...pptp];
  const { stdout, stderr, status } = await host.execute(process.execPath, [END, ...words]);
  expect({ stderr, status }).toEqual({ stderr: '', status: 0 });
  const { greeting, echoed } = JSON.parse(stdout) as { readonly greeting: string; readonly echoed: number };
  return `${greeting}: ${echoed}`;
}

function describePptp(name: string, body: () => void): void {
  if (missing.length === 0) describeKernel(name, body);
  else describe.skip(`${name} (skipped: there is no ${missing.join(' and no ')})`, body);
}

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'ipvsd-pptp-'));
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

describePptp('PPTP', () => {
  describe.each(['NAT', 'FULLNAT'] as const)('through %s', (method) => {
    let cluster: Cluster;
    let networks: Networks;
    const seen = (address: string): string => (method === 'NAT' ? address : LOCAL.ipv4);

    beforeAll(async () => {
      cluster = new Cluster(uniqueName('ipvsd-pptp'));
      networks = buildNetworks(cluster, true);
      const { director, clients, reals } = networks;
      ours(director, 'ipvsd', 'set', 'pptp_ports', '1723');
      addService(director, '-t', 1723, method);
      ours(director, 'ipvsd', 'masquerade', 'add', '--from', '192.168.45.0/24', '--to', 'eth0');
      for (const host of [clients[0], ...reals]) await servePptp(host);
    }, HOOK_MS);

    afterAll(() => cluster?.remove());

    test('each call reaches a real server, and what both say arrives', async () => {
      const [client] = networks.clients;
      const answers = [await call(client, VIP.ipv4, 1000), await call(client, VIP.ipv4, 1001, 1300)];
      expect(answers.sort()).toEqual([1, 2].map((n) => `real${n} hears ${seen('172.16.45.2')}: ${COUNT}`));
    }, 60_000);

    test('two clients at once, whose calls have the same number', async () => {
      const answers = await Promise.all(networks.clients.map((host) => call(host, VIP.ipv4, 2000)));
      const more = await Promise.all(networks.clients.map((host) => call(host, VIP.ipv4, 2000)));
      for (const pair of [answers, more]) {
        expect(pair[0]).toMatch(new RegExp(`hears ${seen('172.16.45.2')}: ${COUNT}$`));
        expect(pair[1]).toMatch(new RegExp(`hears ${seen('172.16.45.3')}: ${COUNT}$`));
      }
      const listing = ours(networks.director, 'ipvsadm', '-Lnc');
      for (const address of ['172.16.45.2', '172.16.45.3']) expect(listing).toContain(` ${address}:2000 `);
    }, 60_000);

    test('two clients of one address at once, as both real servers count from 0', async () => {
      const [client] = networks.clients;
      const answers = await Promise.all([3000, 3001, 3002, 3003].map((number) => call(client, VIP.ipv4, number)));
      expect(answers.sort()).toEqual([1, 1, 2, 2].map((n) => `real${n} hears ${seen('172.16.45.2')}: ${COUNT}`));
    }, 60_000);

    test('two masqueraded hosts at once call a server outside, by the same number', async () => {
      const calls = await Promise.all(networks.reals.map((host) => call(host, '172.16.45.2', 4000, 1300)));
      expect(calls).toEqual([1, 2].map(() => `client1 hears ${VIP.ipv4}: ${COUNT}`));
    }, 60_000);
  });
});
