/** Connections that go by silence, between real sockets: each end hears a RST, where the service says so. */
import type { ChildProcess } from 'node:child_process';
import { describeKernel, uniqueName } from '@ipvsd/bpf/testing';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { Cluster, type Host } from './demo/cluster.ts';
import { bundle, ours } from './testing/ours.ts';

const node = process.execPath;
const VIP4 = '172.16.45.10';
const VIP6 = 'fd00:45::10';

/** Echoes; a line for each connection, and how it ends. */
const SERVER = `
const { createServer } = require('node:net');
createServer((socket) => {
  console.log('server open');
  socket.on('data', (data) => socket.write(data));
  socket.on('error', (error) => console.log('server ' + error.code));
  socket.on('end', () => console.log('server end'));
}).listen(Number(process.argv[1]), '::', () => console.log('listening'));`;
/** Says hello, hears it, and is silent. */
const CLIENT = `
const { connect } = require('node:net');
const [host, port, localAddress] = process.argv.slice(1);
const socket = connect({ host, port: Number(port), localAddress }, () => socket.write('hello'));
socket.on('data', () => console.log('client open'));
socket.on('error', (error) => console.log('client ' + error.code));
socket.on('end', () => console.log('client end'));`;

let cluster: Cluster;
let client: Host;
let director: Host;
let real: Host;
let server: ChildProcess;
let lines: string[];

const ipvsadm = (...args: string[]): string => ours(director, 'ipvsadm', ...args);

function listen(child: ChildProcess): void {
  child.stdout!.setEncoding('utf8').on('data', (text: string) => lines.push(...text.trim().split('\n')));
}

function start(host: Host, args: readonly string[]): ChildProcess {
  const child = host.start(node, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  listen(child);
  return child;
}

async function until(what: string, isSo: () => boolean, seconds = 20): Promise<void> {
  for (let i = 0; i < seconds * 10; i++) {
    if (isSo()) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`${what} never came to be; heard: ${lines.join(', ')}`);
}

const heard = (line: string): boolean => lines.includes(line);

async function open(address: string, from: readonly string[] = []): Promise<void> {
  start(client, ['-e', CLIENT, address, '80', ...from]);
  await until('the connection', () => heard('client open') && heard('server open'));
}

describeKernel('connections that go by silence, on the real kernel', () => {
  beforeAll(async () => {
    lines = [];
    cluster = new Cluster(uniqueName('ipvsd-idle'));
    client = cluster.host('client');
    director = cluster.host('director');
    real = cluster.host('real1');
    cluster.connect(
      client,
      { name: 'eth0', addresses: ['172.16.45.2/24', '172.16.45.3/24', 'fd00:45::2/64'] },
      director,
      {
        name: 'eth0',
        addresses: [`${VIP4}/24`, `${VIP6}/64`],
      },
    );
    cluster.connect(director, { name: 'eth1', addresses: ['192.168.45.1/24', 'fd00:46::1/64'] }, real, {
      name: 'eth0',
      addresses: ['192.168.45.2/24', 'fd00:46::2/64'],
    });
    real.route('default', '192.168.45.1');
    real.route('default', 'fd00:46::1');
    // The way of replies that do not come back through the director.
    cluster.connect(real, { name: 'eth1', addresses: ['10.9.0.2/24'] }, client, {
      name: 'eth1',
      addresses: ['10.9.0.1/24'],
    });
    real.route('172.16.45.3/32', '10.9.0.1');
    director.sysctl('net.ipv4.ip_forward', 1);
    director.sysctl('net.ipv6.conf.all.forwarding', 1);
    server = start(real, ['-e', SERVER, '80']);
    await until('the real server', () => heard('listening'));
    start(director, [bundle('ipvsd'), 'resets']);
    await until('the sender', () => lines.some((line) => line.startsWith('Sending')));
  });

  afterAll(() => {
    server?.kill();
    cluster?.remove();
  });

  beforeEach(() => {
    lines = [];
    ipvsadm('-C');
  });

  test.each([
    ['IPv4', VIP4, '192.168.45.2'],
    ['IPv6', `[${VIP6}]`, '[fd00:46::2]'],
  ])('both ends are told under NAT (%s)', { timeout: 60_000 }, async (_, vip, address) => {
    ipvsadm('-A', '-t', `${vip}:80`, '-s', 'rr', '--conn-timeout', '2', '--reset-at-expiry');
    ipvsadm('-a', '-t', `${vip}:80`, '-r', `${address}:80`, '-m');
    await open(vip.replace(/[[\]]/g, ''));
    await until('the resets', () => heard('client ECONNRESET') && heard('server ECONNRESET'));
    expect(ipvsadm('-Lnc')).not.toContain('ESTABLISHED');
  });

  test('both ends are told under FULLNAT, the real server by its very peer', { timeout: 60_000 }, async () => {
    ipvsadm('-A', '-t', `${VIP4}:80`, '-s', 'rr', '--conn-timeout', '2', '--reset-at-expiry');
    ipvsadm('-P', '-t', `${VIP4}:80`, '-z', '192.168.45.1');
    ipvsadm('-a', '-t', `${VIP4}:80`, '-r', '192.168.45.2:80', '--fullnat');
    await open(VIP4);
    await until('the resets', () => heard('client ECONNRESET') && heard('server ECONNRESET'));
  });

  test('both ends are told under direct routing, whose replies the director never sees', {
    timeout: 60_000,
  }, async () => {
    const extra = (host: Host, ...args: string[]): void => expect(host.run('ip', args).stderr).toBe('');
    extra(real, 'addr', 'add', '172.16.45.20/32', 'dev', 'lo');
    extra(director, 'addr', 'add', '172.16.45.20/32', 'dev', 'eth0');
    ipvsadm('-A', '-t', '172.16.45.20:80', '-s', 'rr', '--conn-timeout', '2', '--reset-at-expiry');
    ipvsadm('-a', '-t', '172.16.45.20:80', '-r', '192.168.45.2:80', '-g');
    await open('172.16.45.20', ['172.16.45.3']);
    await until('the resets', () => heard('client ECONNRESET') && heard('server ECONNRESET'));
  });

  test('nobody is told where the service does not say so', { timeout: 60_000 }, async () => {
    ipvsadm('-A', '-t', `${VIP4}:80`, '-s', 'rr', '--conn-timeout', '2');
    ipvsadm('-a', '-t', `${VIP4}:80`, '-r', '192.168.45.2:80', '-m');
    await open(VIP4);
    expect(ipvsadm('-Lnc')).toContain('ESTABLISHED');
    await until('the end of the entry', () => !ipvsadm('-Lnc').includes('ESTABLISHED'));
    await new Promise((resolve) => setTimeout(resolve, 1000));
    expect(lines.filter((line) => !line.endsWith('open'))).toEqual([]);
  });
});
