/** sh, dh and mh against computations of their own, straight from the formulas and in other words than the data plane's. */
import { describe, expect, test } from 'vitest';
import {
  addressOf,
  NodeBench,
  randomFrom,
  serverSettings,
  serviceSettings,
  udpService,
} from '../testing/node-bench.ts';

const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000);
const CLIENTS = 2000;
const TABLES = 5;

interface Server {
  readonly address: number;
  readonly port: number;
  readonly weight: number;
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
  const cycle = servers.flatMap((s) => new Array<Server>(Math.max(1, s.weight)).fill(s));
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

/** Which real server has this client, or destination. */
type Choice = (servers: readonly Server[]) => (client: number, port: number, withPort: boolean) => Server | undefined;

const CHOICES: Readonly<Record<string, Choice>> = {
  sh: (servers) => {
    const table = shTable(servers);
    return (client, port, withPort) => table[hash8(client + (withPort ? port : 0))];
  },
  mh: (servers) => {
    const table = mhTable(servers);
    return (client, port, withPort) => table[sipHash13(client + (withPort ? port : 0), 2654435761n) % 4093];
  },
  dh: (servers) => () => servers[hash8(0x0a00_0064) % servers.length],
};

describe.each(Object.entries(CHOICES))('%s', (name, choice) => {
  test(`chooses as computed for ${CLIENTS} clients of each of ${TABLES} random tables`, () => {
    const random = randomFrom(seed);
    for (let t = 0; t < TABLES; t++) {
      const withPort = name !== 'dh' && random() % 2 === 1;
      const bench = new NodeBench(random);
      const settings = serviceSettings(name, { onePacket: true, schedulerFlags: withPort ? 2 : 0 });
      bench.execute({ kind: 'addService', service: udpService, settings });
      const servers: Server[] = [];
      for (let i = 0; i < 1 + (random() % 9); i++) {
        const s = { address: 0x0a02_0000 + i * 256 + (random() % 250) + 1, port: 53, weight: 1 + (random() % 90) };
        servers.unshift(s);
        const server = { address: addressOf(s.address), port: s.port };
        bench.execute({ kind: 'addServer', service: udpService, server, settings: serverSettings(s.weight) });
      }
      const wanted = choice(servers);
      for (let i = 0; i < CLIENTS; i++) {
        const [client, port] = [random(), 1024 + (random() % 60_000)];
        const expected = wanted(client, port, withPort);
        const got = bench.packet(addressOf(client), port, udpService);
        if (got !== addressOf(expected!.address)) {
          expect.fail(
            `seed ${seed}, table ${t}: ${addressOf(client)} went to ${got}, not ${addressOf(expected!.address)}`,
          );
        }
      }
    }
  });
});
