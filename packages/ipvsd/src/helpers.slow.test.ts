/**
 * Helpers with real programs: Debian's vsftpd and tftpd-hpa on the real servers, curl and lftp as clients. FTP active and passive, under
 * NAT, FULLNAT, DR and TUN; TFTP where there is a helper.
 */
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeKernel, uniqueName } from '@ipvsd/bpf/testing';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Cluster, type Host } from './demo/cluster.ts';
import { addService, buildNetworks, waitForPort } from './testing/networks.ts';
import { ours } from './testing/ours.ts';

const VSFTPD = '/usr/sbin/vsftpd';
const TFTPD = '/usr/sbin/in.tftpd';
const missing = [VSFTPD, TFTPD, '/usr/bin/curl', '/usr/bin/lftp'].filter((file) => !existsSync(file));
/** Real servers that answer clients past the director. */
const VIPS = [
  ['dr', '172.16.45.100', 32],
  ['tun', '172.16.45.101', 32],
  ['dr', 'fd00:45::100', 128],
  ['tun', 'fd00:45::101', 128],
] as const;
/** To set up hosts and services, on a busy machine. */
const HOOK_MS = 120_000;
const UPLOADED = 3_000_000;
/** Files of a folder that is fetched as a whole. */
const MANY = 40;
let folder: string;

/** What a real server serves: a file that names it, a large one, and a folder that anybody may write to. */
function serveFtp(host: Host, port = 21): void {
  const root = join(folder, host.name);
  mkdirSync(join(root, 'in'), { recursive: true });
  mkdirSync(join(root, 'nothing'), { recursive: true });
  mkdirSync(join(root, 'many'), { recursive: true });
  for (let i = 0; i < MANY; i++) writeFileSync(join(root, 'many', `${i}`), Buffer.alloc(50_000, `${i} `));
  writeFileSync(join(root, 'name'), `${host.name}\n`);
  writeFileSync(join(root, 'large'), Buffer.alloc(20_000_000, host.name));
  chmodSync(join(root, 'in'), 0o777);
  const settings = {
    listen: 'NO',
    listen_ipv6: 'YES',
    listen_port: port,
    background: 'NO',
    anonymous_enable: 'YES',
    anon_root: root,
    anon_upload_enable: 'YES',
    anon_umask: '022',
    write_enable: 'YES',
    connect_from_port_20: 'YES',
    ftp_data_port: port - 1,
    secure_chroot_dir: join(root, 'nothing'),
    xferlog_enable: 'NO',
    seccomp_sandbox: 'NO',
  };
  const file = join(folder, `${host.name}.conf`);
  writeFileSync(
    file,
    Object.entries(settings)
      .map(([name, value]) => `${name}=${value}\n`)
      .join(''),
  );
  host.start(VSFTPD, [file], { stdio: 'inherit' });
}

/** The same folder by TFTP, which anybody may write to. */
function serveTftp(host: Host): void {
  const root = join(folder, host.name, 'in');
  host.start(TFTPD, ['--foreground', '--listen', '--address', ':69', '--create', '--permissive', '--secure', root], {
    stdio: 'inherit',
  });
}

/** How curl opens its data connections. A passive answer's address is believed, as other clients do. */
const MODES = [
  ['EPSV', []],
  ['PASV', ['--disable-epsv', '--no-ftp-skip-pasv-ip']],
  ['EPRT', ['--ftp-port', '-']],
  ['PORT', ['--ftp-port', '-', '--disable-eprt']],
] as const;

/** What works, for a client of the service at `url`. */
function testTransfers(client: () => Host, url: string, modes: readonly (typeof MODES)[number][]): void {
  const curl = (...args: readonly string[]) =>
    client().run('curl', ['--silent', '--show-error', '--max-time', '25', ...args], { timeout: 30_000 });

  test.each(modes)('%s: a file comes down, a large one too, one goes up, and a folder is listed', (mode, options) => {
    const name = curl(...options, `${url}/name`);
    expect(name).toMatchObject({ stderr: '', status: 0 });
    expect(name.stdout).toMatch(/^real[12]\n$/);
    const large = join(folder, `large-${mode}`);
    expect(curl(...options, '--output', large, `${url}/large`)).toMatchObject({ stderr: '', status: 0 });
    expect(readFileSync(large)).toHaveLength(20_000_000);
    const up = join(folder, 'up');
    writeFileSync(up, Buffer.alloc(UPLOADED, mode));
    const uploaded = `in/${mode}-${uniqueName('')}`;
    expect(curl(...options, '--upload-file', up, `${url}/${uploaded}`)).toMatchObject({ stderr: '', status: 0 });
    const copies = ['real1', 'real2'].map((host) => join(folder, host, uploaded)).filter((file) => existsSync(file));
    expect(copies).toHaveLength(1);
    expect(readFileSync(copies[0]!).equals(readFileSync(up))).toBe(true);
    expect(curl(...options, '--list-only', `${url}/`).stdout.split('\n')).toContain('large');
  });

  test.each(modes)('%s: many files on one control connection', (_mode, options) => {
    const urls = Array.from({ length: 5 }, () => `${url}/name`);
    const { stdout, stderr, status } = curl(...options, ...urls);
    expect({ stderr, status }).toEqual({ stderr: '', status: 0 });
    expect(stdout).toMatch(/^(real1\n){5}$|^(real2\n){5}$/);
  });
}

/** What another client of the service at `url` does: a folder at once, with several connections and whatever it thinks best. */
function testMirror(client: () => Host, url: string): void {
  test.each(['yes', 'no'])('lftp fetches a folder by four connections (passive: %s)', (passive) => {
    const to = join(folder, uniqueName('mirror'));
    const settings = `set net:timeout 5; set net:max-retries 2; set ftp:passive-mode ${passive}; set dns:order "inet6 inet"`;
    const mirror = `mirror --parallel=4 --verbose=0 many ${to}`;
    const words = ['-c', `${settings}; open ${url}; ${mirror}`];
    expect(client().run('lftp', words, { timeout: 40_000 })).toMatchObject({ stdout: '', stderr: '', status: 0 });
    for (let i = 0; i < MANY; i++)
      expect(readFileSync(join(to, `${i}`)).equals(Buffer.alloc(50_000, `${i} `))).toBe(true);
  }, 45_000);
}

function describeFtp(name: string, body: () => void): void {
  if (missing.length === 0) describeKernel(name, body);
  else describe.skip(`${name} (skipped: there is no ${missing.join(' and no ')})`, body);
}

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'ipvsd-ftp-'));
  chmodSync(folder, 0o755);
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe.each(['NAT', 'FULLNAT'] as const)('through %s', (method) => {
  describeFtp(`FTP through ${method}`, () => {
    let cluster: Cluster;
    let client: Host;
    let director: Host;
    let inside: Host;

    beforeAll(async () => {
      cluster = new Cluster(uniqueName('ipvsd-ftp'));
      // Under FULLNAT whatever a real server sends is addressed to the director itself.
      const networks = buildNetworks(cluster, method === 'NAT');
      const { reals } = networks;
      director = networks.director;
      [client] = networks.clients;
      [inside] = reals;
      for (const real of reals) {
        serveFtp(real);
        serveTftp(real);
        await waitForPort(real, 21);
      }
      serveFtp(client);
      serveTftp(client);
      writeFileSync(join(folder, client.name, 'in', 'hello'), 'hello');
      await waitForPort(client, 21);
      ours(director, 'ipvsd', 'set', 'tftp_ports', '69');
      for (const six of [false, true]) {
        addService(director, '-t', 21, method, six);
        addService(director, '-u', 69, method, six);
      }
    }, HOOK_MS);

    afterAll(() => cluster?.remove());

    describe('over IPv4', () => {
      testTransfers(() => client, 'ftp://172.16.45.10', [...MODES]);
      testMirror(() => client, 'ftp://172.16.45.10');
    });
    describe('over IPv6', () => {
      testTransfers(
        () => client,
        'ftp://[fd00:45::10]',
        MODES.filter(([mode]) => mode === 'EPSV' || mode === 'EPRT'),
      );
      testMirror(() => client, 'ftp://[fd00:45::10]');
    });

    test.each([
      ['172.16.45.2', '192.168.45.0/24', [...MODES]],
      ['[fd00:45::2]', 'fd00:46::/64', MODES.filter(([mode]) => mode.startsWith('E'))],
    ] as const)('a masqueraded host reaches an FTP server outside (%s)', (outside, network, modes) => {
      // Each host inside has a way out through the director, and outside nobody knows of them.
      const six = network.includes(':');
      if (method === 'FULLNAT') inside.route(six ? '::/0' : '0.0.0.0/0', six ? 'fd00:46::1' : '192.168.45.1');
      ours(director, 'ipvsd', 'masquerade', 'add', '--from', network, '--to', 'eth0');
      for (const [mode, options] of modes) {
        const curl = inside.run('curl', ['-sS', '--max-time', '20', ...options, `ftp://${outside}/name`]);
        expect(curl, mode).toMatchObject({ stdout: 'client1\n', stderr: '', status: 0 });
      }
      const tftp = inside.run('curl', ['-sS', '--max-time', '20', `tftp://${outside}/hello`]);
      expect(tftp).toMatchObject({ stdout: 'hello', stderr: '', status: 0 });
    });

    test.each([
      '172.16.45.10',
      '[fd00:45::10]',
    ])('TFTP: a file goes up to one real server and comes down (%s)', (vip) => {
      const file = uniqueName('tftp-');
      const bytes = Buffer.alloc(70_000, file);
      const here = join(folder, file);
      writeFileSync(here, bytes);
      const curl = (...args: readonly string[]) => client.run('curl', ['-sS', '--max-time', '20', ...args]);
      expect(curl('--upload-file', here, `tftp://${vip}/${file}`)).toMatchObject({ stderr: '', status: 0 });
      const copies = ['real1', 'real2'].map((host) => join(folder, host, 'in', file));
      const [there, elsewhere] = existsSync(copies[0]!) ? copies : [...copies].reverse();
      expect(readFileSync(there!).equals(bytes)).toBe(true);
      writeFileSync(elsewhere!, bytes);
      const down = join(folder, `${file}-down`);
      for (let i = 0; i < 4; i++) {
        expect(curl('--output', down, `tftp://${vip}/${file}`)).toMatchObject({ stderr: '', status: 0 });
        expect(readFileSync(down).equals(bytes)).toBe(true);
      }
    });

    test('the listing of helpers counts control connections', () => {
      expect(ours(director, 'ipvsd', 'proc', 'ip_vs_app')).toMatch(
        /^prot port {4}usecnt name\nTCP {2}21 {6}[1-9]\d* +ftp {14}\nUDP {2}69 {6}[1-9]\d* +tftp {13}\n$/,
      );
    });

    test('data connections are listed, bound to the real server of their control connection', () => {
      expect(ours(director, 'ipvsadm', '-Lnc')).toMatch(/172\.16\.45\.10:20 +192\.168\.45\.[23]:20/);
    });
  });
});

describeFtp('FTP by persistence', () => {
  let cluster: Cluster;
  let client: Host;
  let director: Host;

  beforeAll(async () => {
    cluster = new Cluster(uniqueName('ipvsd-ftpd'));
    client = cluster.host('client');
    director = cluster.host('director');
    const reals = [cluster.host('real1'), cluster.host('real2')] as const;
    cluster.switch('switch', [
      [client, { name: 'eth0', addresses: ['172.16.45.2/24', 'fd00:45::2/64'] }],
      [
        director,
        {
          name: 'eth0',
          addresses: ['172.16.45.1/24', 'fd00:45::1/64', ...VIPS.map(([, vip, bits]) => `${vip}/${bits}`)],
        },
      ],
      [reals[0], { name: 'eth0', addresses: ['172.16.45.21/24', 'fd00:45::21/64'] }],
      [reals[1], { name: 'eth0', addresses: ['172.16.45.22/24', 'fd00:45::22/64'] }],
    ]);
    director.sysctl('net.ipv4.ip_forward', 1);
    director.sysctl('net.ipv6.conf.all.forwarding', 1);
    for (const real of reals) {
      for (const [method, vip] of VIPS) ours(real, 'ipvsd', 'real-server', 'setup', '--vip', vip, '--method', method);
      serveFtp(real);
      await waitForPort(real, 21);
    }
    for (const [method, vip] of VIPS) {
      const [service, one, two] = vip.includes(':')
        ? [`[${vip}]:21`, '[fd00:45::21]:21', '[fd00:45::22]:21']
        : [`${vip}:21`, '172.16.45.21:21', '172.16.45.22:21'];
      ours(director, 'ipvsadm', '-A', '-t', service, '-s', 'rr', '-p', '300');
      for (const real of [one, two]) {
        ours(director, 'ipvsadm', '-a', '-t', service, '-r', real, method === 'dr' ? '-g' : '-i');
      }
    }
  }, HOOK_MS);

  afterAll(() => cluster?.remove());

  for (const [method, vip] of VIPS) {
    const six = vip.includes(':');
    const modes = MODES.filter(([mode]) => !six || mode.startsWith('E'));
    const url = six ? `ftp://[${vip}]` : `ftp://${vip}`;
    describe(`${method}, over ${six ? 'IPv6' : 'IPv4'}`, () => {
      testTransfers(() => client, url, modes);
      testMirror(() => client, url);
    });
  }

  test('all of a client goes to one real server, by a template for all ports', () => {
    expect(ours(director, 'ipvsadm', '-Lnc')).toMatch(/172\.16\.45\.2:0 +172\.16\.45\.100:0 +172\.16\.45\.2[12]:0/);
  });
});
