/**
 * Real servers of every kind that is checked, each of which can be made to fail and to recover: nginx, dnsmasq, msmtpd, a process that
 * hangs, one that accepts and stays silent, one behind a route that is dropped.
 */
import { type ChildProcess, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Host } from '../demo/cluster.ts';

export interface Served {
  /** What is tested. */
  readonly name: string;
  readonly address: string;
  readonly port: number;
  readonly protocol: 'TCP' | 'UDP';
  /** The check of the real server, without timing. */
  readonly check: string;
  fail(): void;
  recover(): void;
}

/** A host by the address that is checked. */
export interface Machine {
  readonly host: Host;
  readonly address: string;
}

export const PROGRAMS = ['nginx', 'dnsmasq', 'msmtpd', 'openssl', 'ip'];

const NAME = 'good.example';
/** What the configuration calls `trackedFile`. */
export const TRACK_FILE = 'tracked';

/** Answers with 200 until the file is there; then it accepts, and says nothing. */
const SILENT = `
const [file, port] = process.argv.slice(1);
require('node:http').createServer((_, response) => {
  if (!require('node:fs').existsSync(file)) response.end('ok');
}).listen(Number(port), '0.0.0.0');
`;

export class RealServers {
  readonly #near: Machine;
  readonly #far: Machine;
  readonly #folder: string;
  /** For whom the way back from the far one is dropped. */
  readonly #askers: readonly string[];
  readonly #processes = new Map<string, ChildProcess>();

  constructor(near: Machine, far: Machine, folder: string, askers: readonly string[]) {
    this.#near = near;
    this.#far = far;
    this.#folder = folder;
    this.#askers = askers;
  }

  /** All of them, started. They listen soon. */
  start(): Served[] {
    const cert = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', `/CN=${NAME}`];
    const made = spawnSync('openssl', [...cert, '-keyout', this.#path('key.pem'), '-out', this.#path('cert.pem')]);
    if (made.status !== 0) throw new Error(`Cannot make a certificate: ${made.stderr.toString()}`);
    const { host, address } = this.#near;
    this.#page('digest', 'what it should be\n');
    this.#page('regex', 'all is well\n');
    this.#nginx('pages', host, PAGES(this.#folder));
    this.#nginx('hangs', host, plain(8006));
    this.#nginx('refuses', host, plain(8007));
    this.#nginx('far', this.#far.host, plain(8013));
    this.#run('silent', host, process.execPath, ['-e', SILENT, this.#path('silent-flag'), '8008']);
    this.#dnsmasq('dns', 8010);
    this.#dnsmasq('udp', 8011);
    this.#smtp();
    const near = (name: string, port: number, check: string, change: Change): Served => ({
      name,
      address,
      port,
      protocol: 'TCP',
      check,
      ...change,
    });
    const udp = (served: Served): Served => ({ ...served, protocol: 'UDP' });
    const get = (url: string, more = ''): string => `HTTP_GET {\n${more}url {\n${url}\n}\n`;
    return [
      near('HTTP_GET by status: 200, then 500', 8001, get('path /\nstatus_code 200'), this.#flag('status')),
      near(
        'HTTP_GET by digest',
        8002,
        get(`path /digest\ndigest ${md5('what it should be\n')}`),
        this.#content('digest'),
      ),
      near('HTTP_GET by regex', 8003, get('path /regex\nregex "is w.ll"'), this.#content('regex')),
      near(
        'HTTP_GET by virtualhost',
        8004,
        get('path /\nstatus_code 200', `virtualhost ${NAME}\n`),
        this.#flag('host'),
      ),
      near(
        'SSL_GET with a certificate of its own making',
        8005,
        get('path /\nstatus_code 200').replace('HTTP', 'SSL'),
        this.#flag('tls'),
      ),
      near('HTTP_GET of a process that hangs', 8006, get('path /\nstatus_code 200'), this.#stop('hangs')),
      near('TCP_CHECK of one that is gone', 8007, 'TCP_CHECK {\n', {
        fail: () => this.#kill('refuses'),
        recover: () => this.#nginx('refuses', host, plain(8007)),
      }),
      near('HTTP_GET of one that accepts and stays silent', 8008, get('path /\nstatus_code 200'), this.#flag('silent')),
      udp(near('DNS_CHECK of a dnsmasq that hangs', 8010, `DNS_CHECK {\ntype A\nname ${NAME}\n`, this.#stop('dns'))),
      udp(
        near('UDP_CHECK of a port that closes', 8011, 'UDP_CHECK {\n', {
          fail: () => this.#kill('udp'),
          recover: () => this.#dnsmasq('udp', 8011),
        }),
      ),
      near('SMTP_CHECK', 8012, 'SMTP_CHECK {\n', { fail: () => this.#kill('smtp'), recover: () => this.#smtp() }),
      { ...near('TCP_CHECK behind a dropped route', 8013, 'TCP_CHECK {\n', this.#route()), address: this.#far.address },
      near('PING_CHECK', 8014, 'PING_CHECK {\n', {
        fail: () => host.sysctl('net.ipv4.icmp_echo_ignore_all', 1),
        recover: () => host.sysctl('net.ipv4.icmp_echo_ignore_all', 0),
      }),
      near(
        'MISC_CHECK by its exit status',
        8015,
        `MISC_CHECK {\nmisc_path "/usr/bin/test ! -e ${this.#path('misc-flag')}"\nmisc_timeout 1\n`,
        this.#flag('misc'),
      ),
      near(
        'FILE_CHECK by the number in a file',
        8016,
        `FILE_CHECK {\ntrack_file ${TRACK_FILE}\nweight 0\n`,
        this.#number(),
      ),
    ];
  }

  #path(name: string): string {
    return join(this.#folder, name);
  }

  #flag(name: string): Change {
    const path = this.#path(`${name}-flag`);
    return { fail: () => writeFileSync(path, ''), recover: () => rmSync(path) };
  }

  #page(name: string, text: string): void {
    writeFileSync(this.#path(name), text);
  }

  #content(name: string): Change {
    const right = name === 'digest' ? 'what it should be\n' : 'all is well\n';
    return { fail: () => this.#page(name, 'all is lost\n'), recover: () => this.#page(name, right) };
  }

  /** Any number but 0 is a failure. */
  #number(): Change {
    const write = (text: string): void => writeFileSync(this.trackedFile, text);
    write('0\n');
    return { fail: () => write('1\n'), recover: () => write('0\n') };
  }

  get trackedFile(): string {
    return this.#path('tracked');
  }

  #stop(name: string): Change {
    const signal = (kind: 'SIGSTOP' | 'SIGCONT') => void this.#processes.get(name)!.kill(kind);
    return { fail: () => signal('SIGSTOP'), recover: () => signal('SIGCONT') };
  }

  #kill(name: string): void {
    this.#processes.get(name)!.kill('SIGKILL');
  }

  #route(): Change {
    const change = (verb: string): void => {
      for (const asker of this.#askers) {
        const { status, stderr } = this.#far.host.run('ip', ['route', verb, 'blackhole', `${asker}/32`]);
        if (status !== 0) throw new Error(`Cannot ${verb} the route: ${stderr}`);
      }
    };
    return { fail: () => change('add'), recover: () => change('del') };
  }

  #run(name: string, host: Host, program: string, args: readonly string[]): void {
    this.#processes.set(name, host.start(program, args, { stdio: 'ignore' }));
  }

  /** One process, so that it can be stopped whole. */
  #nginx(name: string, host: Host, servers: string): void {
    const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
      (kind) => `${kind}_temp_path ${this.#path(name)}-${kind};`,
    );
    const text = `daemon off;\nmaster_process off;\npid ${this.#path(name)}.pid;\nerror_log /dev/null;\nevents {}\nhttp {\naccess_log off;\n${temporary.join('\n')}\n${servers}}\n`;
    writeFileSync(this.#path(`${name}.conf`), text);
    this.#run(name, host, 'nginx', ['-c', this.#path(`${name}.conf`), '-e', '/dev/null']);
  }

  #dnsmasq(name: string, port: number): void {
    const quiet = ['--no-resolv', '--no-hosts', '--user=root', '--conf-file=/dev/null', '--pid-file='];
    const args = ['--keep-in-foreground', `--port=${port}`, `--address=/${NAME}/192.0.2.1`, ...quiet];
    this.#run(name, this.#near.host, 'dnsmasq', args);
  }

  #smtp(): void {
    const args = [`--interface=${this.#near.address}`, '--port=8012', '--command=true'];
    this.#run('smtp', this.#near.host, 'msmtpd', args);
  }
}

const md5 = (text: string): string => createHash('md5').update(text).digest('hex');

type Change = Pick<Served, 'fail' | 'recover'>;

const plain = (port: number): string => `server { listen ${port}; location / { return 200 ok; } }\n`;

const PAGES = (folder: string): string => {
  const flagged = (name: string, status: number): string =>
    `location / { if (-f ${folder}/${name}-flag) { return ${status}; } return 200 ok; }`;
  return [
    `server { listen 8001; ${flagged('status', 500)} }`,
    `server { listen 8002; root ${folder}; }`,
    `server { listen 8003; root ${folder}; }`,
    'server { listen 8004 default_server; location / { return 404; } }',
    `server { listen 8004; server_name ${NAME}; ${flagged('host', 503)} }`,
    `server { listen 8005 ssl; ssl_certificate ${folder}/cert.pem; ssl_certificate_key ${folder}/key.pem; ${flagged('tls', 500)} }`,
    '',
  ].join('\n');
};
