/** The connection table under pressure, in the kernel: a million connections held, listed and expired; full; and flooded. */
import { TC_ACT_REDIRECT, TC_ACT_SHOT } from '@ipvsd/bpf';
import { skbContext } from '@ipvsd/bpf/kernel';
import { describeKernel, uniqueName } from '@ipvsd/bpf/testing';
import {
  Count,
  ingress,
  Population,
  population,
  REASON_LIST,
  reasons,
  reservedFor,
  Settings,
  settings,
  start,
  sweep,
  tcpFrame,
  ticksOf,
} from '@ipvsd/ipvs';
import { createNamespace, deleteNamespace, inNamespace, parseMac, withRoutes, writeSysctl } from '@ipvsd/linux';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { plainTunnel, type ServiceId } from '../model.ts';
import { KernelPlane } from './kernel-plane.ts';
import { MapDirector } from './map-director.ts';

const KEY = new Uint8Array(4);
const SERVICE: ServiceId = { kind: 'address', family: 'ipv4', protocol: 'tcp', address: '10.1.0.100', port: 80 };
const CLIENT_ADDRESS = 14 + 12;
const CLIENT_PORT = 14 + 20;
const FLAGS = 14 + 20 + 13;
/** 30 is what the flood is to be stood for; here it is short. */
const FLOOD_SECONDS = Number(process.env['FLOOD_SECONDS'] ?? 3);
/** Numbers of clients whose addresses differ. */
const CLIENTS_APART = 256;
const FLOODING = 1 << 27;
const SYN = 2;
const ACK = 16;

let namespace: string;
let plane: KernelPlane;
let director: MapDirector;
let context: Uint8Array;
let frame: Uint8Array;

const inside = <T>(work: () => T): T => inNamespace(namespace, work);

function open(maxConnections: number): void {
  plane = inside(() => KernelPlane.create({ maxConnections }));
  director = inside(() => new MapDirector(plane));
  inside(() => {
    director.writeSettings(undefined, maxConnections);
    setClock(1_000_000);
    director.execute({
      kind: 'addService',
      service: SERVICE,
      settings: { scheduler: 'rr', schedulerFlags: 0, persistence: null, persistenceEngine: null, onePacket: false },
    });
    for (const host of [11, 12, 13, 14]) {
      const address = `10.2.0.${host}`;
      director.execute({
        kind: 'addServer',
        service: SERVICE,
        server: { address, port: 80 },
        settings: { forwarding: 'masq', weight: 1, upperThreshold: 0, lowerThreshold: 0, tunnel: plainTunnel },
      });
    }
  });
}

/** A packet of client number `client`: 24 bits of address, ten thousand ports each. */
function send(client: number, flags: number, port = 1): number {
  frame[CLIENT_ADDRESS + 1] = 16 + ((client >>> 24) & 15);
  frame[CLIENT_ADDRESS + 2] = (client >>> 16) & 255;
  frame[CLIENT_ADDRESS + 3] = (client >>> 8) & 255;
  frame[CLIENT_PORT] = 4 + (client & 127);
  frame[CLIENT_PORT + 1] = (client & 128) | port;
  frame[FLAGS] = flags;
  return plane.program(ingress.name).testRun({ data: frame, context }).retval;
}

const alive = (): number => Population.on(plane.store(population).lookup(KEY)!).alive;

function counted(name: string): number {
  const index = REASON_LIST.findIndex((reason) => reason.name === name);
  const perCpu = plane.store(reasons).lookupPerCpu(new Uint8Array(Uint32Array.of(index).buffer));
  return perCpu.reduce((sum, bytes) => sum + Number(Count.on(bytes).packets), 0);
}

function setClock(ticks: number): void {
  const bytes = plane.store(settings).lookup(KEY)!;
  Settings.on(bytes).clock = ticks;
  plane.store(settings).update(KEY, bytes);
}

describeKernel('the connection table', () => {
  beforeEach(() => {
    namespace = uniqueName('table');
    createNamespace(namespace);
    withRoutes(namespace, (routes) => {
      routes.setUp('lo');
      for (const [name, address] of [
        ['client', '10.1.0.1/24'],
        ['server', '10.2.0.1/24'],
      ] as const) {
        // A pair with both ends here: not every machine has dummies.
        routes.addVeth(name, `far-${name}`);
        routes.addAddress(name, address);
        for (const end of [name, `far-${name}`]) routes.setUp(end);
      }
      const { ifindex, mac } = routes.link('client');
      context = skbContext({ ifindex, ingressIfindex: ifindex });
      frame = tcpFrame({
        source: '10.16.0.1',
        destination: '10.1.0.100',
        sourcePort: 1,
        destinationPort: 80,
        flags: 'S',
      });
      frame.set(parseMac(mac));
    });
    writeSysctl('net.ipv4.ip_forward', 1, namespace);
  });

  afterEach(() => {
    inside(() => KernelPlane.open()?.detach());
    deleteNamespace(namespace);
  });

  test('holds a million connections, lists each and expires all', { timeout: 600_000 }, () => {
    const million = 1 << 20;
    open(million);
    inside(() => {
      for (let client = 0; client < million; client++) {
        if (send(client, SYN) !== TC_ACT_REDIRECT) expect.unreachable(`connection ${client} was not forwarded`);
      }
    });
    expect(alive()).toBe(million);
    let listed = 0;
    for (const { state } of director.connections()) if (state === 'SYN_RECV') listed++;
    expect(listed).toBe(million);
    const { realServers } = director.service(SERVICE)!;
    expect(realServers.map(({ activeConnections }) => activeConnections)).toEqual(new Array(4).fill(million / 4));
    setClock(1_000_000 + ticksOf(61));
    plane.call(sweep, sweep.context.create());
    expect(alive()).toBe(0);
    expect(director.service(SERVICE)!.realServers.every(({ activeConnections }) => activeConnections === 0)).toBe(true);
  });

  test('drops what is new when it is full, counts it, and forgets nobody', () => {
    const most = 1024;
    open(most);
    inside(() => {
      for (let client = 0; client < most; client++) {
        send(client, SYN);
        send(client, ACK);
      }
      expect(alive()).toBe(most);
      for (let client = most; client < most + 500; client++) expect(send(client, SYN)).toBe(TC_ACT_SHOT);
      expect(counted('tableFull')).toBe(500);
      for (let client = 0; client < most; client++) expect(send(client, ACK)).toBe(TC_ACT_REDIRECT);
    });
    expect(alive()).toBe(most);
  });

  test(`stands a flood of SYNs for ${FLOOD_SECONDS} s`, { timeout: (FLOOD_SECONDS + 60) * 1000 }, () => {
    const most = 4096;
    const known = 100;
    open(most);
    director.execute({
      kind: 'editService',
      service: SERVICE,
      settings: {
        scheduler: 'rr',
        schedulerFlags: 0,
        persistence: { timeoutSeconds: 600, netmask: 0xffff_ffff },
        persistenceEngine: null,
        onePacket: false,
      },
    });
    inside(() => {
      // The kernel's own clock and timer from here on.
      setClock(0);
      plane.call(start, start.context.create());
      const established: number[] = [];
      for (let client = 0; client < known; client++) {
        established.push(CLIENTS_APART * client);
        send(CLIENTS_APART * client, SYN);
        expect(send(CLIENTS_APART * client, ACK)).toBe(TC_ACT_REDIRECT);
      }
      let flooding = 0;
      let lost = 0;
      let refused = 0;
      let opened = 0;
      const began = performance.now();
      for (let round = 0; performance.now() - began < FLOOD_SECONDS * 1000; round++) {
        for (let i = 0; i < 1000; i++) send(FLOODING + Math.floor(Math.random() * 2 ** 27), SYN);
        flooding += 1000;
        // An established connection goes on, and its client opens one more, as often as their share of the reserve allows.
        const client = established[round % known]!;
        if (send(client, ACK) !== TC_ACT_REDIRECT) lost++;
        if (opened >= 2 * known) continue;
        opened++;
        const port = 2 + Math.floor(opened / known);
        if (send(client, SYN, port) !== TC_ACT_REDIRECT || send(client, ACK, port) !== TC_ACT_REDIRECT) refused++;
      }
      const full = counted('tableFull');
      console.log(
        `flood: ${flooding} SYNs in ${FLOOD_SECONDS} s, ${full} found the table full, ${opened} opened meanwhile`,
      );
      expect({ lost, refused }).toEqual({ lost: 0, refused: 0 });
      expect(opened).toBeGreaterThan(known);
      expect(full).toBeGreaterThan(flooding / 2);
      expect(alive()).toBeLessThanOrEqual(most + reservedFor(most));
    });
  });

  test('takes new connections again after a flood of SYNs has run out', () => {
    const most = 4096;
    open(most);
    inside(() => {
      send(0, SYN);
      send(0, ACK);
      for (let client = 1; client < 3 * most; client++) send(client, SYN);
      expect(send(0, ACK)).toBe(TC_ACT_REDIRECT);
      // Half-open connections live for a minute; the established one for fifteen.
      setClock(1_000_000 + ticksOf(61));
      plane.call(sweep, sweep.context.create());
      expect(alive()).toBe(1);
      expect(send(3 * most, SYN)).toBe(TC_ACT_REDIRECT);
      expect(send(0, ACK)).toBe(TC_ACT_REDIRECT);
    });
  });
});
