import { bytesOf, NodeSkb, TC_ACT_REDIRECT, TC_ACT_SHOT, TC_ACT_UNSPEC } from '@ipvsd/bpf';
import {
  Count,
  internetChecksum,
  ipFrame,
  parseFrame,
  REASON_LIST,
  reasons,
  TunnelLink,
  TunnelLinkKey,
  tcpFrame,
  tunnelLinks,
} from '@ipvsd/ipvs';
import { beforeEach, describe, expect, test } from 'vitest';
import type { Command } from '../command.ts';
import type { ServiceId } from '../model.ts';
import {
  addressOf,
  NodeBench,
  serverSettings,
  serviceSettings,
  tcpService,
  udpService,
  VIP,
} from '../testing/node-bench.ts';

let bench: NodeBench;
beforeEach(() => {
  bench = new NodeBench();
});

const add = (host: number, weight = 1, more = {}): Command => ({
  kind: 'addServer',
  service: tcpService,
  server: { address: `10.2.0.${host}`, port: 80 },
  settings: serverSettings(weight, more),
});
const edit = (host: number, weight: number, more = {}): Command =>
  ({ ...add(host, weight, more), kind: 'editServer' }) as Command;
const remove = (host: number): Command => ({
  kind: 'deleteServer',
  service: tcpService,
  server: { address: `10.2.0.${host}`, port: 80 },
});
const persistent = (timeoutSeconds: number, netmask = 0xffff_ffff): Command => ({
  kind: 'addService',
  service: tcpService,
  settings: serviceSettings('rr', { persistence: { timeoutSeconds, netmask } }),
});
const set = (name: string, value: number): Command => ({ kind: 'setSysctl', name, value: String(value) });
const listed = (): string[] =>
  [...bench.director.connections()].map((c) => `${c.client.port} ${c.virtual.port} ${c.real.address} ${c.state}`);

describe('persistence', () => {
  test('keeps a client at its real server, even one that is quiesced', () => {
    bench.execute(persistent(60), add(1), add(2));
    expect(bench.packet('192.0.2.1', 1001)).toBe('10.2.0.2');
    bench.execute(edit(2, 0));
    expect(bench.packet('192.0.2.1', 1002)).toBe('10.2.0.2');
    bench.execute(set('expire_quiescent_template', 1));
    expect(bench.packet('192.0.2.1', 1003)).toBe('10.2.0.1');
    expect(listed()).toContain('0 65535 10.2.0.2 NONE');
  });

  test('counts a network as one client', () => {
    bench.execute(persistent(60, 0xffff_ff00), add(1), add(2));
    expect(bench.packet('192.0.2.1', 1001)).toBe(bench.packet('192.0.2.99', 1001));
  });

  test('outlives its timeout by 60 s at a time while connections hang on it', () => {
    bench.execute(persistent(10), add(1), add(2));
    bench.packet('192.0.2.1', 1001);
    bench.reply('10.2.0.2', 80, '192.0.2.1', 1001, 'SA');
    bench.packet('192.0.2.1', 1001, tcpService, 'A');
    bench.pass(15);
    const [template] = [...bench.director.connections()].filter(({ client }) => client.port === 0);
    expect(template).toMatchObject({ state: 'ASSURED', protocol: 'tcp' });
    expect(template!.expiresSeconds).toBeGreaterThan(50);
  });
});

describe('thresholds', () => {
  test('overload at the upper mark and come back below three quarters of it', () => {
    bench.execute({ kind: 'addService', service: tcpService, settings: serviceSettings('rr') });
    bench.execute(add(1, 1, { upperThreshold: 4 }));
    for (let port = 1; port <= 4; port++) expect(bench.packet('192.0.2.1', port)).toBe('10.2.0.1');
    expect(bench.packet('192.0.2.1', 5)).toBeUndefined();
    bench.execute(edit(1, 1, { upperThreshold: 5 }));
    expect(bench.packet('192.0.2.1', 6), 'between the marks nothing changes').toBeUndefined();
    bench.pass(61);
    expect(bench.packet('192.0.2.1', 7)).toBe('10.2.0.1');
  });
});

describe('a removed real server', () => {
  beforeEach(() => bench.execute({ kind: 'addService', service: tcpService, settings: serviceSettings('rr') }));
  test('has its packets dropped, or its clients sent elsewhere (expire_nodest_conn)', () => {
    bench.execute(add(1), add(2));
    expect(bench.packet('192.0.2.1', 1)).toBe('10.2.0.2');
    bench.execute(remove(2));
    expect(bench.packet('192.0.2.1', 1, tcpService, 'A')).toBeUndefined();
    bench.execute(set('expire_nodest_conn', 1));
    expect(bench.packet('192.0.2.1', 1)).toBe('10.2.0.1');
  });
  test('gets its counts back when it returns, and none after three minutes without connections', () => {
    bench.execute(add(1));
    bench.packet('192.0.2.1', 1);
    bench.pass(3);
    bench.execute(remove(1), add(1));
    expect(bench.director.service(tcpService)!.realServers[0]).toMatchObject({
      inactiveConnections: 0,
      activeConnections: 1,
    });
    expect(bench.director.service(tcpService)!.realServers[0]!.stats.connections).toBe(1n);
    bench.pass(70);
    bench.execute(remove(1));
    bench.pass(200);
    bench.execute(add(1));
    expect(bench.director.service(tcpService)!.realServers[0]!.stats.connections).toBe(0n);
  });
});

describe('the defence', () => {
  test('drops every n-th first packet in mode 3 of drop_packet', () => {
    bench.execute({ kind: 'addService', service: tcpService, settings: serviceSettings('rr') }, add(1));
    bench.execute(set('am_droprate', 4), set('drop_packet', 3));
    bench.pass(1);
    const got = Array.from({ length: 12 }, (_, i) => bench.packet('192.0.2.1', i + 1) !== undefined);
    expect(got.filter((served) => !served).length).toBe(3);
  });
  test('drops half-open connections in mode 3 of drop_entry, never established ones', () => {
    bench.execute({ kind: 'addService', service: tcpService, settings: serviceSettings('rr') }, add(1));
    for (let port = 1; port <= 64; port++) bench.packet('192.0.2.1', port);
    bench.packet('192.0.2.2', 9);
    bench.reply('10.2.0.1', 80, '192.0.2.2', 9, 'SA');
    bench.packet('192.0.2.2', 9, tcpService, 'A');
    bench.execute(set('drop_entry', 3));
    bench.pass(10);
    expect(listed().length).toBeLessThan(65);
    expect(listed()).toContain('9 80 10.2.0.1 ESTABLISHED');
  });
});

test('a full table drops new connections and none that is there', () => {
  bench = new NodeBench(() => 4, 8);
  bench.execute({ kind: 'addService', service: tcpService, settings: serviceSettings('rr') }, add(1));
  for (let port = 1; port <= 20; port++) bench.packet(addressOf(0xc000_0200 + port), 1000);
  expect(listed().length).toBe(8);
  expect(bench.packet('192.0.2.1', 1000, tcpService, 'A')).toBe('10.2.0.1');
});

test('a flood fills the table, and clients that are known by their template still come in', () => {
  bench = new NodeBench(() => 4, 64);
  bench.execute(persistent(600), add(1), add(2));
  const real = bench.packet('192.0.2.1', 1)!;
  bench.reply(real, 80, '192.0.2.1', 1, 'SA');
  bench.packet('192.0.2.1', 1, tcpService, 'A');
  for (let i = 0; i < 500; i++) bench.packet(addressOf(0x0a10_0000 + i), 1000);
  expect(listed().length).toBe(64);
  expect(bench.packet('192.0.2.2', 1)).toBeUndefined();
  expect([2, 3, 4, 5].map((port) => bench.packet('192.0.2.1', port))).toEqual([real, real, real, real]);
  // What is reserved is no more than that: a sixteenth.
  expect(bench.packet('192.0.2.1', 6)).toBeUndefined();
  expect(bench.packet('192.0.2.1', 1, tcpService, 'A')).toBe(real);
});

describe('what comes for a firewall mark without a real server', () => {
  const marked: ServiceId = { kind: 'fwmark', family: 'ipv4', fwmark: 7 };
  const verdict = (mark: number, icmp = false): number => {
    const ends = { source: '192.0.2.1', sourcePort: 1, destination: '198.51.100.9', destinationPort: 80 };
    const frame = tcpFrame({ ...ends, flags: 'S' });
    return bench.plane.receive(new NodeSkb(icmp ? errorAbout(frame) : frame, { mark }));
  };
  beforeEach(() => bench.execute({ kind: 'addService', service: marked, settings: serviceSettings('rr') }));

  test('is refused', () => {
    expect(verdict(7)).not.toBe(TC_ACT_UNSPEC);
    expect(listed()).toEqual([]);
  });
  test('goes to its own destination with cache_bypass, and so do the packets after it', () => {
    bench.execute(set('cache_bypass', 1));
    expect([verdict(7), verdict(7)]).toEqual([TC_ACT_UNSPEC, TC_ACT_UNSPEC]);
    expect(reason('bypassed')).toBe(2);
    expect(listed()).toEqual(['1 80 0.0.0.0 SYN_RECV']);
    // It is nobody's, and counts for nobody.
    bench.pass(4);
    expect(bench.director.service(marked)!.stats.connections).toBe(0n);
  });
  test('is refused where the kernel has no way to its destination', () => {
    bench = new NodeBench(
      () => 4,
      64,
      () => 4,
    );
    bench.execute({ kind: 'addService', service: marked, settings: serviceSettings('rr') }, set('cache_bypass', 1));
    expect(verdict(7)).toBe(TC_ACT_SHOT);
    expect(listed()).toEqual([]);
  });
  test('is not let by where it is an error (schedule_icmp)', () => {
    bench.execute(set('cache_bypass', 1), set('schedule_icmp', 1));
    expect(verdict(7, true)).toBe(TC_ACT_SHOT);
    expect(listed()).toEqual([]);
  });
});

test('an error about a connection that nobody knows opens it with schedule_icmp, and goes where it went', () => {
  bench.execute({ kind: 'addService', service: tcpService, settings: serviceSettings('rr') }, add(1));
  // What the service would have sent, as a router on the client's side quotes it.
  const ends = { source: VIP, sourcePort: 80, destination: '192.0.2.1', destinationPort: 1000 };
  const error = errorAbout(tcpFrame({ ...ends, flags: 'A' }));
  expect(bench.plane.receive(new NodeSkb(error))).toBe(TC_ACT_UNSPEC);
  expect(listed()).toEqual([]);
  bench.execute(set('schedule_icmp', 1));
  const skb = new NodeSkb(error);
  expect(bench.plane.receive(skb)).toBe(TC_ACT_REDIRECT);
  expect(parseFrame(skb.bytes).destination).toBe('10.2.0.1');
  expect(listed()).toEqual(['1000 80 10.2.0.1 NONE']);
});

test('what came in a tunnel is the host’s with ignore_tunneled', () => {
  bench.execute({ kind: 'addService', service: tcpService, settings: serviceSettings('rr') }, add(1));
  const key = bytesOf(TunnelLinkKey.create({ ifindex: 9 }));
  bench.plane.store(tunnelLinks).update(key, bytesOf(TunnelLink.create()));
  const arrive = (ingressIfindex: number, sourcePort: number): number => {
    const ends = { source: '192.0.2.1', sourcePort, destination: VIP, destinationPort: 80 };
    return bench.plane.receive(new NodeSkb(tcpFrame({ ...ends, flags: 'S' }), { ingressIfindex }));
  };
  expect([arrive(9, 1), arrive(3, 2)]).toEqual([TC_ACT_REDIRECT, TC_ACT_REDIRECT]);
  bench.execute(set('ignore_tunneled', 1));
  expect([arrive(9, 1), arrive(9, 3), arrive(3, 2)]).toEqual([TC_ACT_UNSPEC, TC_ACT_UNSPEC, TC_ACT_REDIRECT]);
  expect(reason('tunneled')).toBe(2);
});

/** A router's word that the packet did not get through, to who had sent it. */
function errorAbout(frame: Uint8Array): Uint8Array {
  const quoted = frame.slice(14, 14 + 28);
  const message = Uint8Array.from([3, 1, 0, 0, 0, 0, 0, 0, ...quoted]);
  const sum = internetChecksum(message);
  message.set([sum >> 8, sum & 255], 2);
  const { source, destination } = parseFrame(frame);
  return ipFrame({ source: destination, destination: source }, 1, message);
}

function reason(name: string): number {
  const index = REASON_LIST.findIndex((each) => each.name === name);
  const [value] = bench.plane.store(reasons).lookupPerCpu(new Uint8Array(Uint32Array.of(index).buffer));
  return Number(Count.on(value!).packets);
}

test('a one-packet service schedules every packet and keeps none', () => {
  const settings = serviceSettings('rr', { onePacket: true });
  bench.execute({ kind: 'addService', service: udpService, settings });
  for (const host of [1, 2]) {
    const server = { address: `10.2.0.${host}`, port: 53 };
    bench.execute({ kind: 'addServer', service: udpService, server, settings: serverSettings() });
  }
  expect([1, 2, 3].map(() => bench.packet('192.0.2.1', 5, udpService))).toEqual(['10.2.0.2', '10.2.0.1', '10.2.0.2']);
  expect(listed()).toEqual([]);
});

test('FTP data goes to the FTP service, any port to that of port 0', () => {
  const id = (port: number) => ({ ...tcpService, port }) as typeof tcpService;
  const settings = serviceSettings('rr', { persistence: { timeoutSeconds: 60, netmask: 0xffff_ffff } });
  for (const port of [21, 0]) {
    bench.execute({ kind: 'addService', service: id(port), settings });
    const server = { address: `10.2.0.${port + 1}`, port };
    bench.execute({ kind: 'addServer', service: id(port), server, settings: serverSettings() });
  }
  expect(bench.packet('192.0.2.1', 2000, id(21))).toBe('10.2.0.22');
  expect(bench.packet('192.0.2.1', 2001, id(40_000))).toBe('10.2.0.22');
  // Another client: the two services share the templates of one (as the kernel's do).
  expect(bench.packet('192.0.2.2', 2002, id(80))).toBe('10.2.0.1');
});
