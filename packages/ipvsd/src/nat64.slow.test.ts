/**
 * NAT64 with real programs: a network of IPv6 before the director and one of IPv4 behind it, a router in each, and nginx that hears
 * who its clients are.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { describeKernel, uniqueName } from '@ipvsd/bpf/testing';
import { withRoutes } from '@ipvsd/linux';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Cluster, type Host } from './demo/cluster.ts';
import { bundle, ours, startServer, until } from './testing/ours.ts';

const node = process.execPath;
const VIP = 'fd00:45::10';
const CLIENT = 'fd00:44::2';
const LOCAL = '192.168.45.1';
const REAL = '192.168.46.2';
const MEGABYTES = 128;

let cluster: Cluster;
let client: Host;
let router6: Host;
let director: Host;
let router4: Host;
let real: Host;
let folder: string;

const ipvsadm = (...args: string[]): string => ours(director, 'ipvsadm', ...args);

function service(option: string, port: number, realPort: number, ...more: string[]): void {
  const virtual = `[${VIP}]:${port}`;
  ipvsadm('-A', option, virtual, '-s', 'rr', ...more);
  ipvsadm('-P', option, virtual, '-z', LOCAL, '-F', 'eth1');
  ipvsadm('-a', option, virtual, '-r', `${REAL}:${realPort}`, '--fullnat');
}

const curl = (...args: string[]): string => {
  const { stdout, stderr } = client.run('curl', ['-sS', '--max-time', '60', ...args]);
  expect(stderr).toBe('');
  return stdout;
};

const configuration = (): string => `
daemon off; master_process off; pid ${folder}/pid; error_log ${folder}/error;
events { worker_connections 512; }
http {
  access_log off; client_max_body_size 0; client_body_temp_path ${folder}/body;
  fastcgi_temp_path ${folder}/a; proxy_temp_path ${folder}/b; scgi_temp_path ${folder}/c; uwsgi_temp_path ${folder}/d;
  server {
    listen 8000 proxy_protocol;
    location / { return 200 "$proxy_protocol_addr $proxy_protocol_port to $proxy_protocol_server_addr seen $remote_addr\\n"; }
    location /files/ { root ${folder}; dav_methods PUT; }
  }
  server {
    listen 8001;
    location / { return 200 "seen $remote_addr\\n"; }
    location /files/ { root ${folder}; dav_methods PUT; }
  }
}
`;

const sumOf = (path: string): string => createHash('sha256').update(readFileSync(path)).digest('hex');
const mtu = (host: Host, name: string, size: number): void => {
  const { stderr } = host.run('ip', ['link', 'set', name, 'mtu', `${size}`]);
  expect(stderr).toBe('');
};
const counted = (reason: string): number =>
  Number(new RegExp(`\\b${reason}\\b\\D+(\\d+)`).exec(ours(director, 'ipvsd', 'status'))?.[1] ?? 0);

describeKernel('clients of IPv6 and real servers of IPv4', () => {
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'ipvsd-nat64-'));
    mkdirSync(join(folder, 'files'));
    cluster = new Cluster(uniqueName('ipvsd-nat64'));
    client = cluster.host('client');
    router6 = cluster.host('router6');
    director = cluster.host('director');
    router4 = cluster.host('router4');
    real = cluster.host('real');
    cluster.connect(client, { name: 'eth0', addresses: [`${CLIENT}/64`] }, router6, {
      name: 'eth0',
      addresses: ['fd00:44::1/64'],
    });
    // Neither side of the director has an address of the other's family.
    cluster.connect(router6, { name: 'eth1', addresses: ['fd00:45::1/64'] }, director, {
      name: 'eth0',
      addresses: [`${VIP}/64`],
    });
    cluster.connect(director, { name: 'eth1', addresses: [`${LOCAL}/24`] }, router4, {
      name: 'eth0',
      addresses: ['192.168.45.254/24'],
    });
    cluster.connect(router4, { name: 'eth1', addresses: ['192.168.46.1/24'] }, real, {
      name: 'eth0',
      addresses: [`${REAL}/24`],
    });
    for (const host of [router6, director, router4]) {
      host.sysctl('net.ipv4.ip_forward', 1);
      host.sysctl('net.ipv6.conf.all.forwarding', 1);
    }
    withRoutes(client.namespace, (routes) => routes.addRoute({ to: 'fd00:45::/64', via: 'fd00:44::1' }));
    director.route('fd00:44::/64', 'fd00:45::1');
    director.route('192.168.46.0/24', '192.168.45.254');
    real.route('192.168.45.0/24', '192.168.46.1');
    const file = join(folder, 'nginx.conf');
    writeFileSync(file, configuration());
    real.start('nginx', ['-c', file, '-e', join(folder, 'error')], { stdio: ['ignore', 'ignore', 'inherit'] });
    await until('nginx', () => real.run('curl', ['-s', 'http://127.0.0.1:8001/']).status === 0);
    service('-t', 80, 8001);
    service('-t', 81, 8000, '--proxy-protocol', 'v1');
    service('-t', 82, 8000, '--proxy-protocol', 'v2');
  });

  afterAll(() => {
    cluster?.remove();
    if (folder !== undefined) rmSync(folder, { recursive: true });
  });

  test('meet: curl over IPv6 is served by nginx over IPv4', () => {
    expect(curl(`http://[${VIP}]/`)).toBe(`seen ${LOCAL}\n`);
  });

  test.each([
    [1, 81],
    [2, 82],
  ])('nginx hears who the client is, by the PROXY protocol (version %i)', (_, port) => {
    const text = curl('--local-port', `${43_000 + port}`, `http://[${VIP}]:${port}/`);
    const [address, ...rest] = text.trim().split(' ');
    expect(new URL(`http://[${address}]`).hostname).toBe(`[${CLIENT}]`);
    expect(rest[0]).toBe(`${43_000 + port}`);
    expect(text).toContain(`seen ${LOCAL}`);
  });

  test(`${MEGABYTES} MB arrive whole both ways, in large segments`, async () => {
    const file = join(folder, 'upload');
    const bytes = Buffer.alloc(MEGABYTES << 20);
    for (let i = 0; i < bytes.length; i += 4) bytes.writeUInt32LE(Math.imul(i + 1, 0x9e37_79b1) >>> 0, i);
    writeFileSync(file, bytes);
    curl('-H', 'Expect:', '-T', file, `http://[${VIP}]:82/files/whole`);
    expect(sumOf(join(folder, 'files/whole'))).toBe(sumOf(file));
    curl('-o', join(folder, 'download'), `http://[${VIP}]/files/whole`);
    expect(sumOf(join(folder, 'download'))).toBe(sumOf(file));
    await pause(2500);
    const figures = (port: number): number[] =>
      ipvsadm('-Ln', '-t', `[${VIP}]:${port}`, '--stats', '--exact')
        .split('\n')
        .find((line) => line.startsWith('TCP'))!
        .split(/\s+/)
        .slice(2)
        .map(Number);
    const [, inPackets, , inBytes] = figures(82);
    const [, , outPackets, , outBytes] = figures(80);
    expect(inBytes! / inPackets!).toBeGreaterThan(4 * 1500);
    expect(outBytes! / outPackets!).toBeGreaterThan(4 * 1500);
    expect(outBytes!).toBeGreaterThan(MEGABYTES << 20);
  }, 120_000);

  test('and so they do where each segment travels alone', () => {
    const file = join(folder, 'upload');
    writeFileSync(file, readFileSync(file).subarray(0, 24 << 20));
    const offload = (state: string): void => {
      for (const host of [client, real]) {
        for (const kind of ['tso', 'gso', 'tx']) host.run('ethtool', ['-K', 'eth0', kind, state]);
      }
    };
    offload('off');
    try {
      curl('-H', 'Expect:', '-T', file, `http://[${VIP}]:81/files/alone`);
      expect(sumOf(join(folder, 'files/alone'))).toBe(sumOf(file));
      curl('-o', join(folder, 'download'), `http://[${VIP}]/files/alone`);
      expect(sumOf(join(folder, 'download'))).toBe(sumOf(file));
    } finally {
      offload('on');
    }
  });

  test('find out what fits: a narrow way of IPv4 is told to the client, one of IPv6 to the real server', () => {
    const known = (host: Host, family: string, to: string): string =>
      host.run('ip', [family, 'route', 'get', to]).stdout;
    mtu(router4, 'eth1', 1400);
    try {
      curl('-H', 'Expect:', '-T', join(folder, 'upload'), `http://[${VIP}]:82/files/narrow`);
      expect(sumOf(join(folder, 'files/narrow'))).toBe(sumOf(join(folder, 'upload')));
      expect(known(client, '-6', VIP)).toContain('mtu 1420');
    } finally {
      mtu(router4, 'eth1', 1500);
    }
    mtu(router6, 'eth0', 1300);
    try {
      curl('-o', join(folder, 'download'), `http://[${VIP}]/files/narrow`);
      expect(sumOf(join(folder, 'download'))).toBe(sumOf(join(folder, 'upload')));
      expect(known(real, '-4', LOCAL)).toContain('mtu 1280');
    } finally {
      mtu(router6, 'eth0', 1500);
    }
  }, 60_000);

  test('by the director’s own way as well', async () => {
    mtu(director, 'eth1', 1360);
    // What the ends know from before.
    client.run('ip', ['-6', 'route', 'flush', 'cache']);
    real.run('ip', ['route', 'flush', 'cache']);
    // Ways are asked for once a second.
    await pause(1500);
    try {
      curl('-H', 'Expect:', '-T', join(folder, 'upload'), `http://[${VIP}]:82/files/own`);
      expect(sumOf(join(folder, 'files/own'))).toBe(sumOf(join(folder, 'upload')));
      expect(client.run('ip', ['-6', 'route', 'get', VIP]).stdout).toContain('mtu 1380');
    } finally {
      mtu(director, 'eth1', 1500);
    }
  }, 60_000);

  test('thousands of requests at once, none of them fails', () => {
    const load = ['demo-load', `http://[${VIP}]/`, '--requests', '3000', '--concurrency', '50'];
    const { stdout } = client.run(node, [bundle('ipvsd'), ...load]);
    expect(JSON.parse(stdout)).toMatchObject({ requests: 3000, failures: 0 });
  });

  test('an echo of UDP comes back, of any length, in fragments too, and where the real server makes no checksum', async () => {
    service('-u', 9000, 9000);
    await startServer(real, [
      '-e',
      `const s = require('dgram').createSocket('udp4').on('message', (m, from) => s.send(m, from.port, from.address)).bind(9000, () => console.log('up'))`,
    ]);
    const ask = `
      const s = require('dgram').createSocket('udp6');
      const sizes = [0, 1, 2, 33, 1200, 1400, 1452, 4000, 20000];
      let tries = 0;
      const next = () => { tries = 0; if (sizes.length === 0) { console.log('all'); s.close(); } else send(); };
      // What does not fit is told to the real server, and the next answer is cut to what does.
      const send = () => { if (tries++ < 5) s.send(Buffer.alloc(sizes[0], 7), 9000, '${VIP}'); else { console.log(sizes[0]); process.exit(1); } };
      const timer = setInterval(send, 400);
      s.on('message', (m) => {
        if (m.length !== sizes[0] || m.some((byte) => byte !== 7)) { console.log('got', m.length); return; }
        sizes.shift(); next(); if (sizes.length === 0) clearInterval(timer);
      });
      s.bind(() => send());`;
    expect(client.run(node, ['-e', ask]).stdout).toBe('all\n');
    service('-u', 9001, 9001);
    // SO_NO_CHECK is 11, which Node cannot say.
    const echo = `use Socket; $| = 1; socket(S, AF_INET, SOCK_DGRAM, 0); setsockopt(S, SOL_SOCKET, 11, 1);
      bind(S, sockaddr_in(9001, INADDR_ANY)) or die; print "up\\n"; while ($from = recv(S, $m, 9000, 0)) { send(S, $m, 0, $from); }`;
    const bare = real.start('perl', ['-e', echo], { stdio: ['ignore', 'pipe', 'inherit'] });
    await new Promise((resolve) => bare.stdout!.once('data', resolve));
    const once = `const s = require('dgram').createSocket('udp6').on('message', (m) => { console.log(String(m)); s.close(); }); setTimeout(() => process.exit(1), 5000).unref(); s.send('hello', 9001, '${VIP}')`;
    expect(client.run(node, ['-e', once]).stdout).toBe('hello\n');
  }, 60_000);

  test('datagrams that one system call sends by the dozen (UDP_SEGMENT) stay together', async () => {
    service('-u', 9002, 9002);
    const segments = `setsockopt(S, 17, 103, pack('i', 1000)) or die;`;
    const serve = `use Socket; $| = 1; socket(S, AF_INET, SOCK_DGRAM, 0); ${segments}
      bind(S, sockaddr_in(9002, INADDR_ANY)) or die; print "up\\n"; while ($from = recv(S, $m, 9000, 0)) { send(S, $m x 5, 0, $from); }`;
    const server = real.start('perl', ['-e', serve], { stdio: ['ignore', 'pipe', 'inherit'] });
    await new Promise((resolve) => server.stdout!.once('data', resolve));
    const ask = `use Socket; socket(S, AF_INET6, SOCK_DGRAM, 0); ${segments}
      send(S, 'x' x 4000, 0, pack_sockaddr_in6(9002, Socket::inet_pton(AF_INET6, '${VIP}'))) or die; alarm 5;
      for (1 .. 20) { recv(S, $m, 9000, 0); die if $m ne 'x' x 1000; } print 'all';`;
    expect(client.run('perl', ['-e', ask])).toMatchObject({ stdout: 'all', stderr: '' });
  }, 60_000);

  test('errors arrive in the receiver’s own family: closed ports, and the way there', () => {
    service('-t', 83, 83);
    // 7: the connection was refused; a connection that nobody answers would end with 28.
    expect(client.run('curl', ['-sS', '--max-time', '5', `http://[${VIP}]:83/`]).status).toBe(7);
    service('-u', 84, 84);
    const ask = `const s = require('dgram').createSocket('udp6').on('error', (e) => { console.log(e.code); process.exit(); }); s.connect(84, '${VIP}', () => setInterval(() => s.send('x'), 300)); setTimeout(() => process.exit(1), 5000)`;
    expect(client.run(node, ['-e', ask]).stdout).toBe('ECONNREFUSED\n');
    const { stdout } = client.run('traceroute', ['-6', '-n', '-q', '1', '-w', '2', '-T', '-p', '80', VIP]);
    const hops = stdout
      .trim()
      .split('\n')
      .slice(1)
      .map((line) => line.trim().split(/\s+/)[1]);
    // The router, the director, the router of IPv4 and the real server, both of which have no address in IPv6.
    expect(hops).toEqual(['fd00:44::1', VIP, VIP, VIP]);
  }, 30_000);

  test('nothing was lost for want of a word, and the host answered none of it', () => {
    expect(counted('untranslated')).toBe(0);
    const snmp = director.run('cat', ['/proc/net/snmp']).stdout.split('\n');
    const [names, values] = snmp.filter((line) => line.startsWith('Tcp:')).map((line) => line.split(' '));
    expect(values![names!.indexOf('OutRsts')]).toBe('0');
  });

  test('what is listed, saved and restored says so', () => {
    expect(ipvsadm('-Ln', '-t', `[${VIP}]:80`)).toMatch(/192\.168\.46\.2:8001 +FullNat/);
    expect(ipvsadm('-G', '-t', `[${VIP}]:80`)).toContain(`  -> ${LOCAL}\n`);
    curl(`http://[${VIP}]/`);
    expect(ipvsadm('-Lnc')).toMatch(
      new RegExp(`TCP +\\d\\d:\\d\\d +\\w+ +\\[${CLIENT}\\]:\\d+ +\\[${VIP}\\]:80 +192\\.168\\.46\\.2:8001`),
    );
    const saved = ours(director, 'ipvsadm-save', '-n');
    expect(saved).toContain(`-P -t [${VIP}]:80 -z ${LOCAL}\n`);
    expect(saved).toContain(`-a -t [${VIP}]:80 -r ${REAL}:8001 --fullnat -w 1\n`);
    ipvsadm('-C');
    director.run('sh', ['-c', `echo '${saved}' | ${node} ${bundle('ipvsadm-restore')}`]);
    expect(ours(director, 'ipvsadm-save', '-n')).toBe(saved);
    expect(curl(`http://[${VIP}]/`)).toBe(`seen ${LOCAL}\n`);
  });

  test('what is explained, and what a configuration says, is the same', async () => {
    const explained = ours(director, 'ipvsd', 'explain', 'client', `[${CLIENT}]:999`, `[${VIP}]:80`);
    expect(explained).toContain(`${REAL}:8001`);
    ipvsadm('-C');
    const file = join(folder, 'ipvsd.yaml');
    writeFileSync(
      file,
      `services:
  - address: ${VIP}
    port: 80
    scheduler: rr
    forwarding: fullnat
    localAddresses: [${LOCAL}]
    proxyProtocol: v2
    checks: [{ type: tcp, every: 1 }]
    realServers: [{ address: ${REAL}, port: 8000 }]
`,
    );
    const daemon = director.start(node, [bundle('ipvsd'), 'run', '-f', file], { stdio: ['ignore', 'ignore', 'pipe'] });
    try {
      await until('the real server', () => ipvsadm('-Ln').includes(`${REAL}:8000`));
      expect(curl(`http://[${VIP}]/`)).toContain(`seen ${LOCAL}`);
    } finally {
      daemon.kill();
    }
  });
});
