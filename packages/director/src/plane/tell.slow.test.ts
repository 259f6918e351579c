/**
 * What real servers behind FULLNAT are told of their clients, in the kernel and in Node: handshakes whose numbers fit together, with
 * options, payloads and sizes at random, some of it maimed. Every byte and every map must be equal.
 *
 * FUZZ_SEED replays a run, FUZZ_PACKETS sets how many.
 */
import { TC_ACT_REDIRECT } from '@ipvsd/bpf';
import { describeKernel, uniqueName } from '@ipvsd/bpf/testing';
import { parseFrame, tcpFrame, ticksOf } from '@ipvsd/ipvs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { ServiceId } from '../model.ts';
import { serverSettings, serviceSettings } from '../testing/node-bench.ts';
import { giveOptions } from './fuzz/ftp.ts';
import { Random } from './fuzz/random.ts';
import { LOCALS, SITES } from './fuzz/site.ts';
import { Worlds } from './fuzz/worlds.ts';

const seed = Number(process.env['FUZZ_SEED'] ?? Date.now() % 2 ** 31);
const packets = Number(process.env['FUZZ_PACKETS'] ?? 10_000);
const BATCH = 500;

const random = new Random(seed);
let worlds: Worlds;

/** How much longer the segments left, and how often. */
const grown = new Map<number, number>();

interface Talk {
  readonly client: string;
  readonly clientPort: number;
  readonly virtual: string;
  readonly port: number;
  local?: { readonly address: string; readonly port: number; readonly real: string };
}

const FAMILIES = ['ipv4', 'ipv6'] as const;
/** By the option, version 1, version 2. */
const SERVICES = FAMILIES.flatMap((family) =>
  [80, 81, 82].map((port) => {
    const address = SITES[family].virtual[0]!;
    const id: ServiceId = { kind: 'address', family, protocol: 'tcp', address, port };
    return { id, family, address, port };
  }),
);

describeKernel('what real servers are told of their clients', () => {
  beforeAll(() => {
    worlds = new Worlds(uniqueName('tell'), uniqueName('tellout'));
    worlds.inside(() => {
      worlds.set(1_000_000, 7);
      for (const { id: service, family, port } of SERVICES) {
        const proxy = port === 80 ? {} : { proxyProtocol: port === 81 ? ('v1' as const) : ('v2' as const) };
        worlds.execute({ kind: 'addService', service, settings: serviceSettings('rr', proxy) });
        worlds.execute({ kind: 'addLocalAddress', service, address: LOCALS[family][0]! });
        const server = { address: SITES[family].real(0), port: 8000 };
        worlds.execute({ kind: 'addServer', service, server, settings: serverSettings(1, { forwarding: 'fullnat' }) });
      }
    });
  });

  afterAll(() => worlds?.remove());

  test(`is the same in the kernel and in Node, of ${packets} segments (seed ${seed})`, { timeout: 1_800_000 }, () => {
    worlds.inside(() => {
      const talks: Talk[] = [];
      let clock = 1_000_000;
      for (let sent = 0; sent < packets; sent += BATCH) {
        for (let i = 0; i < BATCH; i++) step(talks, sent + i);
        clock += random.below(ticksOf(40));
        worlds.set(clock, 7);
        worlds.compare(`segment ${sent + BATCH}, seed ${seed}`);
      }
    });
    // The option of either family, and headers of version 2; those of version 1 have many lengths.
    for (const size of [8, 20, 28, 52]) expect(grown.get(size) ?? 0, JSON.stringify([...grown])).toBeGreaterThan(20);
    expect([...grown.keys()].filter((size) => size > 36 && size % 2 === 1)).not.toEqual([]);
  });
});

function step(talks: Talk[], number: number): void {
  if (talks.length < 20 || random.oneIn(30)) {
    const { family, address, port } = random.pick(SERVICES);
    const client = SITES[family].client(random.below(8));
    talks.push({
      client,
      clientPort: random.pick([1 + random.below(9), random.below(65_535)]),
      virtual: address,
      port,
    });
    if (talks.length > 60) talks.shift();
  }
  const talk = random.pick(talks);
  const asks = talk.local === undefined || random.below(3) > 0;
  const [flags, sequence, acknowledgement] = random.pick(asks ? (talk.local ? REQUESTS : OPENINGS) : REPLIES);
  const payload = flags.includes('P')
    ? random.bytes(random.pick([1, 2, 33, 500, 1380 + random.below(81)]))
    : random.bytes(0);
  const { local } = talk;
  const ends = asks
    ? { source: talk.client, sourcePort: talk.clientPort, destination: talk.virtual, destinationPort: talk.port }
    : { source: local!.real, sourcePort: 8000, destination: local!.address, destinationPort: local!.port };
  const options = random.oneIn(6) ? OWN_OPTION : new Uint8Array(0);
  const frame = tcpFrame({ ...ends, flags, sequence, acknowledgement, payload, options });
  if (options.length === 0 && random.oneIn(5)) giveOptions(random, frame);
  if (random.oneIn(25)) frame[54 + random.below(frame.length - 54)] = random.below(256);
  const side = asks ? 'client' : 'server';
  frame.set(worlds.mac(side));
  const { verdict, left } = worlds.send(frame, side, 0, () => `segment ${number}, seed ${seed}`);
  if (verdict !== TC_ACT_REDIRECT || !asks) return;
  const after = parseFrame(left);
  if (after.protocol !== 6) return;
  talk.local = { address: after.source, port: after.sourcePort, real: after.destination };
  const more = left.length - frame.length;
  if (more > 0) grown.set(more, (grown.get(more) ?? 0) + 1);
}

type Shape = readonly [flags: string, sequence: number, acknowledgement: number];
const OPENINGS: readonly Shape[] = [['S', 0, 0]];
const REQUESTS: readonly Shape[] = [
  ['S', 0, 0],
  ['S', 90, 0],
  ['A', 1, 1],
  ['A', 1, 1],
  ['A', 1, 1],
  ['PA', 1, 1],
  ['PA', 1, 1],
  ['FPA', 1, 1],
  ['FA', 1, 1],
  ['RA', 1, 1],
  ['PA', 40, 1],
  ['PA', 91, 1],
  ['PA', 1, 9],
];
const REPLIES: readonly Shape[] = [
  ['SA', 0, 1],
  ['SA', 0, 1],
  ['SA', 0, 1],
  ['A', 1, 20],
  ['A', 1, 29],
  ['PA', 1, 60],
];
const OWN_OPTION = Uint8Array.from([254, 8, 1, 2, 9, 9, 9, 9, 1, 254, 2, 0]);
