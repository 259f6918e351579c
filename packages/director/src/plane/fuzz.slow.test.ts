/**
 * One source, two worlds: random packets through the data plane in the kernel and in Node, where everything that can be seen
 * must be equal: the verdict, each byte of the packet, and after each batch each byte of the maps.
 *
 * FUZZ_SEED replays a run, FUZZ_PACKETS sets how many.
 */
import { BPF_FIB_LOOKUP_SRC, type MapDefinition, NodeSkb, TC_ACT_REDIRECT, TC_ACT_SHOT } from '@ipvsd/bpf';
import { skbContext } from '@ipvsd/bpf/kernel';
import { describeKernel, uniqueName } from '@ipvsd/bpf/testing';
import {
  Connection,
  connections,
  flows4,
  flows6,
  followed,
  ingress,
  internetChecksum,
  localEnds,
  members,
  parseFrame,
  population,
  reasons,
  Settings,
  RealServer as StoredServer,
  servers,
  serviceStates,
  services,
  settings,
  tcpFrame,
  ticksOf,
  traffic,
} from '@ipvsd/ipvs';
import {
  createNamespace,
  deleteNamespace,
  inNamespace,
  parseIp,
  parseMac,
  withRoutes,
  writeSysctl,
} from '@ipvsd/linux';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Command } from '../command.ts';
import { plainTunnel, type ServiceId } from '../model.ts';
import { KernelPlane } from './kernel-plane.ts';
import { MapDirector } from './map-director.ts';
import { MasqueradeTable } from './masquerade-table.ts';
import { NodePlane } from './node-plane.ts';
import type { Plane } from './plane.ts';

const seed = Number(process.env['FUZZ_SEED'] ?? Date.now() % 2 ** 31);
const packets = Number(process.env['FUZZ_PACKETS'] ?? 100_000);
const BATCH = 300;
const MAX_CONNECTIONS = 512;
const KEY = new Uint8Array(4);

/** Small and fast, and the same numbers for the same seed (mulberry32). */
function generator(start: number): (below: number) => number {
  let state = start >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

const namespace = uniqueName('fuzz');
const outside = uniqueName('fuzzout');
const random = generator(seed);
const pick = <T>(list: readonly T[]): T => list[random(list.length)]!;
let clock = 1_000_000;
const verdicts = new Map<number, number>();
let kernel: KernelPlane;
let node: NodePlane;
let ifindex: { client: number; server: number };
let mac: Uint8Array;

const inside = <T>(work: () => T): T => inNamespace(namespace, work);

describeKernel('the data plane in the kernel and in Node', () => {
  beforeAll(() => {
    createNamespace(namespace);
    createNamespace(outside);
    withRoutes(namespace, (routes) => {
      routes.setUp('lo');
      routes.addVeth('client', 'far-client', outside);
      routes.addVeth('server', 'far-server', outside);
      for (const [name, v4, v6] of [
        ['client', '10.1.0.1/24', '2001:db8:1::1/64'],
        ['server', '10.2.0.1/24', '2001:db8:2::1/64'],
      ] as const) {
        routes.addAddress(name, v4);
        routes.addAddress(name, v6, { nodad: true });
        routes.setUp(name);
      }
      const link = routes.link('client');
      mac = parseMac(link.mac);
      ifindex = { client: link.ifindex, server: routes.link('server').ifindex };
    });
    withRoutes(outside, (routes) => {
      for (const name of ['far-client', 'far-server']) routes.setUp(name);
    });
    writeSysctl('net.ipv4.ip_forward', 1, namespace);
    writeSysctl('net.ipv6.conf.all.forwarding', 1, namespace);
    kernel = inside(() => KernelPlane.create({ maxConnections: MAX_CONNECTIONS }));
    node = new NodePlane({
      now: () => 0n,
      random: () => 0,
      route,
      maxEntries: {
        connections: MAX_CONNECTIONS,
        free_slots: MAX_CONNECTIONS,
        local_ends: MAX_CONNECTIONS,
        flows4: 2 * MAX_CONNECTIONS,
      },
    });
  });

  afterAll(() => {
    inside(() => kernel?.detach());
    deleteNamespace(namespace);
    deleteNamespace(outside);
  });

  test(`agree on ${packets} packets (seed ${seed})`, { timeout: 1_800_000 }, () => {
    const both = [inside(() => new MapDirector(kernel)), new MapDirector(node)];
    for (const director of both) inside(() => director.writeSettings(undefined, MAX_CONNECTIONS));
    setClock();
    for (let sent = 0; sent < packets; sent += BATCH) {
      for (let i = sent === 0 ? 30 : random(4); i > 0; i--) inside(() => change(both));
      for (let i = 0; i < BATCH && sent + i < packets; i++) inside(() => send(sent + i));
      compareMaps(sent);
    }
    // A run in which nothing was forwarded would prove nothing.
    expect(verdicts.get(TC_ACT_REDIRECT) ?? 0, [...verdicts].join(' ')).toBeGreaterThan(packets / 20);
    expect(verdicts.get(TC_ACT_SHOT) ?? 0, [...verdicts].join(' ')).toBeGreaterThan(packets / 200);
  });
});

/** On link are the two networks; nothing else is known. */
function route(parameters: Uint8Array, flags: number): number {
  const view = new DataView(parameters.buffer, parameters.byteOffset);
  const address = [...parameters.subarray(32, 48)];
  const net = parameters[0] === 2 ? address.slice(0, 3) : address.slice(0, 8);
  const known: Record<string, number> = {
    '10,1,0': ifindex.client,
    '10,2,0': ifindex.server,
    '32,1,13,184,0,1,0,0': ifindex.client,
    '32,1,13,184,0,2,0,0': ifindex.server,
  };
  const found = known[net.join()];
  // The director's own addresses are not forwarded to, nor is the broadcast (IPv4) or the routers' anycast address (IPv6).
  const host = net.length === 3 ? address[3]! : address.slice(8).reduce((sum, byte) => sum * 256 + byte, 0);
  if (found === undefined || host === 1 || host === (net.length === 3 ? 255 : 0)) return 4;
  const length = view.getUint16(6, true);
  if (length !== 0) view.setUint16(6, MTU, true);
  if (length > MTU) return 8;
  view.setUint32(8, found, true);
  if ((flags & BPF_FIB_LOOKUP_SRC) !== 0)
    parameters.set(parseIp(OWN[`${parameters[0]} ${found === ifindex.client}`]!), 16);
  return 0;
}

const MTU = 1500;
/** The director's addresses, by family and side. */
const OWN: Readonly<Record<string, string>> = {
  '2 true': '10.1.0.1',
  '2 false': '10.2.0.1',
  '10 true': '2001:db8:1::1',
  '10 false': '2001:db8:2::1',
};

// Tables -------------------------------------------------------------------------------------------------------------

const SERVICES: readonly ServiceId[] = [
  { kind: 'address', family: 'ipv4', protocol: 'tcp', address: '10.1.0.100', port: 80 },
  { kind: 'address', family: 'ipv4', protocol: 'tcp', address: '10.1.0.100', port: 81 },
  { kind: 'address', family: 'ipv6', protocol: 'tcp', address: '2001:db8:1::100', port: 80 },
  { kind: 'fwmark', family: 'ipv4', fwmark: 7 },
];
/** Of FULLNAT. */
const LOCALS = { ipv4: ['10.2.0.250', '10.2.0.251'], ipv6: ['2001:db8:2::250', '2001:db8:2::251'] } as const;
const SCHEDULERS = ['rr', 'wrr', 'lc', 'wlc'];

function randomCommand(): Command {
  const service = pick(SERVICES);
  const host = 11 + random(5);
  const forwarding = pick(['masq', 'masq', 'masq', 'fullnat', 'fullnat', 'tunnel', 'tunnel', 'route'] as const);
  // Tunnels lead into the other family as well.
  const four = (service.family === 'ipv4') !== (forwarding === 'tunnel' && random(3) === 0);
  const server = {
    address: four ? `10.2.0.${host}` : `2001:db8:2::${host}`,
    port:
      forwarding === 'masq' || forwarding === 'fullnat'
        ? pick([80, 8000])
        : service.kind === 'address'
          ? service.port
          : 0,
  };
  const settings = {
    forwarding,
    weight: random(5),
    upperThreshold: pick([0, 0, 0, 3]),
    lowerThreshold: 0,
    tunnel:
      forwarding === 'tunnel'
        ? pick([
            plainTunnel,
            { type: 'gre', port: 0, checksum: pick(['none', 'full'] as const) } as const,
            { type: 'gue', port: 5555, checksum: pick(['none', 'full', 'remote'] as const) } as const,
          ])
        : plainTunnel,
  } as const;
  const serviceSettings = {
    scheduler: pick(SCHEDULERS),
    schedulerFlags: 0,
    persistence: null,
    persistenceEngine: null,
    onePacket: false,
  };
  return pick<Command>([
    { kind: 'addService', service, settings: serviceSettings },
    { kind: 'addService', service, settings: serviceSettings },
    { kind: 'editService', service, settings: serviceSettings },
    { kind: 'addServer', service, server, settings },
    { kind: 'addServer', service, server, settings },
    { kind: 'addServer', service, server, settings },
    { kind: 'editServer', service, server, settings },
    { kind: 'deleteServer', service, server },
    { kind: 'addLocalAddress', service, address: pick(LOCALS[service.family]) },
    { kind: 'addLocalAddress', service, address: pick(LOCALS[service.family]) },
    { kind: 'deleteLocalAddress', service, address: pick(LOCALS[service.family]) },
    { kind: 'setSysctl', name: 'local_port_range', value: pick(['2000 2001', '2000 2015', '1024 32767']) },
    { kind: 'setSysctl', name: 'schedule_icmp', value: pick(['0', '1']) },
    { kind: 'setSysctl', name: 'nat_icmp_send', value: pick(['0', '1']) },
    { kind: 'setSysctl', name: 'pmtu_disc', value: pick(['0', '1', '1']) },
    ...(random(10) === 0 ? [{ kind: 'deleteService', service } as const] : []),
  ]);
}

/** Networks of real servers whose packets leave with the director's address. */
const MASQUERADED = [
  { from: { family: 'ipv4', address: '10.2.0.0', prefix: 24 }, address: '10.1.0.1' },
  { from: { family: 'ipv6', address: '2001:db8:2::', prefix: 64 }, address: '2001:db8:1::1' },
] as const;

function changeMasquerade(): void {
  const rule = { ...pick(MASQUERADED), ifindex: ifindex.client };
  const removes = random(2) === 0;
  const answers = [kernel, node].map((plane) => {
    const table = new MasqueradeTable(plane);
    if (!removes) return table.add(rule);
    try {
      return table.remove(rule.from);
    } catch (error) {
      return (error as Error).message;
    }
  });
  expect(answers[0]).toBe(answers[1]);
}

function change(both: readonly MapDirector[]): void {
  if (random(20) === 0) changeMasquerade();
  const command = randomCommand();
  const answers = both.map((director) => director.executeAll([command], { atomic: true })[0]?.code);
  expect(answers[0], JSON.stringify(command)).toBe(answers[1]);
}

// Packets ------------------------------------------------------------------------------------------------------------

/** Of TCP: none, timestamps as they are sent and at an odd place, one that is cut off, and nonsense. */
const OPTIONS = [
  [],
  [2, 4, 5, 180, 4, 2, 8, 10, 9, 8, 7, 6, 0, 0, 0, 0, 1, 3, 3, 7],
  [1, 8, 10, 9, 8, 7, 6, 1, 2, 3, 4, 0],
  [1, 1, 8, 10],
  [3, 0, 200, 1],
].map((bytes) => Uint8Array.from(bytes));

const FLAGS = ['S', 'S', 'SA', 'A', 'A', 'PA', 'FA', 'R', 'RA', 'F', '', 'SR'];

/** The last requests that were forwarded, as they left: what replies answer, and what later requests of theirs repeat. */
const forwarded: {
  readonly client: string;
  readonly port: number;
  readonly real: string;
  readonly realPort: number;
  /** Whom the real server sees as its client. */
  readonly seen: string;
  readonly seenPort: number;
}[] = [];

/** Packets of ours in tunnels, as they left. */
const tunnelled: Uint8Array[] = [];

function remember(sent: Uint8Array, bytes: Uint8Array): void {
  const parsed = parseFrame(bytes);
  const before = parseFrame(sent);
  if (Object.values(OWN).includes(parsed.source)) {
    tunnelled.push(bytes.slice());
    if (tunnelled.length > 50) tunnelled.shift();
  } else if (parsed.protocol !== 6) return;
  const { source, sourcePort } = before;
  const { destination, destinationPort } = parsed.protocol === 6 ? parsed : { ...before, destination: '10.2.0.11' };
  if (!destination.startsWith('10.2.') && !destination.startsWith('2001:db8:2:')) return;
  if (before.protocol !== 6 || source.includes(':') !== destination.includes(':')) return;
  const seen =
    parsed.protocol === 6
      ? { seen: parsed.source, seenPort: parsed.sourcePort }
      : { seen: source, seenPort: sourcePort };
  forwarded.push({ client: source, port: sourcePort, real: destination, realPort: destinationPort, ...seen });
  if (forwarded.length > 200) forwarded.shift();
}

function frameOfConnection(): Uint8Array {
  const { client, port, real, realPort, seen, seenPort } = pick(forwarded);
  const reply = random(2) === 0;
  const frame = tcpFrame({
    source: reply ? real : client,
    destination: reply ? seen : client.includes(':') ? '2001:db8:1::100' : '10.1.0.100',
    sourcePort: reply ? realPort : port,
    destinationPort: reply ? seenPort : pick([80, 80, 81]),
    flags: pick(FLAGS),
    options: pick(OPTIONS),
    timeToLive: pick([64, 64, 64, 64, 1]),
    tos: pick([0, 0, 0xb9, 3]),
    payload: Uint8Array.from({ length: pick([random(50), random(50), 1430 + random(60)]) }, () => random(256)),
  });
  frame.set(mac);
  return maim(random(12) === 0 ? fragmented(frame) : frame);
}

const ERRORS = {
  4: [
    [3, 3],
    [3, 4],
    [11, 0],
    [4, 0],
    [5, 1],
    [8, 0],
  ],
  6: [
    [1, 4],
    [2, 0],
    [3, 0],
    [128, 0],
  ],
} as const;

/** An ICMP message that quotes what is given. */
function icmpFrame(source: string, destination: string, quoted: Uint8Array): Uint8Array {
  const six = source.includes(':');
  const [type, code] = pick<readonly [number, number]>(six ? ERRORS[6] : ERRORS[4]);
  const message = new Uint8Array(8 + quoted.length);
  message.set([
    type,
    code,
    0,
    0,
    0,
    0,
    ...pick([
      [5, 20],
      [2, 0],
      [0, 0],
    ]),
  ]);
  message.set(quoted, 8);
  const addresses = [source, destination].map(parseIp);
  const length = message.length;
  const pseudo = six ? [...addresses, Uint8Array.of(0, 0, length >> 8, length & 255, 0, 0, 0, 58)] : [];
  const sum = random(20) === 0 ? 0x1234 : internetChecksum(...pseudo, message);
  message.set([sum >> 8, sum & 255], 2);
  const ip = six ? new Uint8Array(40) : new Uint8Array(20);
  const timeToLive = pick([64, 64, 64, 1]);
  if (six) {
    ip.set([0x60, 0, 0, 0, length >> 8, length & 255, 58, timeToLive]);
    ip.set(addresses[0]!, 8);
    ip.set(addresses[1]!, 24);
  } else {
    ip.set([0x45, 0, (length + 20) >> 8, (length + 20) & 255, 0, 1, 0, 0, timeToLive, 1]);
    ip.set(addresses[0]!, 12);
    ip.set(addresses[1]!, 16);
    const check = internetChecksum(ip);
    ip.set([check >> 8, check & 255], 10);
  }
  return Uint8Array.from([...mac, 2, 0, 0, 0, 0, 2, ...(six ? [0x86, 0xdd] : [8, 0]), ...ip, ...message]);
}

/** An error about a packet of a connection, from either side, or about one of ours in a tunnel. */
function errorFrame(): Uint8Array {
  if (tunnelled.length > 0 && random(3) === 0) {
    const sent = pick(tunnelled);
    const { source, destination } = parseFrame(sent);
    return maim(icmpFrame(destination, source, sent.slice(14, 14 + 28 + random(150))));
  }
  const { client, port, real, realPort, seen, seenPort } = pick(forwarded);
  const virtual = client.includes(':') ? '2001:db8:1::100' : '10.1.0.100';
  const quote = (source: string, sourcePort: number, destination: string, destinationPort: number): Uint8Array =>
    tcpFrame({
      source,
      destination,
      sourcePort,
      destinationPort,
      flags: 'A',
      payload: new Uint8Array(random(40)),
    }).slice(
      14,
      // At least the ports, now and then less.
      14 + (source.includes(':') ? 40 : 20) + random(30),
    );
  return maim(
    random(2) === 0
      ? icmpFrame(client, virtual, quote(virtual, 80, client, port))
      : icmpFrame(real, seen, quote(seen, seenPort, real, realPort)),
  );
}

function randomFrame(): Uint8Array {
  if (forwarded.length > 0 && random(6) === 0) return errorFrame();
  if (forwarded.length > 0 && random(3) > 0) return frameOfConnection();
  const six = random(3) === 0;
  const client = six ? `2001:db8:1::${(2 + random(6)).toString(16)}` : `10.1.0.${2 + random(6)}`;
  const vip = six ? '2001:db8:1::100' : pick(['10.1.0.100', '10.1.0.100', '10.1.0.101']);
  const real = six ? `2001:db8:2::${11 + random(5)}` : `10.2.0.${11 + random(5)}`;
  const reply = random(2) === 0;
  const port = 1000 + random(40);
  const frame = tcpFrame({
    source: reply ? real : client,
    destination: reply ? client : vip,
    sourcePort: reply ? pick([80, 8000, 81]) : port,
    destinationPort: reply ? port : pick([80, 80, 81, 82]),
    flags: pick(FLAGS),
    options: pick(OPTIONS),
    sequence: random(2 ** 32),
    timeToLive: pick([64, 64, 64, 2, 1, 0]),
    payload: Uint8Array.from({ length: pick([0, 0, 1, 7, 64, 1400]) }, () => random(256)),
  });
  frame.set(random(30) === 0 ? [2, 9, 9, 9, 9, 9] : mac);
  return maim(random(12) === 0 ? fragmented(frame) : frame);
}

/** The packet as if it were a fragment, the first or a later one. */
function fragmented(frame: Uint8Array): Uint8Array {
  const id = random(6);
  const offset = pick([0, 0, 1, 64]);
  if (frame[12] === 8) {
    const copy = frame.slice();
    copy.set([0, id, (offset === 64 ? 0 : 0x20) | (offset >> 8), offset & 255], 18);
    copy.set([0, 0], 24);
    const sum = internetChecksum(copy.subarray(14, 34));
    copy.set([sum >> 8, sum & 255], 24);
    return copy;
  }
  const length = frame.length - 54 + 8;
  const extension = [frame[20]!, 0, offset >> 5, ((offset & 31) << 3) | (offset === 64 ? 0 : 1), 0, 0, 0, id];
  const copy = Uint8Array.from([...frame.subarray(0, 54), ...extension, ...frame.subarray(54)]);
  copy.set([length >> 8, length & 255, 44], 18);
  return copy;
}

/** One in six is cut short or has bytes changed, anywhere. */
function maim(frame: Uint8Array): Uint8Array {
  if (random(6) > 0) return frame;
  if (random(2) === 0) return frame.slice(0, 15 + random(frame.length - 15 + 1));
  for (let i = 1 + random(4); i > 0; i--) {
    const at = 12 + random(Math.min(frame.length, 80) - 12);
    frame[at] = pick([random(256), 0, 255, frame[at]! ^ (1 << random(8))]);
  }
  return frame;
}

/** The kernel's test run takes no IP packet that is shorter than its fixed header. */
function takenByTestRun(frame: Uint8Array): boolean {
  const type = (frame[12]! << 8) | frame[13]!;
  return frame.length >= (type === 0x0800 ? 34 : type === 0x86dd ? 54 : 15);
}

function send(number: number): void {
  if (random(50) === 0) {
    clock += random(ticksOf(pick([1, 10, 70, 200])));
    setClock();
  }
  let frame = randomFrame();
  while (!takenByTestRun(frame)) frame = randomFrame();
  const mark = random(10) === 0 ? 7 : 0;
  const from = pick([ifindex.client, ifindex.server]);
  const other = frame.subarray(0, 6).some((byte, i) => byte !== mac[i]);
  const context = skbContext({ mark, ifindex: from, ingressIfindex: from });
  if (from !== ifindex.client && !other) inNamespace(namespace, () => frame.set(serverMac()));
  const here = kernel.program(ingress.name).testRun({ data: frame, context });
  const skb = new NodeSkb(frame, { mark, ifindex: from, ingressIfindex: from, pktType: packetType(other) });
  const there = node.receive(skb);
  if (there === TC_ACT_REDIRECT && frame.length >= (frame[12] === 8 ? 54 : 74)) remember(frame, skb.bytes);
  verdicts.set(there, (verdicts.get(there) ?? 0) + 1);
  const story = `packet ${number}, seed ${seed}: ${Buffer.from(frame).toString('hex')}`;
  expect(here.retval | 0, `verdict of ${story}`).toBe(there);
  const [ours, theirs] = [here.data, skb.bytes].map((bytes) => Buffer.from(withoutChance(bytes)).toString('hex'));
  expect(ours, `bytes of ${story}`).toBe(theirs);
}

/** The IPv4 id of what the director makes is drawn at random, and its header checksum follows. */
function withoutChance(received: Uint8Array): Uint8Array {
  if (received[12] !== 8 || received[13] !== 0) return received;
  const source = received.subarray(26, 30).join('.');
  if (received[23] !== 1 && !Object.values(OWN).includes(source)) return received;
  const copy = received.slice();
  for (const at of [18, 19, 24, 25]) copy[at] = 0;
  return copy;
}

let cachedServerMac: Uint8Array | undefined;
function serverMac(): Uint8Array {
  cachedServerMac ??= withRoutes(undefined, (routes) => parseMac(routes.link('server').mac));
  return cachedServerMac;
}

/** PACKET_HOST, or PACKET_OTHERHOST; the test's frames are never broadcast. */
const packetType = (other: boolean): number => (other ? 3 : 0);

function setClock(): void {
  for (const plane of [kernel, node] satisfies Plane[]) {
    const store = plane.store(settings);
    const bytes = store.lookup(KEY)!;
    Settings.on(bytes).clock = clock;
    store.update(KEY, bytes);
  }
}

// Maps ---------------------------------------------------------------------------------------------------------------

function compareMaps(sent: number): void {
  for (const definition of [population, services, flows4, flows6, followed]) compareEntries(definition, sent);
  compareRange(connections, MAX_CONNECTIONS, sent, (bytes) => {
    // What a free entry last held is nobody's.
    if (Connection.on(bytes).alive !== 1) bytes.fill(0);
  });
  compareRange(localEnds, MAX_CONNECTIONS, sent);
  compareRange(servers, 64, sent, (bytes) => {
    StoredServer.on(bytes).route.at = 0;
  });
  compareRange(serviceStates, 16, sent);
  compareRange(members, 256, sent);
  for (const [definition, count] of [
    [traffic, 64],
    [reasons, 40],
  ] as const) {
    for (let i = 0; i < count; i++) {
      const [here, there] = [kernel, node].map((plane) => total(plane.store(definition).lookupPerCpu(indexKey(i))));
      expect(here, `${definition.name} ${i} after packet ${sent}, seed ${seed}`).toEqual(there);
    }
  }
}

const indexKey = (index: number): Uint8Array => new Uint8Array(Uint32Array.of(index).buffer);

function total(perCpu: readonly Uint8Array[]): bigint[] {
  const words = perCpu.map((bytes) => [...new BigUint64Array(bytes.slice().buffer)]);
  return words[0]!.map((_, i) => words.reduce((sum, cpu) => sum + cpu[i]!, 0n));
}

function compareEntries(definition: MapDefinition, sent: number): void {
  const [here, there] = [kernel, node].map((plane) =>
    [...plane.store(definition).entries()]
      .map((pair) => pair.map((part) => Buffer.from(part).toString('hex')).join(' '))
      .sort(),
  );
  expect(here, `${definition.name} after packet ${sent}, seed ${seed}`).toEqual(there);
}

function compareRange(
  definition: MapDefinition,
  count: number,
  sent: number,
  forget: (bytes: Uint8Array) => void = () => {},
): void {
  for (let i = 0; i < count; i++) {
    const [here, there] = [kernel, node].map((plane) => {
      const bytes = plane.store(definition).lookup(indexKey(i))!;
      forget(bytes);
      return Buffer.from(bytes).toString('hex');
    });
    expect(here, `${definition.name} ${i} after packet ${sent}, seed ${seed}`).toBe(there);
  }
}
