import { answerOnLink, bytesOf, FibLookup, NodeSkb, TC_ACT_REDIRECT, TC_ACT_UNSPEC } from '@ipvsd/bpf';
import { internetChecksum, Peer, PeerKey, parseFrame, peers, sweep, tcpFrame, ticksOf } from '@ipvsd/ipvs';
import { beforeEach, describe, expect, test } from 'vitest';
import type { Command } from '../command.ts';
import { plainTunnel, type RealServerSettings, type ServiceId, type ServiceSettings } from '../model.ts';
import { MapDirector } from './map-director.ts';
import { NodePlane } from './node-plane.ts';

const VIP = '172.16.45.10';
const CLIENT = '172.16.45.2';
const service: ServiceId = { kind: 'address', family: 'ipv4', protocol: 'tcp', address: VIP, port: 80 };
const settings = (scheduler: string): ServiceSettings => ({
  scheduler,
  schedulerFlags: 0,
  persistence: null,
  persistenceEngine: null,
  onePacket: false,
});
const masq = (weight = 1): RealServerSettings => ({
  forwarding: 'masq',
  weight,
  upperThreshold: 0,
  lowerThreshold: 0,
  tunnel: plainTunnel,
});

let now = 10n ** 12n;
let plane: NodePlane;
let director: MapDirector;

const add = (address: string, port: number, weight = 1): Command => ({
  kind: 'addServer',
  service,
  server: { address, port },
  settings: masq(weight),
});

beforeEach(() => {
  now = 10n ** 12n;
  plane = new NodePlane({
    now: () => now,
    random: () => 4,
    // Everything is on link, through interface 2.
    route: (parameters) => {
      const answer = FibLookup.on(parameters);
      for (const [i, word] of [0x0002, 0x0000, 0x0201].entries()) answer.destinationMac.set(i, word);
      for (const [i, word] of [0x0002, 0x0000, 0x0102].entries()) answer.sourceMac.set(i, word);
      return answerOnLink(parameters, 2);
    },
    maxEntries: { connections: 1024, servers: 1024, traffic: 1024, free_slots: 1024 },
  });
  director = new MapDirector(plane);
  director.writeSettings(undefined, 1024);
});

interface Sent {
  readonly verdict: number;
  readonly frame: ReturnType<typeof parseFrame>;
}

function send(init: Parameters<typeof tcpFrame>[0]): Sent {
  const skb = new NodeSkb(tcpFrame(init));
  const verdict = plane.receive(skb);
  return { verdict, frame: parseFrame(skb.bytes) };
}

const fromClient = (port: number, flags: string): Sent =>
  send({ source: CLIENT, destination: VIP, sourcePort: port, destinationPort: 80, flags });

describe('a request', () => {
  test('is rewritten to the real server with right checksums and one hop less', () => {
    director.execute({ kind: 'addService', service, settings: settings('rr') });
    director.execute(add('192.168.45.2', 8000));
    const { verdict, frame } = fromClient(40_000, 'S');
    expect(verdict).toBe(TC_ACT_REDIRECT);
    expect(frame).toMatchObject({ destination: '192.168.45.2', destinationPort: 8000, timeToLive: 63, valid: true });
  });

  test('and its reply comes back from the virtual service', () => {
    director.execute({ kind: 'addService', service, settings: settings('rr') });
    director.execute(add('192.168.45.2', 8000));
    fromClient(40_000, 'S');
    const { verdict, frame } = send({
      source: '192.168.45.2',
      destination: CLIENT,
      sourcePort: 8000,
      destinationPort: 40_000,
      flags: 'SA',
    });
    expect(verdict).toBe(TC_ACT_REDIRECT);
    expect(frame).toMatchObject({ source: VIP, sourcePort: 80, destination: CLIENT, valid: true });
    const [connection] = [...director.connections()];
    expect(connection).toMatchObject({ state: 'SYN_RECV', expiresSeconds: 60 });
  });

  test('to another port is left to the host', () => {
    director.execute({ kind: 'addService', service, settings: settings('rr') });
    const { verdict } = send({ source: CLIENT, destination: VIP, sourcePort: 1, destinationPort: 81, flags: 'S' });
    expect(verdict).toBe(TC_ACT_UNSPEC);
  });

  test('to a service without real servers is answered: port unreachable', () => {
    director.execute({ kind: 'addService', service, settings: settings('rr') });
    const skb = new NodeSkb(
      tcpFrame({ source: CLIENT, destination: VIP, sourcePort: 40_000, destinationPort: 80, flags: 'S' }),
    );
    const asked = skb.bytes.slice(14);
    expect(plane.receive(skb)).toBe(TC_ACT_REDIRECT);
    const answer = skb.bytes.subarray(14);
    expect([...answer.subarray(20, 22)]).toEqual([3, 3]);
    expect(answer.subarray(28)).toEqual(asked);
    expect(internetChecksum(answer.subarray(0, 20))).toBe(0);
    expect(internetChecksum(answer.subarray(20))).toBe(0);
  });

  test('that is no SYN and belongs to nothing is left to the host', () => {
    director.execute({ kind: 'addService', service, settings: settings('rr') });
    director.execute(add('192.168.45.2', 8000));
    expect(fromClient(40_000, 'A').verdict).toBe(TC_ACT_UNSPEC);
  });
});

describe('a real server behind a local veth pair', () => {
  const toPeer = (sysctl: string): NodeSkb => {
    director.execute({ kind: 'setSysctl', name: 'local_peers', value: sysctl });
    plane.store(peers).update(bytesOf(PeerKey.create({ ifindex: 2 })), bytesOf(Peer.create()));
    director.execute({ kind: 'addService', service, settings: settings('rr') });
    director.execute(add('192.168.45.2', 8000));
    const skb = new NodeSkb(
      tcpFrame({ source: CLIENT, destination: VIP, sourcePort: 40_000, destinationPort: 80, flags: 'S' }),
    );
    skb.mark = 5;
    expect(plane.receive(skb)).toBe(TC_ACT_REDIRECT);
    return skb;
  };

  test('is handed the frame with its link addresses and without the mark', () => {
    const skb = toPeer('1');
    expect(skb.redirection).toEqual({ kind: 'peer', ifindex: 2 });
    expect([...skb.bytes.subarray(0, 12)]).toEqual([2, 0, 0, 0, 1, 2, 2, 0, 0, 0, 2, 1]);
    expect(skb.mark).toBe(0);
    expect(parseFrame(skb.bytes)).toMatchObject({ destination: '192.168.45.2', destinationPort: 8000, valid: true });
  });

  test('is reached through the neighbour table where local_peers is 0', () => {
    expect(toPeer('0').redirection).toMatchObject({ kind: 'neighbour', ifindex: 2 });
  });
});

describe('round robin', () => {
  test('begins with the newest real server and goes on in turn', () => {
    director.execute({ kind: 'addService', service, settings: settings('rr') });
    for (const host of [2, 3, 4]) director.execute(add(`192.168.45.${host}`, 80));
    const chosen = [1, 2, 3, 4].map((n) => fromClient(40_000 + n, 'S').frame.destination);
    expect(chosen).toEqual(['192.168.45.4', '192.168.45.3', '192.168.45.2', '192.168.45.4']);
  });
});

describe('weighted round robin', () => {
  test('gives A, A B, A B C and A B C for weights 4, 3 and 2, from the bar that the first real server set', () => {
    director.execute({ kind: 'addService', service, settings: settings('wrr') });
    director.execute(add('192.168.45.3', 80, 2));
    director.execute(add('192.168.45.2', 80, 3));
    director.execute(add('192.168.45.1', 80, 4));
    const chosen = Array.from(
      { length: 9 },
      (_, n) => 'ABC'[Number(fromClient(n + 1000, 'S').frame.destination.at(-1)) - 1],
    );
    expect(chosen.join(' ')).toBe('A B C A A B A B C');
  });
});

describe('weighted least connection', () => {
  test('fills real servers by their weight', () => {
    director.execute({ kind: 'addService', service, settings: settings('wlc') });
    director.execute(add('192.168.45.2', 80, 1));
    director.execute(add('192.168.45.3', 80, 3));
    for (let n = 0; n < 40; n++) fromClient(1000 + n, 'S');
    const active = director.service(service)!.realServers.map((s) => [s.address, s.activeConnections]);
    expect(active).toEqual([
      ['192.168.45.3', 30],
      ['192.168.45.2', 10],
    ]);
  });
});

describe('a connection', () => {
  test('counts as active while open, inactive while closing, and leaves when its time is over', () => {
    director.execute({ kind: 'addService', service, settings: settings('rr') });
    director.execute(add('192.168.45.2', 80));
    fromClient(40_000, 'S');
    fromClient(40_000, 'A');
    expect(director.service(service)!.realServers[0]).toMatchObject({ activeConnections: 1, inactiveConnections: 0 });
    fromClient(40_000, 'FA');
    expect(director.service(service)!.realServers[0]).toMatchObject({ activeConnections: 0, inactiveConnections: 1 });
    expect([...director.connections()][0]!.state).toBe('CLOSE_WAIT');
    now += BigInt(ticksOf(61)) << 20n;
    plane.call(sweep, sweep.context.create());
    expect([...director.connections()]).toEqual([]);
    expect(director.service(service)!.realServers[0]).toMatchObject({ activeConnections: 0, inactiveConnections: 0 });
  });

  test('goes on when other real servers come and go', () => {
    director.execute({ kind: 'addService', service, settings: settings('rr') });
    director.execute(add('192.168.45.2', 80));
    fromClient(40_000, 'S');
    director.execute(add('192.168.45.3', 80));
    director.execute({ kind: 'editServer', service, server: { address: '192.168.45.2', port: 80 }, settings: masq(0) });
    expect(fromClient(40_000, 'A').frame.destination).toBe('192.168.45.2');
    expect(fromClient(40_001, 'S').frame.destination).toBe('192.168.45.3');
  });

  test('counts packets and bytes of both directions at its real server', () => {
    director.execute({ kind: 'addService', service, settings: settings('rr') });
    director.execute(add('192.168.45.2', 80));
    plane.call(sweep, sweep.context.create());
    fromClient(40_000, 'S');
    send({ source: '192.168.45.2', destination: CLIENT, sourcePort: 80, destinationPort: 40_000, flags: 'SA' });
    now += 3n * 10n ** 9n;
    plane.call(sweep, sweep.context.create());
    const { stats } = director.service(service)!;
    expect(stats).toEqual({ connections: 1n, inPackets: 1n, outPackets: 1n, inBytes: 40n, outBytes: 40n });
  });
});

describe('IPv6', () => {
  test('is forwarded by the same source', () => {
    const six: ServiceId = { kind: 'address', family: 'ipv6', protocol: 'tcp', address: '2001:db8::10', port: 80 };
    director.execute({ kind: 'addService', service: six, settings: settings('rr') });
    director.execute({
      kind: 'addServer',
      service: six,
      server: { address: '2001:db8:1::2', port: 8000 },
      settings: masq(),
    });
    const client = '2001:db8::2';
    const up = send({ source: client, destination: '2001:db8::10', sourcePort: 4000, destinationPort: 80, flags: 'S' });
    expect(up.frame).toMatchObject({
      destination: '2001:db8:1::2',
      destinationPort: 8000,
      timeToLive: 63,
      valid: true,
    });
    const down = send({
      source: '2001:db8:1::2',
      destination: client,
      sourcePort: 8000,
      destinationPort: 4000,
      flags: 'SA',
    });
    expect(down.frame).toMatchObject({ source: '2001:db8::10', sourcePort: 80, valid: true });
  });
});
