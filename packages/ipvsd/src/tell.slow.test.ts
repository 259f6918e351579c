/** How real servers behind FULLNAT hear of their clients, with real programs: nginx reads PROXY headers, a raw socket reads TOA. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeKernel, uniqueName } from '@ipvsd/bpf/testing';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Cluster, type Host } from './demo/cluster.ts';
import { bundle, ours, until } from './testing/ours.ts';

const node = process.execPath;
const VIP4 = '172.16.45.10';
const VIP6 = 'fd00:45::10';
const LOCAL4 = '192.168.45.1';
const LOCAL6 = 'fd00:46::1';
const CLIENT4 = '172.16.45.2';
const CLIENT6 = 'fd00:45::2';

let cluster: Cluster;
let client: Host;
let director: Host;
let real: Host;
let folder: string;

const ipvsadm = (...args: string[]): string => ours(director, 'ipvsadm', ...args);

function service(virtual: string, local: string, server: string, ...more: string[]): void {
  ipvsadm('-A', '-t', virtual, '-s', 'rr', ...more);
  ipvsadm('-P', '-t', virtual, '-z', local);
  ipvsadm('-a', '-t', virtual, '-r', server, '--fullnat');
}

/** nginx that answers with the address and port it was told, takes uploads, and knows no client without a header. */
const configuration = (): string => `
daemon off; master_process off; pid ${folder}/pid; error_log ${folder}/error;
events { worker_connections 512; }
http {
  access_log off; client_max_body_size 0; client_body_temp_path ${folder}/body;
  fastcgi_temp_path ${folder}/a; proxy_temp_path ${folder}/b; scgi_temp_path ${folder}/c; uwsgi_temp_path ${folder}/d;
  server {
    listen 8000 proxy_protocol; listen [::]:8000 proxy_protocol;
    location / { return 200 "$proxy_protocol_addr $proxy_protocol_port to $proxy_protocol_server_addr seen $remote_addr\\n"; }
    location /files/ { root ${folder}; dav_methods PUT; }
  }
}
`;

/** Version 1 spells IPv6 addresses with all their digits. */
const short = (text: string): string =>
  text.replace(/[0-9a-f:]{39}/g, (address) => new URL(`http://[${address}]`).hostname.slice(1, -1));

const curl = (...args: string[]): string => {
  const { stdout, stderr } = client.run('curl', ['-sS', '--max-time', '20', ...args]);
  expect(stderr).toBe('');
  return stdout;
};

describeKernel('real servers that hear of their clients', () => {
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'ipvsd-tell-'));
    mkdirSync(join(folder, 'files'));
    cluster = new Cluster(uniqueName('ipvsd-tell'));
    client = cluster.host('client');
    director = cluster.host('director');
    real = cluster.host('real');
    cluster.connect(client, { name: 'eth0', addresses: [`${CLIENT4}/24`, `${CLIENT6}/64`] }, director, {
      name: 'eth0',
      addresses: [`${VIP4}/24`, `${VIP6}/64`],
    });
    cluster.connect(director, { name: 'eth1', addresses: [`${LOCAL4}/24`, `${LOCAL6}/64`] }, real, {
      name: 'eth0',
      addresses: ['192.168.45.2/24', 'fd00:46::2/64'],
    });
    director.sysctl('net.ipv4.ip_forward', 1);
    director.sysctl('net.ipv6.conf.all.forwarding', 1);
    const file = join(folder, 'nginx.conf');
    writeFileSync(file, configuration());
    real.start('nginx', ['-c', file, '-e', join(folder, 'error')], { stdio: ['ignore', 'ignore', 'inherit'] });
    await until('nginx', () => real.run('curl', ['-s', '--haproxy-protocol', 'http://127.0.0.1:8000/']).status === 0);
  });

  afterAll(() => {
    cluster?.remove();
    if (folder !== undefined) rmSync(folder, { recursive: true });
  });

  test.each([
    ['1', 'v1', 81],
    ['2', 'v2', 82],
  ] as const)('nginx logs the client by the PROXY protocol, version %s', (_, version, port) => {
    service(`${VIP4}:${port}`, LOCAL4, '192.168.45.2:8000', '--proxy-protocol', version);
    service(`[${VIP6}]:${port}`, LOCAL6, '[fd00:46::2]:8000', '--proxy-protocol', version);
    for (let i = 0; i < 5; i++) {
      const local = `${40_000 + 10 * port + i}`;
      expect(curl('--local-port', local, `http://${VIP4}:${port}/`)).toBe(
        `${CLIENT4} ${local} to ${VIP4} seen ${LOCAL4}\n`,
      );
      // Another one, as the first waits for its time to be over.
      const other = `${50_000 + 10 * port + i}`;
      expect(short(curl('--local-port', other, `http://[${VIP6}]:${port}/`))).toBe(
        `${CLIENT6} ${other} to ${VIP6} seen ${LOCAL6}\n`,
      );
    }
  });

  test('thousands of requests at once, and each has its header', () => {
    const { stdout } = client.run(node, [
      bundle('ipvsd'),
      'demo-load',
      `http://${VIP4}:82/`,
      '--requests',
      '3000',
      '--concurrency',
      '50',
    ]);
    expect(JSON.parse(stdout)).toMatchObject({ requests: 3000, failures: 0 });
  });

  test('an upload and a download of megabytes arrive whole behind the header', () => {
    const bytes = Buffer.from(Array.from({ length: 3_000_000 }, (_, i) => (i * 31 + (i >> 8)) & 255));
    const file = join(folder, 'upload');
    writeFileSync(file, bytes);
    // Without waiting to be asked for the body: the first segments are large.
    curl('-H', 'Expect:', '-T', file, `http://${VIP4}:82/files/whole`);
    expect(readFileSync(join(folder, 'files/whole')).equals(bytes)).toBe(true);
    curl('-o', join(folder, 'download'), `http://${VIP4}:81/files/whole`);
    expect(readFileSync(join(folder, 'download')).equals(bytes)).toBe(true);
  });

  test('a network that loses packets does not lose the header', () => {
    const rule = ['INPUT', '-p', 'tcp', '--dport', '8000', '-m', 'statistic', '--mode', 'nth', '--every', '3'];
    expect(real.run('iptables', ['-A', ...rule, '--packet', '1', '-j', 'DROP']).stderr).toBe('');
    try {
      for (let i = 0; i < 8; i++) expect(curl(`http://${VIP4}:82/`)).toMatch(new RegExp(`^${CLIENT4} \\d+ to`));
    } finally {
      real.run('iptables', ['-F', 'INPUT']);
    }
  }, 120_000);

  test('an option of TCP says it otherwise, in the handshake’s last segment and in the first data', async () => {
    service(`${VIP4}:83`, LOCAL4, '192.168.45.2:8083');
    const capture = join(folder, 'capture');
    const script = `require('http').createServer((_, a) => a.end('served')).listen(8083, () => console.log('up'))`;
    const server = real.start(node, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
    await new Promise((resolve) => server.stdout!.once('data', resolve));
    const dump = real.start('tcpdump', ['-i', 'eth0', '-U', '-w', capture, 'tcp dst port 8083'], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    await new Promise((resolve) => dump.stderr!.once('data', resolve));
    expect(curl('--local-port', '43210', `http://${VIP4}:83/`)).toBe('served');
    await until('the capture', () => segments(capture).length >= 4);
    dump.kill();
    const [syn, ack, data] = segments(capture);
    const option = Buffer.from([254, 8, 43210 >> 8, 43210 & 255, 172, 16, 45, 2]).toString('hex');
    expect(optionsOf(syn!)).not.toContain(option);
    expect([ack, data].map((segment) => optionsOf(segment!).slice(0, 16))).toEqual([option, option]);
    expect(data!.toString('latin1')).toContain('GET / HTTP/1.1');
  });
});

/** IPv4 packets of a capture file. */
function segments(path: string): Buffer[] {
  if (!existsSync(path)) return [];
  const bytes = readFileSync(path);
  const found: Buffer[] = [];
  for (let at = 24; at + 16 <= bytes.length; ) {
    const length = bytes.readUInt32LE(at + 8);
    found.push(bytes.subarray(at + 16 + 14, at + 16 + length));
    at += 16 + length;
  }
  return found;
}

const optionsOf = (packet: Buffer): string => packet.subarray(40, 20 + (packet[32]! >> 4) * 4).toString('hex');
