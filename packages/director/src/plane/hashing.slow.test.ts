/** sh, dh and mh against computations of their own, straight from the formulas and in other words than the data plane's. */
import { htons, NodeSkb, TC_ACT_REDIRECT } from '@ipvsd/bpf';
import { NONE, Opening, parseFrame, SCHEDULERS, servers, serviceStates, services, udpFrame } from '@ipvsd/ipvs';
import { parseIp } from '@ipvsd/linux';
import { describe, expect, test } from 'vitest';
import { formatAddress } from '../address.ts';
import type { ServiceId } from '../model.ts';
import { addressOf, NodeBench, randomFrom, serverSettings, serviceSettings } from '../testing/node-bench.ts';
import { FAMILY_NUMBERS, keyOf, loadAddress, storeAddress } from './codec.ts';

const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000);
const CLIENTS = 10_000;
/** So many of them by whole packets too. */
const BY_PACKET = 100;
const TABLES = 5;

interface Server {
  readonly name: string;
  /** Folded to 32 bits. */
  readonly address: number;
  readonly port: number;
  /** The last that was not 0. */
  readonly weight: number;
  readonly quiesced: boolean;
}

const hash8 = (x: number): number => Number((BigInt(x >>> 0) * 0x61c88647n) & 0xffff_ffffn) >>> 24;

/** SipHash-1-3 of four bytes, written as its paper has it. */
function sipHash13(word: number, key: bigint): number {
  const wrap = (x: bigint): bigint => BigInt.asUintN(64, x);
  const rotate = (x: bigint, n: bigint): bigint => wrap((x << n) | (x >> (64n - n)));
  const v = ['somepseu', 'dorandom', 'lygenera', 'tedbytes'].map(
    (text) => [...text].reduce((sum, c) => (sum << 8n) | BigInt(c.charCodeAt(0)), 0n) ^ key,
  ) as [bigint, bigint, bigint, bigint];
  const round = (): void => {
    v[0] = wrap(v[0] + v[1]);
    v[2] = wrap(v[2] + v[3]);
    v[1] = rotate(v[1], 13n) ^ v[0];
    v[3] = rotate(v[3], 16n) ^ v[2];
    v[0] = rotate(v[0], 32n);
    v[2] = wrap(v[2] + v[1]);
    v[0] = wrap(v[0] + v[3]);
    v[1] = rotate(v[1], 17n) ^ v[2];
    v[3] = rotate(v[3], 21n) ^ v[0];
    v[2] = rotate(v[2], 32n);
  };
  const message = (4n << 56n) | BigInt(word >>> 0);
  v[3] ^= message;
  round();
  v[0] ^= message;
  v[2] ^= 0xffn;
  for (let i = 0; i < 3; i++) round();
  return Number((v[0] ^ v[1] ^ v[2] ^ v[3]) & 0xffff_ffffn);
}

function shTable(servers: readonly Server[]): Server[] {
  const cycle = servers.flatMap((s) => new Array<Server>(s.quiesced ? 1 : s.weight).fill(s));
  return Array.from({ length: 256 }, (_, i) => cycle[i % cycle.length]!);
}

function mhTable(servers: readonly Server[]): (Server | undefined)[] {
  const M = 4093;
  const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b));
  const g = servers.reduce((d, s) => gcd(d, s.weight), 0);
  const bits = Math.max(...servers.map((s) => s.weight / g)).toString(2).length;
  const shift = Math.max(0, bits - 6);
  const table = new Array<Server | undefined>(M);
  const cursor = servers.map((s) => sipHash13(s.address + s.port, 2654435761n) % M);
  const skip = servers.map((s) => (sipHash13(s.address + s.port, 2654446892n) % (M - 1)) + 1);
  for (let filled = 0; filled < M; ) {
    servers.forEach((s, i) => {
      for (let turn = 0; turn < Math.max(1, (s.weight / g) >> shift) && filled < M; turn++, filled++) {
        while (table[cursor[i]!] !== undefined) cursor[i] = (cursor[i]! + skip[i]!) % M;
        table[cursor[i]!] = s;
      }
    });
  }
  return table;
}

/** What decides about a packet: addresses folded to 32 bits. */
interface Asked {
  readonly client: number;
  readonly port: number;
  readonly destination: number;
}

/** Which real server has it; `flags`: 1 the fallback, 2 with the port. */
type Choice = (servers: readonly Server[], flags: number) => (asked: Asked) => Server | undefined;

const takes = (server: Server | undefined): Server | undefined => (server?.quiesced === false ? server : undefined);

/** The first of the places that `at` names whose real server takes connections. */
function firstThatTakes(count: number, at: (i: number) => Server | undefined): Server | undefined {
  for (let i = 0; i < count; i++) {
    const server = takes(at(i));
    if (server !== undefined) return server;
  }
  return undefined;
}

const CHOICES: Readonly<Record<string, Choice>> = {
  sh: (servers, flags) => {
    const table = shTable(servers);
    return ({ client, port }) => {
      const h = hash8(client + ((flags & 2) !== 0 ? port : 0));
      const own = takes(table[h]);
      if (own !== undefined || (flags & 1) === 0) return own;
      return firstThatTakes(256, (i) => table[(2 * h + i) % 256]);
    };
  },
  mh: (servers, flags) => {
    const table = mhTable(servers);
    return ({ client, port }) => {
      const key = client + ((flags & 2) !== 0 ? port : 0);
      const slot = sipHash13(key, 2654435761n) % 4093;
      const own = takes(table[slot]);
      if (own !== undefined || (flags & 1) === 0) return own;
      return firstThatTakes(4093, (i) => table[sipHash13(key + ((i + slot) % 4093), 2654435761n) % 4093]);
    };
  },
  dh: (servers) => {
    const table = Array.from({ length: 256 }, (_, i) => servers[i % servers.length]!);
    return ({ destination }) => takes(table[hash8(destination)]);
  },
};

const SERVICES = {
  ipv4: { kind: 'fwmark', family: 'ipv4', fwmark: 7 },
  ipv6: { kind: 'fwmark', family: 'ipv6', fwmark: 7 },
} as const satisfies Record<string, ServiceId>;

const fold = (words: readonly number[]): number => words.reduce((all, word) => all ^ word, 0) >>> 0;
const format = (words: readonly number[]): string =>
  words.length === 1
    ? addressOf(words[0]!)
    : words.map((w) => `${(w >>> 16).toString(16)}:${(w & 0xffff).toString(16)}`).join(':');

/** Real servers, newest first; every fourth is quiesced after it was added. */
function furnish(bench: NodeBench, family: 'ipv4' | 'ipv6', random: () => number): Server[] {
  const service = SERVICES[family];
  const made: Server[] = [];
  for (let i = 0; i < 1 + (random() % 9); i++) {
    const host = i * 256 + (random() % 250) + 1;
    const words = family === 'ipv4' ? [0x0a02_0000 + host] : [0x2001_0db8, 0x0002_0000, random(), host];
    const name = formatAddress(parseIp(format(words)));
    const [port, weight, quiesced] = [random() % 2 === 0 ? 0 : 53, 1 + (random() % 90), i > 0 && random() % 4 === 0];
    const server = { address: name, port };
    bench.execute({ kind: 'addServer', service, server, settings: serverSettings(weight) });
    if (quiesced) bench.execute({ kind: 'editServer', service, server, settings: serverSettings(0) });
    made.unshift({ name, address: fold(words), port, weight, quiesced });
  }
  return made;
}

/** What the scheduler itself answers, without a packet around it. */
function asker(bench: NodeBench, name: string, family: 'ipv4' | 'ipv6') {
  const { world } = bench.plane;
  const scheduler = SCHEDULERS.find((each) => each.name === name)!;
  const opening = Opening.create();
  return world.run(() => {
    const service = services.lookup(keyOf(SERVICES[family]))!;
    const state = serviceStates.at(service.index)!;
    return (client: string, port: number, destination: string): string | undefined => {
      storeAddress(opening.client, client);
      storeAddress(opening.virtual, destination);
      opening.clientPort = htons(port);
      const number = world.run(() => scheduler.schedule(service, state, opening));
      return number === NONE
        ? undefined
        : loadAddress(
            world.run(() => servers.at(number)!.address),
            FAMILY_NUMBERS[family],
          );
    };
  });
}

/** What becomes of a packet that bears the mark. */
function sendTo(bench: NodeBench, source: string, sourcePort: number, destination: string): string | undefined {
  const skb = new NodeSkb(udpFrame({ source, sourcePort, destination, destinationPort: 53 }), { mark: 7 });
  const left = bench.plane.receive(skb) === TC_ACT_REDIRECT ? parseFrame(skb.bytes) : undefined;
  return left?.protocol === 17 ? left.destination : undefined;
}

describe.each(Object.entries(CHOICES))('%s', (name, choice) => {
  test(`chooses as computed for ${CLIENTS} clients of each of ${TABLES} random tables`, { timeout: 600_000 }, () => {
    const random = randomFrom(seed);
    for (let t = 0; t < TABLES; t++) {
      const family = t % 2 === 0 ? 'ipv4' : 'ipv6';
      const flags = name === 'dh' ? 0 : random() % 4;
      const bench = new NodeBench(random);
      const settings = serviceSettings(name, { onePacket: true, schedulerFlags: flags });
      bench.execute({ kind: 'addService', service: SERVICES[family], settings });
      const wanted = choice(furnish(bench, family, random), flags);
      const ask = asker(bench, name, family);
      for (let i = 0; i < CLIENTS; i++) {
        const [client, destination] = [randomWords(family, random), randomWords(family, random)];
        const [source, virtual] = [format(client), format(destination)];
        const port = 1024 + (random() % 60_000);
        const expected = wanted({ client: fold(client), port, destination: fold(destination) })?.name;
        const got = [ask(source, port, virtual), ...(i < BY_PACKET ? [sendTo(bench, source, port, virtual)] : [])];
        if (got.some((real) => real !== expected)) {
          const what = `seed ${seed}, table ${t}, flags ${flags}: ${source} ${port} to ${virtual}`;
          expect.fail(`${what} went to ${got.join(' and ')}, not ${expected}`);
        }
      }
    }
  });
});

function randomWords(family: 'ipv4' | 'ipv6', random: () => number): number[] {
  if (family === 'ipv4') return [random()];
  return [0x2001_0db8, random(), random(), random()];
}
