/**
 * Datagrams that tell real servers of their clients, and those that are too long for their way, between real hosts: with the
 * checksums made by the sender, and left to the network card.
 */
import { createHash } from 'node:crypto';
import { describeKernel, uniqueName } from '@ipvsd/bpf/testing';
import { parseFrame } from '@ipvsd/ipvs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Cluster, type Host } from './demo/cluster.ts';
import { ours, startServer, until } from './testing/ours.ts';

const node = process.execPath;
const VIP4 = '172.16.45.10';
const VIP6 = 'fd00:45::10';
const CLIENT4 = '172.16.45.2';
const CLIENT6 = 'fd00:45::2';
const SIGNATURE = '0d0a0d0a000d0a515549540a';

let cluster: Cluster;
let client: Host;
let director: Host;
let real: Host;

function run(host: Host, command: string, ...args: string[]): string {
  const { status, stdout, stderr } = host.run(command, args);
  expect([command, ...args, stderr, status]).toEqual([command, ...args, '', 0]);
  return stdout;
}
const ipvsadm = (...args: string[]): string => ours(director, 'ipvsadm', ...args);
const set = (name: string, value: string): string => ours(director, 'ipvsd', 'set', name, value);

/** Says what it has received, and how much of it. */
const SERVER = `
for (const [kind, address] of [['udp4', '0.0.0.0'], ['udp6', '::']]) {
  const socket = require('dgram').createSocket({ type: kind, ipv6Only: kind === 'udp6' });
  socket.on('message', (bytes, from) => {
    const digest = require('crypto').createHash('sha256').update(bytes).digest('hex');
    socket.send(bytes.subarray(0, 60).toString('hex') + ' ' + bytes.length + ' ' + digest, from.port, from.address);
  });
  socket.bind(5353, address, () => console.log('up'));
}`;

/** Answers with the digest of what it has received, and as much as that. */
const ECHO = `
const socket = require('dgram').createSocket({ type: 'udp4', reuseAddr: true });
socket.on('message', (bytes, from) => {
  const digest = require('crypto').createHash('sha256').update(bytes).digest('hex');
  socket.send(digest + ' ' + 'x'.repeat(bytes.length), from.port, from.address);
});
socket.bind(7007);`;

/** Sends datagrams of these sizes from one port, one after the other, and prints the answers. */
const CLIENT = `
const [address, port, own, ...sizes] = process.argv.slice(1);
const socket = require('dgram').createSocket(address.includes(':') ? 'udp6' : 'udp4');
const send = () => {
  const size = sizes.shift();
  if (size === undefined) process.exit(0);
  const bytes = Uint8Array.from({ length: Number(size) }, (_, i) => (i * 31 + (i >> 8)) & 255);
  let tries = 0;
  const timer = setInterval(() => { if (++tries === 8) { console.log('nothing'); clearInterval(timer); send(); } else socket.send(bytes, port, address); }, 250);
  socket.removeAllListeners('message');
  socket.on('message', (answer) => { clearInterval(timer); console.log(answer.toString()); send(); });
  socket.send(bytes, port, address);
};
socket.bind(Number(own), send);`;

interface Answer {
  readonly beginning: string;
  readonly length: number;
  readonly digest: string;
}

let nextPort = 41_000;
/** What the real server has received of each of these datagrams. */
function ask(address: string, port: number, ...sizes: number[]) {
  const own = nextPort++;
  const text = run(client, node, '-e', CLIENT, address, `${port}`, `${own}`, ...sizes.map(String));
  const lines = text.trim().split('\n');
  const answers = lines.map((line): Answer => {
    const [beginning = '', length = '', digest = ''] = line.split(' ');
    return { beginning, length: Number(length), digest };
  });
  return { own, lines, answers };
}

function service(address: string, port: number, local: string, server: string, ...more: string[]): void {
  const at = address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
  ipvsadm('-A', '-u', at, '-s', 'rr', ...more);
  ipvsadm('-P', '-u', at, '-z', local);
  ipvsadm('-a', '-u', at, '-r', server, '--fullnat');
}

const hex = (number: number, digits = 4): string => number.toString(16).padStart(digits, '0');
const header4 = (own: number, port: number): string => `${SIGNATURE}2112000cac102d02ac102d0a${hex(own)}${hex(port)}`;
const header6 = (own: number, port: number): string =>
  `${SIGNATURE}21220024${'fd000045'.padEnd(28, '0')}0002${'fd000045'.padEnd(28, '0')}0010${hex(own)}${hex(port)}`;

/** A tunnel's end as any host has it: a socket of UDP, which the kernel gives what it has put together and found right. */
const TUNNEL_END = `
const socket = require('dgram').createSocket('udp6');
socket.on('message', (bytes) => console.log(bytes.toString('hex')));
socket.bind(5555, () => console.log('up'));`;

/** Lines that a process on the host prints, as they come. */
async function listen(host: Host, script: string): Promise<string[]> {
  const lines: string[] = [];
  const child = host.start(node, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  let rest = '';
  child.stdout!.on('data', (text) => {
    const parts = (rest + text).split('\n');
    rest = parts.pop()!;
    lines.push(...parts);
  });
  await until('the first line', () => lines.length > 0);
  return lines;
}

const digestOf = (size: number): string => {
  const bytes = Uint8Array.from({ length: size }, (_, i) => (i * 31 + (i >> 8)) & 255);
  return createHash('sha256').update(bytes).digest('hex');
};

/** Sends one datagram and waits for nothing. */
const throwOne = (address: string, port: number, size: number): void => {
  const script = `
    const bytes = Uint8Array.from({ length: ${size} }, (_, i) => (i * 31 + (i >> 8)) & 255);
    const socket = require('dgram').createSocket('udp4');
    socket.send(bytes, ${port}, '${address}', () => socket.close());`;
  run(client, node, '-e', script);
};

describeKernel('datagrams', () => {
  beforeAll(async () => {
    cluster = new Cluster(uniqueName('ipvsd-dgram'));
    client = cluster.host('client');
    director = cluster.host('director');
    real = cluster.host('real');
    const ends = [`${CLIENT4}/24`, `${CLIENT6}/64`];
    const faces = [`${VIP4}/24`, `${VIP6}/64`];
    cluster.connect(client, { name: 'eth0', addresses: ends }, director, { name: 'eth0', addresses: faces });
    cluster.connect(director, { name: 'eth1', addresses: ['192.168.45.1/24', 'fd00:46::1/64'] }, real, {
      name: 'eth0',
      addresses: ['192.168.45.2/24', 'fd00:46::2/64'],
    });
    director.sysctl('net.ipv4.ip_forward', 1);
    director.sysctl('net.ipv6.conf.all.forwarding', 1);
    await startServer(real, ['-e', SERVER]);
  });

  afterAll(() => cluster?.remove());

  describe.each([
    ['left to the card', 'on'],
    ['made by the sender', 'off'],
  ] as const)('with checksums %s', (_, offload) => {
    const base = offload === 'on' ? 100 : 200;
    beforeAll(() => {
      for (const host of [client, real]) host.run('ethtool', ['-K', 'eth0', 'tx', offload]);
    });

    test('have a PROXY header before the first until it is answered', () => {
      service(VIP4, base, '192.168.45.1', '192.168.45.2:5353', '--proxy-protocol', 'v2');
      service(VIP6, base, 'fd00:46::1', '[fd00:46::2]:5353', '--proxy-protocol', 'v2');
      const four = ask(VIP4, base, 100, 101);
      expect(four.answers.map(({ length }) => length)).toEqual([128, 101]);
      expect(four.answers[0]!.beginning.slice(0, 56)).toBe(header4(four.own, base));
      const six = ask(VIP6, base, 101, 100);
      expect(six.answers.map(({ length }) => length)).toEqual([153, 100]);
      expect(six.answers[0]!.beginning.slice(0, 104)).toBe(header6(six.own, base));
    });

    test('have one before each where the service says so, and one that does not fit is told of', () => {
      service(VIP4, base + 1, '192.168.45.1', '192.168.45.2:5353', '--proxy-protocol', 'v2-each');
      service(VIP6, base + 1, 'fd00:46::1', '[fd00:46::2]:5353', '--proxy-protocol', 'v2-each');
      const { answers } = ask(VIP4, base + 1, 0, 33, 1000, 1472 - 28);
      expect(answers.map(({ length }) => length)).toEqual([28, 61, 1028, 1472]);
      // Told what fits, the client's host sends the next ones in fragments, which bear no header: what is too long stays so.
      const six = ask(VIP6, base + 1, 5, 1452 - 52);
      expect(six.answers.map(({ length }) => length)).toEqual([57, 1452]);
    });

    test('say it by an option of IPv4, which any host reads past', () => {
      set('uoa_mode', '1');
      service(VIP4, base + 2, '192.168.45.1', '192.168.45.2:5353');
      const { answers } = ask(VIP4, base + 2, 10, 11, 12, 13);
      expect(answers.map(({ length }) => length)).toEqual([10, 11, 12, 13]);
    });

    test('say it by a header of its own, which needs a module', async () => {
      set('uoa_mode', '2');
      const dump = real.start('tcpdump', ['-i', 'eth0', '-n', '-x', '-l', '-c', '3', 'proto 248'], {
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      await new Promise((resolve) => dump.stderr!.once('data', resolve));
      let seen = '';
      dump.stdout!.on('data', (text) => (seen += text));
      const ended = new Promise((resolve) => dump.once('close', resolve));
      service(VIP4, base + 3, '192.168.45.1', '192.168.45.2:5353');
      const { own, answers } = ask(VIP4, base + 3, 10);
      await ended;
      // Nobody there knows it; the fourth datagram goes as it is, and is answered.
      expect(answers.map(({ length }) => length)).toEqual([10]);
      const bytes = seen.replace(/^.*?0x0000:/s, '0x0000:').replace(/0x[0-9a-f]{4}:|\s/g, '');
      expect(bytes).toContain(`1011000c1f08${hex(own)}ac102d02`);
      set('uoa_mode', '0');
    });

    test('too long for a tunnel of IPv6 are split there, and the kernel at its end puts them together', async () => {
      client.sysctl('net.ipv4.ip_no_pmtu_disc', 1);
      const received = await listen(real, TUNNEL_END.replace('5555', `${5555 + base}`));
      ipvsadm('-A', '-u', `${VIP4}:${base + 4}`, '-s', 'rr');
      const tunnel = ['-i', '--tun-type', 'gue', '--tun-port', `${5555 + base}`, '--tun-csum'];
      ipvsadm('-a', '-u', `${VIP4}:${base + 4}`, '-r', `[fd00:46::2]:${base + 4}`, ...tunnel);
      for (const [i, size] of [100, 1472, 1472, 1440, 1473].entries()) {
        throwOne(VIP4, base + 4, size);
        // The last one comes in two fragments, the first of which is split.
        await until(`datagram ${i}`, () => received.length >= i + 2 + (size === 1473 ? 1 : 0));
      }
      const inner = received.slice(1).map((line) => Buffer.from(line, 'hex').subarray(4));
      expect(inner.map(({ length }) => length).slice(0, 4)).toEqual([128, 1500, 1500, 1468]);
      for (const packet of inner.slice(0, 4)) {
        const frame = parseFrame(Uint8Array.from([...new Uint8Array(12), 8, 0, ...packet]));
        expect(frame).toMatchObject({ source: CLIENT4, destination: VIP4, destinationPort: base + 4 });
        // What is not split, and what no card has had in hand, has no checksum yet where that is left to it.
        if (packet.length > 1000 || offload === 'off') expect(frame.valid).toBe(true);
        expect(createHash('sha256').update(frame.payload).digest('hex')).toBe(digestOf(frame.payload.length));
      }
      client.sysctl('net.ipv4.ip_no_pmtu_disc', 0);
    });

    test('too long for their way under FULLNAT are split both ways', async () => {
      client.sysctl('net.ipv4.ip_no_pmtu_disc', 1);
      real.sysctl('net.ipv4.ip_no_pmtu_disc', 1);
      service(VIP4, base + 5, '192.168.45.1', '192.168.45.2:7007');
      service(VIP4, base + 6, '192.168.45.1', '192.168.45.2:5353', '--proxy-protocol', 'v2-each');
      real.start(node, ['-e', ECHO], { stdio: ['ignore', 'ignore', 'inherit'] });
      const sizes = [100, 1472, 1001, 1473, 4000];
      const digests = (): string[] => ask(VIP4, base + 5, ...sizes).lines;
      const whole = sizes.map((size) => `${digestOf(size)} ${'x'.repeat(size)}`);
      expect(digests()).toEqual(whole);
      // With a header a datagram of the client's own MTU is too long, on the same way.
      expect(ask(VIP4, base + 6, 1472).answers[0]).toMatchObject({ length: 1500 });
      run(director, 'ip', 'route', 'add', '192.168.45.2', 'dev', 'eth1', 'mtu', 'lock', '1000');
      run(director, 'ip', 'route', 'add', CLIENT4, 'dev', 'eth0', 'mtu', 'lock', '1000');
      // The director asks the kernel for a route once a second.
      await new Promise((resolve) => setTimeout(resolve, 1500));
      expect(digests()).toEqual(whole);
      run(director, 'ip', 'route', 'del', '192.168.45.2');
      run(director, 'ip', 'route', 'del', CLIENT4);
      client.sysctl('net.ipv4.ip_no_pmtu_disc', 0);
    });
  });
});
