/**
 * Datagrams that tell of their clients, packets too long for their way, and handshakes of services that limit segments, in the kernel
 * and in Node: sizes around what fits, with and without DF, from both sides, some of it maimed, and what comes in once more. Every
 * byte and every map must be equal.
 *
 * FUZZ_SEED replays a run, FUZZ_PACKETS sets how many.
 */
import { TC_ACT_REDIRECT } from '@ipvsd/bpf';
import { describeKernel, uniqueName } from '@ipvsd/bpf/testing';
import { internetChecksum, parseFrame, tcpFrame, ticksOf, udpFrame } from '@ipvsd/ipvs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Family } from '../address.ts';
import { plainTunnel, type RealServerSettings, type ServiceId, type ServiceSettings } from '../model.ts';
import { serverSettings, serviceSettings } from '../testing/node-bench.ts';
import { giveOptions } from './fuzz/ftp.ts';
import { Random } from './fuzz/random.ts';
import { GUE_PORT, LOCALS, SITES } from './fuzz/site.ts';
import { type Side, Worlds } from './fuzz/worlds.ts';

const seed = Number(process.env['FUZZ_SEED'] ?? Date.now() % 2 ** 31);
const packets = Number(process.env['FUZZ_PACKETS'] ?? 10_000);
const BATCH = 500;

const random = new Random(seed);
let worlds: Worlds;

interface Service {
  readonly id: ServiceId & { readonly kind: 'address' };
  readonly settings: Partial<ServiceSettings>;
  readonly server: Partial<RealServerSettings>;
  /** Of the real server. */
  readonly family: Family;
}

const FAMILIES = ['ipv4', 'ipv6'] as const;
const FULLNAT = { forwarding: 'fullnat' } as const;
const tunnel = (type: 'ipip' | 'gre' | 'gue', checksum: 'none' | 'full' = 'none'): Partial<RealServerSettings> => ({
  forwarding: 'tunnel',
  tunnel: { ...plainTunnel, type, port: type === 'gue' ? GUE_PORT : 0, checksum },
});

/** In either family, by port. */
const UDP: readonly (readonly [Partial<ServiceSettings>, Partial<RealServerSettings>, Family | undefined])[] = [
  [{}, FULLNAT, undefined],
  [{ proxyProtocol: 'v2' }, FULLNAT, undefined],
  [{ proxyProtocol: 'v2-each' }, FULLNAT, undefined],
  [{}, tunnel('ipip'), 'ipv6'],
  [{}, tunnel('gre', 'full'), 'ipv6'],
  [{}, tunnel('gue', 'full'), 'ipv6'],
  [{}, { forwarding: 'masq' }, undefined],
];
const TCP: typeof UDP = [
  [{ segmentSize: 'auto' }, FULLNAT, undefined],
  [{ segmentSize: 1200 }, { forwarding: 'masq' }, undefined],
  [{ segmentSize: 300 }, { forwarding: 'route' }, undefined],
  [{ segmentSize: 'auto' }, tunnel('gre'), 'ipv6'],
  [{ segmentSize: 'auto', proxyProtocol: 'v2' }, FULLNAT, undefined],
];
const SERVICES: readonly Service[] = FAMILIES.flatMap((family) =>
  (
    [
      ['udp', UDP],
      ['tcp', TCP],
    ] as const
  ).flatMap(([protocol, rows]) =>
    rows.map(([settings, server, of], i) => ({
      id: { kind: 'address', family, protocol, address: SITES[family].virtual[0]!, port: 1001 + i },
      settings,
      server,
      family: of ?? family,
    })),
  ),
);

/** A client's connection, and how the real server sees it. */
interface Talk {
  readonly service: Service;
  readonly client: string;
  readonly clientPort: number;
  seen?: { readonly address: string; readonly port: number; readonly real: string };
}

/** What came about, as a run without it would prove nothing. */
const counted = { pieces4: 0, pieces6: 0, headers: 0, options: 0 };

describeKernel('what is told and what is split', () => {
  beforeAll(() => {
    worlds = new Worlds(uniqueName('edges'), uniqueName('edgesout'));
    worlds.inside(() => {
      worlds.set(1_000_000, 7);
      for (const { id, settings, server, family } of SERVICES) {
        worlds.execute({ kind: 'addService', service: id, settings: serviceSettings('rr', settings) });
        worlds.execute({ kind: 'addLocalAddress', service: id, address: LOCALS[id.family][0]! });
        const port = server.forwarding === 'fullnat' || server.forwarding === 'masq' ? 8000 : id.port;
        const end = { address: SITES[family].real(0), port };
        worlds.execute({ kind: 'addServer', service: id, server: end, settings: serverSettings(1, server) });
      }
    });
  }, 60_000);

  afterAll(() => worlds?.remove());

  test(`is the same in the kernel and in Node, of ${packets} packets (seed ${seed})`, { timeout: 1_800_000 }, () => {
    worlds.inside(() => {
      const talks: Talk[] = [];
      let clock = 1_000_000;
      for (let sent = 0; sent < packets; sent += BATCH) {
        const mode = random.pick(['0', '1', '2', '2']);
        worlds.execute({ kind: 'setSysctl', name: 'uoa_mode', value: mode });
        worlds.execute({ kind: 'setSysctl', name: 'pmtu_disc', value: random.pick(['0', '1', '1']) });
        for (let i = 0; i < BATCH; i++) step(talks, sent + i);
        clock += random.below(ticksOf(1500));
        worlds.set(clock, 1 + random.below(2 ** 32 - 1));
        // Their entries go, or the table would be full.
        worlds.sweep();
        worlds.compare(`packet ${sent + BATCH}, seed ${seed}`);
      }
    });
    console.log(`${packets} packets: ${JSON.stringify({ ...counted, ...worlds.reasons() })}; seed ${seed}`);
    for (const [what, count] of Object.entries(counted)) expect(count, what).toBeGreaterThan(packets / 1000);
  });
});

function step(talks: Talk[], number: number): void {
  if (talks.length < 30 || random.oneIn(15)) {
    const service = random.pick(SERVICES);
    const client = SITES[service.id.family].client(random.below(8));
    talks.push({ service, client, clientPort: 1 + random.below(65_535) });
    if (talks.length > 80) talks.shift();
  }
  const talk = random.pick(talks);
  const { service, seen } = talk;
  const asks = seen === undefined || random.below(3) > 0;
  const ends = asks
    ? {
        source: talk.client,
        sourcePort: talk.clientPort,
        destination: service.id.address,
        destinationPort: service.id.port,
      }
    : { source: seen!.real, sourcePort: 8000, destination: seen!.address, destinationPort: seen!.port };
  let frame = service.id.protocol === 'udp' ? datagram(ends) : segment(ends, asks);
  if (frame[12] === 8 && random.below(4) > 0) frame = withFlags(frame, random.oneIn(12) ? 0x20 : 0);
  if (random.oneIn(40)) frame[34 + random.below(frame.length - 34)] = random.below(256);
  if (random.oneIn(60)) frame = frame.slice(0, 54 + random.below(frame.length - 54));
  const side = asks ? 'client' : 'server';
  frame.set(worlds.mac(side));
  const { verdict, left, again } = worlds.send(frame, side, 0, () => `packet ${number}, seed ${seed}`);
  sendAgain(again, side, number);
  if (verdict !== TC_ACT_REDIRECT || !asks) return;
  if (service.id.protocol === 'udp' && service.server.forwarding === 'fullnat') {
    const more = left.length - frame.length;
    if (more === 28 || more === 52) counted.headers++;
    if (more === 8 || more === 12 || more === 24) counted.options++;
  }
  if (left[12] !== frame[12] || left.length < 60) return;
  const after = parseFrame(left);
  if (after.protocol !== (service.id.protocol === 'udp' ? 17 : 6)) return;
  const translated = service.server.forwarding === 'fullnat' || service.server.forwarding === 'masq';
  if (translated) talk.seen = { address: after.source, port: after.sourcePort, real: after.destination };
}

/** Pieces are split again, to their end. */
function sendAgain(frames: readonly Uint8Array[], side: Side, number: number): void {
  for (const frame of frames) {
    if (frame.length < 60) continue;
    const { verdict, again } = worlds.send(frame, side, 0, () => `a piece of packet ${number}, seed ${seed}`);
    if (verdict === TC_ACT_REDIRECT) counted[frame[12] === 8 ? 'pieces4' : 'pieces6']++;
    sendAgain(again, side, number);
  }
}

type Ends = Pick<Parameters<typeof udpFrame>[0], 'source' | 'sourcePort' | 'destination' | 'destinationPort'>;

const datagram = (ends: Ends): Uint8Array => {
  const size = random.pick([
    random.below(50),
    1380 + random.below(100),
    1380 + random.below(100),
    1470 + random.below(40),
  ]);
  const frame = udpFrame({ ...ends, payload: random.bytes(size) });
  // Without a checksum now and then.
  if (random.oneIn(10)) frame.set([0, 0], (frame[12] === 8 ? 34 : 54) + 6);
  return frame;
};

function segment(ends: Ends, asks: boolean): Uint8Array {
  const [flags, sequence, acknowledgement] = random.pick<readonly [string, number, number]>(
    asks
      ? [
          ['S', 0, 0],
          ['S', 0, 0],
          ['A', 1, 1],
          ['PA', 1, 1],
          ['FA', 2, 1],
          ['R', 1, 0],
        ]
      : [
          ['SA', 0, 1],
          ['SA', 0, 1],
          ['PA', 1, 29],
        ],
  );
  const payload = flags === 'PA' ? random.bytes(random.pick([1, 33, 1400 + random.below(120)])) : random.bytes(0);
  const size = random.pick([random.below(65_536), 1460, 536, 200]);
  const said = random.pick([[], [2, 4, size >> 8, size & 255], [1, 2, 4, size >> 8, size & 255, 1, 1, 1]]);
  const frame = tcpFrame({ ...ends, flags, sequence, acknowledgement, payload, options: Uint8Array.from(said) });
  if (said.length === 0 && random.oneIn(4)) giveOptions(random, frame);
  return frame;
}

/** IPv4's flags, in the byte that has them. */
function withFlags(frame: Uint8Array, flags: number): Uint8Array {
  frame.set([0, random.below(4), flags, 0, frame[22]!, frame[23]!, 0, 0], 18);
  const sum = internetChecksum(frame.subarray(14, 34));
  frame.set([sum >> 8, sum & 255], 24);
  return frame;
}
