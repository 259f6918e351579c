import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import {
  createNamespace,
  currentNamespaceId,
  deleteNamespace,
  errnoCode,
  formatIp,
  hasCapability,
  inNamespace,
  listNamespaces,
  lockFile,
  monotonicCoarseNs,
  monotonicNs,
  mountBpfFileSystem,
  mountPointType,
  namespaceId,
  PacketSocket,
  parseIp,
  parsePrefix,
  RawIpSocket,
  RouteSocket,
  readSysctl,
  runInNamespace,
  SystemCallError,
  setOffloads,
  systemCall,
  tryLockFile,
  unmountBpfFileSystem,
  watchRoutes,
  withFileLock,
  writeSysctl,
} from './index.ts';
import { childScript } from './testing/child.ts';

const mayTest = process.platform === 'linux' && hasCapability('CAP_SYS_ADMIN') && hasCapability('CAP_NET_ADMIN');
const describeRoot = mayTest ? describe : describe.skip;
const unique = `t${process.pid}`;

describe('addresses', () => {
  test.each([
    ['10.0.0.1', '10.0.0.1'],
    ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['::', '::'],
    ['::1', '::1'],
    ['fe80::', 'fe80::'],
    ['::ffff:10.0.0.1', '::ffff:a00:1'],
    ['10:0:1:0:0:0:2:3', '10:0:1::2:3'],
    ['1:2:3:4:5:6:7:8', '1:2:3:4:5:6:7:8'],
  ])('%s reads and prints as %s', (text, expected) => {
    expect(formatIp(parseIp(text))).toBe(expected);
  });

  test('a prefix length that does not fit the family is refused', () => {
    expect(() => parsePrefix('10.0.0.1/33')).toThrow('the length must be 0 to 32');
  });
});

describe('system calls', () => {
  test('a refused call says what was wanted, which call refused and why', () => {
    expect(() => systemCall('close the door', 'close', -1)).toThrow(
      new SystemCallError({ action: 'close the door', call: 'close', errno: 9 }),
    );
    expect(new SystemCallError({ action: 'create map "conns"', call: 'bpf MAP_CREATE', errno: 1 }).message).toBe(
      'Cannot create map "conns" (bpf MAP_CREATE): EPERM, operation not permitted; run as root or with CAP_BPF and CAP_NET_ADMIN',
    );
    expect(errnoCode(524)).toBe('ENOTSUPP');
  });

  test('the coarse clock is behind the fine one by less than 20 ms', () => {
    const coarse = monotonicCoarseNs();
    const fine = monotonicNs();
    expect(fine - coarse).toBeGreaterThanOrEqual(0n);
    expect(fine - coarse).toBeLessThan(20_000_000n);
  });
});

describe('file lock', () => {
  const folder = mkdtempSync(join(tmpdir(), 'ipvsd-lock-'));
  const path = join(folder, 'sub', 'lock');
  afterAll(() => rmSync(folder, { recursive: true }));

  test('is held by one at a time, and waiting for it ends with a sentence', () => {
    const lock = lockFile(path);
    expect(tryLockFile(path)).toBeNull();
    expect(() => lockFile(path, 30)).toThrow('another process has held it for 30 ms');
    lock.release();
    lock.release();
    expect(withFileLock(path, () => 5)).toBe(5);
    tryLockFile(path)!.release();
  });

  test('ends with the process that holds it, even a killed one', async () => {
    const script = childScript(`
      import { lockFile } from './index.ts';
      lockFile(process.argv[2]!);
      console.log('locked');
      setInterval(() => {}, 1000);
    `);
    const child = spawn(process.execPath, [script.path, path], {
      env: script.env,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(child.stdout, 'data');
    expect(tryLockFile(path)).toBeNull();
    child.kill('SIGKILL');
    await once(child, 'exit');
    lockFile(path, 100).release();
    script.remove();
  });

  test('shared locks exclude only exclusive ones', () => {
    const first = lockFile(path, 0, 'shared');
    const second = lockFile(path, 0, 'shared');
    expect(tryLockFile(path)).toBeNull();
    first.release();
    second.release();
  });
});

describeRoot('namespaces', () => {
  const name = `${unique}ns`;
  afterEach(() => {
    if (listNamespaces().some((one) => one.name === name)) deleteNamespace(name);
  });

  test('one is made, entered, left and deleted', () => {
    const home = currentNamespaceId();
    createNamespace(name);
    expect(currentNamespaceId()).toBe(home);
    const there = inNamespace(name, () => currentNamespaceId());
    expect(there).not.toBe(home);
    expect(namespaceId(name)).toBe(there);
    expect(listNamespaces()).toContainEqual({ name, id: there });
    expect(namespaceId(process.pid)).toBe(home);
    expect(() => createNamespace(name)).toThrow(`Cannot create network namespace "${name}": it exists already`);
    expect(() => inNamespace(name, () => Promise.resolve())).toThrow('it must be synchronous');
    expect(currentNamespaceId()).toBe(home);
    deleteNamespace(name);
    expect(() => inNamespace(name, () => 0)).toThrow('does not exist');
  });

  test('a child is started in it and its sysctls are its own', () => {
    createNamespace(name);
    const there = namespaceId(name);
    const child = runInNamespace(name, 'readlink', ['/proc/self/ns/net']);
    expect(child.stdout).toBe(`net:[${there}]\n`);
    writeSysctl('net.ipv4.ip_forward', 1, name);
    writeSysctl('net.ipv4.ip_default_ttl', 77, name);
    expect(readSysctl('net.ipv4.ip_default_ttl', name)).toBe('77');
    expect(readSysctl('net.ipv4.ip_default_ttl')).not.toBe('77');
  });
});

describeRoot('BPF file system', () => {
  test('is mounted once, is seen by other processes, and unmounted', () => {
    const folder = `/run/${unique}/bpf`;
    expect(mountBpfFileSystem(folder)).toBe(folder);
    mountBpfFileSystem(folder);
    const mounts = runInNamespace(process.pid, 'cat', ['/proc/self/mountinfo']).stdout.split('\n');
    expect(mounts.filter((line) => line.includes(` ${folder} `))).toHaveLength(1);
    expect(mountPointType(folder)).toBe('bpf');
    unmountBpfFileSystem(folder);
    unmountBpfFileSystem(folder);
    expect(mountPointType(folder)).toBeUndefined();
    rmSync(`/run/${unique}`, { recursive: true });
  });

  test('is one and the same for processes with a private view of mounts, as under ip netns exec', ({ skip }) => {
    if (spawnSync('unshare', ['--version']).status !== 0) skip('needs the command unshare of util-linux');
    const folder = `/run/${unique}p/bpf`;
    const script = childScript(`
      import { mkdirSync, readdirSync } from 'node:fs';
      import { mountBpfFileSystem } from './index.ts';
      const path = mountBpfFileSystem(process.argv[2]!, Number(process.argv[3]));
      mkdirSync(path + '/' + process.argv[4]);
      console.log(readdirSync(path).filter((name) => name.startsWith('by')).join());
    `);
    const visit = (propagation: string): string =>
      spawnSync(
        'unshare',
        [
          '-m',
          '--propagation',
          propagation,
          process.execPath,
          script.path,
          folder,
          `${process.pid}`,
          `by-${propagation}`,
        ],
        { env: script.env, encoding: 'utf8' },
      ).stdout;
    try {
      expect(visit('private')).toBe('by-private\n');
      expect(mountPointType(folder)).toBe('bpf');
      expect(visit('slave')).toBe('by-private,by-slave\n');
    } finally {
      unmountBpfFileSystem(folder);
      rmSync(`/run/${unique}p`, { recursive: true });
      script.remove();
    }
  });
});

describeRoot('links, addresses and routes', () => {
  const left = `${unique}a`;
  const right = `${unique}b`;
  let here: RouteSocket;
  let there: RouteSocket;
  beforeAll(() => {
    createNamespace(left);
    createNamespace(right);
    here = new RouteSocket(left);
    there = new RouteSocket(right);
  });
  afterAll(() => {
    here.close();
    there.close();
    deleteNamespace(left);
    deleteNamespace(right);
  });

  test('a veth pair across two namespaces carries packets of all kinds', () => {
    here.addVeth('v0', 'v1', right);
    here.setMac('v0', '02:00:00:00:00:01');
    there.setMac('v1', '02:00:00:00:00:02');
    here.setUp('v0');
    there.setUp('v1');
    here.setUp('lo');
    here.setMtu('v0', 1400);
    expect(here.link('v0')).toMatchObject({
      name: 'v0',
      mac: '02:00:00:00:00:01',
      mtu: 1400,
      up: true,
      running: true,
      kind: 'veth',
      peer: there.link('v1').ifindex,
    });
    expect(here.link('lo').loopback).toBe(true);
    here.addAddress('v0', '10.9.0.1/24');
    there.addAddress('v1', '10.9.0.2/24');
    here.addAddress('v0', 'fd00:9::1/64', { nodad: true });
    expect(here.addresses('v0').map((one) => one.address)).toEqual(
      expect.arrayContaining(['10.9.0.1/24', 'fd00:9::1/64']),
    );
    expect(here.addresses('v0').find((one) => one.address === 'fd00:9::1/64')?.tentative).toBe(false);
    expect(() => here.addAddress('v0', '10.9.0.1/24')).toThrow(
      'Cannot add address 10.9.0.1/24 to v0 (netlink): EEXIST',
    );

    const sender = new PacketSocket('v0', { namespace: left });
    const receiver = new PacketSocket('v1', { namespace: right });
    const frame = Uint8Array.from([
      2,
      0,
      0,
      0,
      0,
      2,
      2,
      0,
      0,
      0,
      0,
      1,
      0x88,
      0xb5,
      ...'hello'.split('').map((c) => c.charCodeAt(0)),
      ...new Array(41).fill(0),
    ]);
    sender.send(frame);
    expect(receiver.receiveMatching((f) => f[12] === 0x88 && f[13] === 0xb5)).toEqual(frame);

    here.addNeighbour('v0', '10.9.0.99', '02:00:00:00:00:02');
    const raw = new RawIpSocket(4, { namespace: left, mark: 7 });
    const packet = new Uint8Array(28);
    packet.set([0x45, 0, 0, 28, 0, 0, 0, 0, 64, 253, 0, 0, 10, 9, 0, 1, 10, 9, 0, 99]);
    raw.send(packet);
    const got = receiver.receiveMatching((f) => f[23] === 253);
    expect(got?.subarray(30, 34)).toEqual(Uint8Array.of(10, 9, 0, 99));
    expect(receiver.receive(5) === null || true).toBe(true);
    here.deleteNeighbour('v0', '10.9.0.99');

    const raw6 = new RawIpSocket(6, { namespace: left });
    here.addNeighbour('v0', 'fd00:9::99', '02:00:00:00:00:02');
    const packet6 = new Uint8Array(48);
    packet6.set([0x60, 0, 0, 0, 0, 8, 253, 64, ...parseIp('fd00:9::1'), ...parseIp('fd00:9::99')]);
    raw6.send(packet6);
    expect(receiver.receiveMatching((f) => f[12] === 0x86 && f[20] === 253)?.subarray(38, 54)).toEqual(
      parseIp('fd00:9::99'),
    );
    for (const socket of [sender, receiver, raw, raw6]) socket.close();
    expect(readFileSync('/proc/self/status', 'utf8')).toContain('State');
  });

  test('routes are added, replaced, listed and deleted', () => {
    here.addRoute({ to: 'default', via: '10.9.0.2' });
    here.addRoute({ to: '10.77.0.0/16', via: '10.9.0.2', source: '10.9.0.1', metric: 5 });
    here.addRoute({ to: '2001:db8::/32', via: 'fd00:9::2', dev: 'v0' });
    here.addRoute({ to: '10.88.0.0/16', dev: 'v0' });
    here.addRoute({ to: '10.66.0.0/16', type: 'blackhole' });
    here.addRoute({ to: '10.55.0.0/16', via: 'fd00:9::2', dev: 'v0' });
    here.addRoute({ to: '10.44.0.0/24', dev: 'lo', type: 'local', table: 255 });
    const ifindex = here.link('v0').ifindex;
    const routes = here.routes();
    expect(routes).toContainEqual({ to: 'default', family: 4, via: '10.9.0.2', ifindex, table: 254, type: 'unicast' });
    expect(routes).toContainEqual(
      expect.objectContaining({ to: '10.77.0.0/16', via: '10.9.0.2', source: '10.9.0.1', metric: 5 }),
    );
    expect(routes).toContainEqual(expect.objectContaining({ to: '2001:db8::/32', via: 'fd00:9::2', family: 6 }));
    expect(routes).toContainEqual(expect.objectContaining({ to: '10.66.0.0/16', type: 'blackhole' }));
    expect(routes).toContainEqual(expect.objectContaining({ to: '10.55.0.0/16', via: 'fd00:9::2', family: 4 }));
    expect(here.routes(255)).toContainEqual(expect.objectContaining({ to: '10.44.0.0/24', type: 'local' }));
    here.replaceRoute({ to: 'default', via: '10.9.0.3' });
    expect(here.routes().find((one) => one.to === 'default' && one.family === 4)?.via).toBe('10.9.0.3');
    here.deleteRoute({ to: 'default', via: '10.9.0.3' });
    expect(() => here.deleteRoute({ to: '10.99.0.0/16' })).toThrow('Cannot delete route 10.99.0.0/16 (netlink): ESRCH');
    expect(() => here.addRoute({ to: '10.98.0.0/16', via: '172.16.0.1' })).toThrow(
      'the kernel says: Nexthop has invalid gateway',
    );
  });

  test('bridges have ports, interfaces are renamed, moved and deleted', () => {
    here.addBridge('br0');
    here.addVeth('p0', 'p1');
    here.setMaster('p0', 'br0');
    expect(here.link('p0').master).toBe(here.link('br0').ifindex);
    here.setMaster('p0', null);
    expect(here.link('p0').master).toBeUndefined();
    here.rename('p1', 'p9');
    here.moveToNamespace('p9', right);
    expect(here.findLink('p9')).toBeUndefined();
    expect(there.links().map((one) => one.name)).toContain('p9');
    there.setUp('p9');
    there.setDown('p9');
    expect(there.link('p9').up).toBe(false);
    here.deleteLink('p0');
    expect(there.findLink('p9')).toBeUndefined();
    expect(() => here.link('p0')).toThrow('Cannot find interface "p0": there is none in this network namespace');
    expect(() => here.addBridge('br0')).toThrow('Cannot add bridge interface br0 (netlink): EEXIST');
  });

  test('news of links and addresses arrive on the event loop', async () => {
    const news: string[] = [];
    const watcher = watchRoutes((event) => {
      if (event.kind === 'link' || event.kind === 'link-gone') news.push(`${event.kind} ${event.link.name}`);
      else if (event.kind === 'address' || event.kind === 'address-gone')
        news.push(`${event.kind} ${event.address.address}`);
    }, left);
    here.addVeth('n0', 'n1');
    here.addAddress('n0', '10.7.0.1/24');
    here.deleteAddress('n0', '10.7.0.1/24');
    here.deleteLink('n0');
    await expect.poll(() => news).toContain('link-gone n0');
    expect(news).toEqual(
      expect.arrayContaining(['link n0', 'link n1', 'address 10.7.0.1/24', 'address-gone 10.7.0.1/24', 'link-gone n1']),
    );
    watcher.close();
  });

  test('without offloads a packet of another program has its checksum on the wire', () => {
    const receiver = new PacketSocket('v1', { namespace: right });
    const udpChecksumIsRight = (): boolean => {
      runInNamespace(left, process.execPath, [
        '-e',
        "const s = require('dgram').createSocket('udp4'); s.send('hello', 7, '10.9.0.2', () => s.close())",
      ]);
      const frame = receiver.receiveMatching((f) => f[12] === 8 && f[13] === 0 && f[23] === 17)!;
      const words = [...frame.subarray(26, 34), 0, 17, ...frame.subarray(38, 40), ...frame.subarray(34, 34 + 13), 0];
      let sum = 0;
      for (let i = 0; i < words.length; i += 2) sum += (words[i]! << 8) | words[i + 1]!;
      while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
      return sum === 0xffff;
    };
    expect(udpChecksumIsRight()).toBe(false);
    setOffloads('v0', { txChecksum: false, tso: false, gso: false }, left);
    expect(udpChecksumIsRight()).toBe(true);
    receiver.close();
    expect(() => setOffloads('nix', { gro: false }, left)).toThrow(
      'Cannot switch gro of nix off (ioctl ETHTOOL): ENODEV',
    );
  });

  test('clsact comes and goes', () => {
    const { ifindex } = here.link('v0');
    here.addClsact(ifindex);
    here.addClsact(ifindex);
    expect(here.bpfFilters(ifindex, 'ingress')).toEqual([]);
    here.deleteClsact(ifindex);
    expect(() => here.deleteClsact(ifindex)).toThrow('Cannot delete qdisc clsact');
  });
});
