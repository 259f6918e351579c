import { NodeSkb } from '@ipvsd/bpf';
import { IdleEnd, idleEnds, idleRules, parseFrame, type TcpInit, tcpFrame } from '@ipvsd/ipvs';
import { beforeEach, expect, test } from 'vitest';
import type { ForwardingMethod, IdleRule } from '../model.ts';
import { NodeBench, serverSettings, serviceSettings, tcpService, udpService, VIP } from '../testing/node-bench.ts';
import { resetsOf } from './reset-sender.ts';

const CLIENT = '192.0.2.1';
const REAL = '10.2.0.1';

let bench: NodeBench;
beforeEach(() => {
  bench = new NodeBench();
});

function begin(idle: IdleRule, service = tcpService, forwarding: ForwardingMethod = 'masq'): void {
  bench.execute({ kind: 'addService', service, settings: serviceSettings('rr', { idle }) });
  const server = { address: REAL, port: service.kind === 'address' ? service.port : 0 };
  bench.execute({ kind: 'addServer', service, server, settings: serverSettings(1, { forwarding }) });
}

function request(flags: string, sequence: number, acknowledgement: number, payload = 0): void {
  const ends = { source: CLIENT, sourcePort: 1000, destination: VIP, destinationPort: 80 };
  segment({ ...ends, flags, sequence, acknowledgement, payload: new Uint8Array(payload) });
}

function reply(flags: string, sequence: number, acknowledgement: number, payload = 0): void {
  const ends = { source: REAL, sourcePort: 80, destination: CLIENT, destinationPort: 1000 };
  segment({ ...ends, flags, sequence, acknowledgement, payload: new Uint8Array(payload) });
}

const segment = (init: TcpInit): number => bench.plane.receive(new NodeSkb(tcpFrame(init)));

/** What is to be sent by now. */
function told() {
  const end = IdleEnd.create();
  const store = bench.plane.world.store(idleEnds);
  const resets = [];
  while (store.pop(end) === 0) resets.push(...resetsOf(end));
  return resets.map(({ packet, hop }) => {
    const { source, destination, flags, sequence, acknowledgement, valid } = parseFrame(
      Uint8Array.from([...new Uint8Array(12), 8, 0, ...packet]),
    );
    return { source, destination, flags, sequence, acknowledgement, valid, hop: hop && [...hop].join('.') };
  });
}

const listed = (): number => [...bench.director.connections()].length;

test('an established connection goes after its own service’s silence, a half-open one as ever', () => {
  begin({ timeoutSeconds: 5, reset: false });
  request('S', 1, 0);
  bench.pass(8);
  expect(listed()).toBe(1);
  reply('SA', 1, 2);
  request('A', 2, 2);
  bench.pass(4);
  request('A', 2, 2);
  bench.pass(4);
  expect(listed()).toBe(1);
  bench.pass(3);
  expect([listed(), [...bench.plane.store(idleRules).entries()].length]).toEqual([0, 0]);
  expect(told()).toEqual([]);
});

test('so does a connection of UDP', () => {
  begin({ timeoutSeconds: 5, reset: false }, udpService);
  bench.packet(CLIENT, 1000, udpService);
  bench.pass(4);
  expect(listed()).toBe(1);
  bench.pass(3);
  expect(listed()).toBe(0);
});

test('each end is told what it itself expects next, though numbers go round and packets overtake each other', () => {
  begin({ timeoutSeconds: 5, reset: true });
  request('S', 0xffff_fff0, 0);
  reply('SA', 0xffff_ff00, 0xffff_fff1);
  request('A', 0xffff_fff1, 0xffff_ff01);
  request('PA', 0xffff_fff1, 0xffff_ff01, 100);
  reply('PA', 0xffff_ff01, 0x55, 1000);
  request('A', 0x55, 0x2e9);
  // Late ones.
  request('A', 0x55, 0xffff_ff01);
  reply('A', 0xffff_ff01, 0xffff_fff1);
  bench.pass(8);
  expect(told()).toEqual([
    {
      source: VIP,
      destination: CLIENT,
      flags: 'RA',
      sequence: 0x2e9,
      acknowledgement: 0x55,
      valid: true,
      hop: undefined,
    },
    {
      source: CLIENT,
      destination: REAL,
      flags: 'RA',
      sequence: 0x55,
      acknowledgement: 0x2e9,
      valid: true,
      hop: undefined,
    },
  ]);
});

test('under direct routing the real server is told what the client would send next, at its own place', () => {
  begin({ timeoutSeconds: 5, reset: true }, tcpService, 'route');
  request('S', 10, 0);
  request('A', 11, 501);
  request('PA', 11, 501, 100);
  request('FA', 111, 501, 20);
  bench.pass(130);
  expect(told().map(({ destination, sequence, hop }) => [destination, sequence, hop])).toEqual([
    [CLIENT, 501, undefined],
    [VIP, 132, REAL],
  ]);
});

test('nobody is told of a connection that was closed, or that only one end has spoken on', () => {
  begin({ timeoutSeconds: 5, reset: true });
  request('S', 1, 0);
  bench.pass(70);
  request('S', 1, 0);
  reply('SA', 1, 2);
  request('A', 2, 2);
  request('FA', 2, 2);
  reply('FA', 2, 3);
  request('A', 3, 3);
  bench.pass(130);
  expect([listed(), told()]).toEqual([0, []]);
});

test('a reset is refused where there is nothing to reset', () => {
  const settings = serviceSettings('rr', { idle: { timeoutSeconds: 5, reset: true } });
  expect(() => bench.execute({ kind: 'addService', service: udpService, settings })).toThrow(
    /resets at expiry, which only TCP can/,
  );
});

test('what an edit leaves out is no longer so', () => {
  begin({ timeoutSeconds: 5, reset: true });
  bench.execute({ kind: 'editService', service: tcpService, settings: serviceSettings('rr') });
  expect(bench.director.service(tcpService)!.idle).toBeUndefined();
});

test('under NAT64 each end is told in its own family', () => {
  const service = { ...tcpService, family: 'ipv6', address: '2001:db8::100' } as const;
  const client = '2001:db8::1';
  begin({ timeoutSeconds: 5, reset: true }, service, 'fullnat');
  bench.execute({ kind: 'addLocalAddress', service, address: '10.2.0.250' });
  const ask = { source: client, sourcePort: 1000, destination: service.address, destinationPort: 80 };
  const answer = { source: REAL, sourcePort: 80, destination: '10.2.0.250', destinationPort: 1024 };
  segment({ ...ask, flags: 'S', sequence: 9 });
  segment({ ...answer, flags: 'SA', sequence: 99, acknowledgement: 10 });
  segment({ ...ask, flags: 'A', sequence: 10, acknowledgement: 100 });
  bench.pass(8);
  const end = IdleEnd.create();
  expect(bench.plane.world.store(idleEnds).pop(end)).toBe(0);
  const [toClient, toServer] = resetsOf(end);
  expect([toClient!.family, toServer!.family]).toEqual([6, 4]);
  const read = (packet: Uint8Array, type: number[]) =>
    parseFrame(Uint8Array.from([...new Uint8Array(12), ...type, ...packet]));
  expect(read(toClient!.packet, [0x86, 0xdd])).toMatchObject({
    source: service.address,
    destination: client,
    sequence: 100,
    valid: true,
  });
  expect(read(toServer!.packet, [8, 0])).toMatchObject({
    source: '10.2.0.250',
    sourcePort: 1024,
    destination: REAL,
    sequence: 10,
    valid: true,
  });
});
