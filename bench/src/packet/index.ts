/**
 * `npm run bench -- packet`: what a packet costs the data plane, without sockets, queues and wires. For each family and
 * forwarding method the kinds of packets; for each scheduler new connections against ever more real servers; and how large
 * the programs are.
 */

import { type KernelProgram, loadCollection } from '@ipvsd/bpf/kernel';
import type { ForwardingMethod } from '@ipvsd/director';
import { compiledPrograms, ingress, SCHEDULERS } from '@ipvsd/ipvs';
import { parseIp } from '@ipvsd/linux';
import type { Row } from '../report/compare.ts';
import { estimate, seeded } from '../report/statistics.ts';
import { figure, formatTable } from '../report/table.ts';
import { removeLeftovers } from '../stage/cleanup.ts';
import { Driver, empty, type Flows, type Packet, type Timing, timeProgram } from './driver.ts';
import { type Ends, fragment, segment, unreachable } from './frames.ts';
import { Ground, serviceCommands } from './ground.ts';

export interface PacketOptions {
  readonly quick: boolean;
  readonly seed: number;
  readonly say: (text: string) => void;
}

export interface PacketResult {
  readonly bench: 'packet';
  readonly seed: number;
  readonly leftOut: readonly string[];
  readonly rows: readonly Row[];
}

const TC_ACT_REDIRECT = 7;
const MAX_CONNECTIONS = 262_144;
/** The table of IPv6 flows has a size of its own, and a connection has two. */
const MAX_CONNECTIONS6 = 65_536;
const HOT = 1;
const MANY = 8192;

/** Addresses of both families; a method's services have the last number to themselves. */
const FAMILIES = [
  {
    name: 'ipv4',
    clients: '10.64.0.0',
    vip: (n: number) => `10.9.0.${n}`,
    real: (n: number) => `10.3.${n >> 8}.${n & 255}`,
    local: (n: number) => `10.2.1.${n}`,
  },
  {
    name: 'ipv6',
    clients: 'fd64::',
    vip: (n: number) => `fd09::${n.toString(16)}`,
    real: (n: number) => `fd03::${n.toString(16)}`,
    local: (n: number) => `fd02::1:${n.toString(16)}`,
  },
] as const;
type Family = (typeof FAMILIES)[number];

const METHODS: readonly ForwardingMethod[] = ['masq', 'route', 'tunnel', 'fullnat'];
const METHOD_NAMES: Readonly<Record<ForwardingMethod, string>> = {
  masq: 'NAT',
  route: 'DR',
  tunnel: 'TUN',
  fullnat: 'FULLNAT',
  local: 'local',
};

export async function packet({ quick, seed, say }: PacketOptions): Promise<PacketResult> {
  removeLeftovers();
  const timing: Timing = quick ? { repeat: 4096, batches: 9 } : { repeat: 16_384, batches: 31 };
  const ground = new Ground('packet', MAX_CONNECTIONS);
  const bench = new PacketBench(ground, timing, seeded(seed), say);
  bench.programs();
  bench.identity();
  for (const family of FAMILIES) for (const [i, method] of METHODS.entries()) bench.method(family, method, 10 + i);
  for (const { name } of SCHEDULERS) bench.scheduler(name, quick ? [2, 64, 256] : [2, 16, 64, 256, 1024]);
  for (const text of bench.leftOut) say(`left out: ${text}\n`);
  return { bench: 'packet', seed, leftOut: bench.leftOut, rows: bench.rows };
}

class PacketBench {
  readonly rows: Row[] = [];
  readonly leftOut: string[] = [];
  readonly #ground: Ground;
  readonly #timing: Timing;
  readonly #random: () => number;
  readonly #say: (text: string) => void;
  readonly #ingress: KernelProgram;

  constructor(ground: Ground, timing: Timing, random: () => number, say: (text: string) => void) {
    this.#ground = ground;
    this.#timing = timing;
    this.#random = random;
    this.#say = say;
    this.#ingress = ground.plane.program(ingress.name);
  }

  /** Size of each program, the verifier's work, and the time to load all. */
  programs(): void {
    const spec = compiledPrograms();
    const small = Object.fromEntries(
      spec.maps.filter(({ maxEntries }) => maxEntries > 1).map(({ name }) => [name, 4096]),
    );
    const times = Array.from({ length: 7 }, () => {
      const began = performance.now();
      loadCollection(spec, { maxEntries: small }).close();
      return performance.now() - began;
    });
    const collection = loadCollection(spec, { maxEntries: small });
    const table = [...collection.programs].map(([name, program]) => {
      const { xlatedBytes, jitedBytes, verifiedInstructions } = program.info();
      const instructions = Buffer.from(spec.programs.find((p) => p.name === name)!.instructions, 'base64').length / 8;
      this.#count(name, 'instructions', instructions);
      this.#count(name, 'verifier steps', verifiedInstructions);
      this.#count(name, 'machine code', jitedBytes, 'bytes');
      return [name, ...[instructions, xlatedBytes / 8, jitedBytes, verifiedInstructions].map(String)];
    });
    collection.close();
    const load = estimate(times, this.#random);
    this.#add('program', 'load all', load.median, load.spread, 'ms');
    this.#say(formatTable(['program', 'instructions', 'as rewritten', 'bytes', 'verifier steps'], table));
    this.#say(`loaded and verified in ${figure(load.median, 0)} ms\n\n`);
  }

  /**
   * The same packet again and again, with nothing before the program: the real server has the VIP's address, so rewriting
   * leaves the packet as it is but for its time to live. The figure that bench.md's goals are about.
   */
  identity(): void {
    const [family] = FAMILIES;
    const address = family.real(77);
    this.#ground.execute(serviceCommands({ address, port: 80, realServers: [{ address, port: 80 }] }));
    const ends: Ends = { source: '10.64.0.9', destination: address, sourcePort: 4000, destinationPort: 80 };
    const send = (flags: string, repeat: number, program = this.#ingress) => {
      const { frame, context } = this.#ground.arriving('client', longLived(segment(ends, flags)));
      return this.#ground.inside(() => program.testRun({ data: frame, context, repeat }));
    };
    send('S', 1);
    send('A', 1);
    const batches = this.#timing.batches * 20;
    const measure = (program?: KernelProgram) =>
      Array.from({ length: batches }, () => send('A', 240, program).durationNs);
    const idle = estimate(measure(empty()), this.#random);
    const full = estimate(measure(), this.#random);
    this.#add('packet', 'empty program, harness included', idle.median, idle.spread, 'ns');
    this.#add('packet', 'ipv4 NAT established, harness included', full.median, full.spread, 'ns');
    this.#say(
      `one packet again and again: empty ${figure(idle.median, 0)} ns, established ${figure(full.median, 0)} ns (${figure(full.median / idle.median, 2)} x)\n\n`,
    );
  }

  /** Each kind of packet for one family and forwarding method. */
  method(family: Family, method: ForwardingMethod, number: number): void {
    const title = `${family.name} ${METHOD_NAMES[method]}`;
    const vip = family.vip(number);
    const real = family.real(number);
    try {
      // As many as the connections need ports.
      const localAddresses = method === 'fullnat' ? Array.from({ length: 16 }, (_, n) => family.local(n + 1)) : [];
      const realServers = [{ address: real, port: 80 }];
      this.#ground.execute(
        serviceCommands({ address: vip, port: 80, forwarding: method, realServers, localAddresses }),
      );
    } catch (error) {
      this.leftOut.push(`${title}: ${(error as Error).message}`);
      return;
    }
    const request: Ends = { source: family.clients, destination: vip, sourcePort: 1024, destinationPort: 80 };
    const clients = (count: number): Flows => ({
      varying: 'source',
      base: family.clients,
      count,
      address: vip,
      port: 80,
    });
    const wrong = this.#misforwarded(request, clients(1), family, method, real);
    if (wrong !== undefined) {
      this.leftOut.push(`${title}: ${wrong}`);
      return;
    }
    const rows: string[][] = [];
    // `expected`: where anything else would mean that not the wanted path was timed.
    const time = (what: string, packet: Packet, expected?: number): void => {
      const { median, spread, verdict } = this.#ground.inside(() =>
        timeProgram(packet, this.#ingress, this.#timing, this.#random),
      );
      this.#add('packet', `${title} ${what}`, median, spread, 'ns');
      rows.push([
        what,
        figure(median, 0),
        figure(spread, 1),
        expected === undefined || verdict === expected ? '' : `verdict ${verdict}`,
      ]);
    };
    if (method === 'tunnel') {
      rows.push(this.#timeTunnel(title, family, request));
      this.#say(`${formatTable([title, 'ns', '±', ''], rows)}\n`);
      return;
    }
    for (const [name, count] of [
      ['', HOT],
      [`, ${MANY} connections`, MANY],
    ] as const) {
      this.#establish(request, clients(count));
      time(`request${name}`, this.#packet('client', segment(request, 'A'), clients(count)), TC_ACT_REDIRECT);
      if (method === 'masq') {
        const reply: Ends = { source: real, destination: family.clients, sourcePort: 80, destinationPort: 1024 };
        const replies: Flows = { varying: 'destination', base: family.clients, count, address: real, port: 80 };
        time(`reply${name}`, this.#packet('real', segment(reply, 'A'), replies), TC_ACT_REDIRECT);
        time(
          `ICMP error${name}`,
          this.#packet('client', unreachable(family.clients, { ...reply, sourcePort: 1024 }), clients(count)),
        );
      }
    }
    this.#ground.forget();
    rows.push(this.#timeNew(`${title} new`, request, clients(1 << 24)));
    this.#ground.forget();
    rows.push(this.#timeAnew(`${title} new, the port used before`, request, clients(4096)));
    this.#ground.forget();
    if (method === 'masq') {
      time('ACK of no connection', this.#packet('client', segment(request, 'A'), clients(MANY)));
      time('fragment', this.#packet('client', fragment(request), clients(MANY)));
      const miss = { ...clients(MANY), address: family.real(4000) };
      time(
        'of no virtual service',
        this.#packet('client', segment({ ...request, destination: miss.address }, 'A'), miss),
      );
    }
    this.#say(`${formatTable([title, 'ns', '±', ''], rows)}\n`);
  }

  /** New connections against ever more real servers. */
  scheduler(name: string, counts: readonly number[]): void {
    const [family] = FAMILIES;
    const rows = counts.map((count, i) => {
      const address = family.vip(100 + i);
      // A real server that is full by its weight is passed over by ovf, and who asks for none is refused.
      const weight = name === 'ovf' ? 65_535 : 1;
      const realServers = Array.from({ length: count }, (_, n) => ({
        address: family.real(1000 + n),
        port: 80,
        weight,
      }));
      this.#ground.execute(serviceCommands({ address, port: 80, scheduler: name, realServers }));
      const request: Ends = { source: family.clients, destination: address, sourcePort: 1024, destinationPort: 80 };
      const flows: Flows = { varying: 'source', base: family.clients, count: 1 << 24, address, port: 80 };
      const row = this.#timeNew(`ipv4 NAT new, ${name}, ${count} real servers`, request, flows);
      this.#ground.forget();
      const service = { kind: 'address', family: 'ipv4', protocol: 'tcp', address, port: 80 } as const;
      this.#ground.execute([{ kind: 'deleteService', service }]);
      return [String(count), ...row.slice(1)];
    });
    this.#say(`${formatTable([`${name}, real servers`, 'ns', '±', ''], rows)}\n`);
  }

  /** New connections fill the table, so there are as many batches as fit, and it is emptied when it is full. */
  #timeNew(what: string, request: Ends, flows: Flows): string[] {
    const packet = this.#packet('client', segment(request, 'S'), flows);
    const repeat = 4096;
    const room = packet.frame[12] === 8 ? MAX_CONNECTIONS : MAX_CONNECTIONS6;
    const batches = Math.min(this.#timing.batches, Math.floor(room / repeat) - 1);
    const { median, spread, verdict } = this.#ground.inside(() =>
      timeProgram(packet, this.#ingress, { repeat, batches }, this.#random),
    );
    this.#add('packet', what, median, spread, 'ns');
    return ['new', figure(median, 0), figure(spread, 1), verdict === TC_ACT_REDIRECT ? '' : `verdict ${verdict}`];
  }

  /** Clients that come back from the same port: each connection ends by RST, and then its SYN is timed. */
  #timeAnew(what: string, request: Ends, flows: Flows): string[] {
    const packet = (flags: string): Packet => this.#packet('client', segment(request, flags), flows);
    return this.#ground.inside(() => {
      const drivers = ['S', 'A', 'R'].map((flags) => new Driver(packet(flags), this.#ingress));
      const [syn, ack, rst] = drivers as [Driver, Driver, Driver];
      const idle = new Driver(packet('S'), empty());
      syn.run(flows.count);
      let verdict = 0;
      const times = Array.from({ length: this.#timing.batches }, () => {
        ack.run(flows.count);
        rst.run(flows.count);
        const before = idle.run(flows.count).ns;
        const run = syn.run(flows.count);
        verdict = run.verdict;
        return run.ns - before;
      });
      for (const driver of [...drivers, idle]) driver.close();
      const { median, spread } = estimate(times, this.#random);
      this.#add('packet', what, median, spread, 'ns');
      const wrong = verdict === TC_ACT_REDIRECT ? '' : `verdict ${verdict}`;
      return ['new, the port used before', figure(median, 0), figure(spread, 1), wrong];
    });
  }

  /**
   * A packet that a program makes longer cannot be given to it again. So each run gets a packet of its own, which finds the caches
   * cold; what that adds is alike for direct routing, which is also timed the other way.
   */
  #timeTunnel(title: string, family: Family, request: Ends): string[] {
    const hot = this.rows.find(({ system }) => system === `${family.name} DR request`);
    if (hot?.value === undefined) return ['request', '-', '-', 'needs DR beside it'];
    const once = (destination: string): number[] => {
      const frame = (flags: string) => this.#ground.arriving('client', segment({ ...request, destination }, flags));
      const run = (flags: string): number => {
        const { frame: data, context } = frame(flags);
        return this.#ingress.testRun({ data, context }).durationNs;
      };
      run('S');
      return Array.from({ length: 4000 }, () => run('A'));
    };
    const direct = family.vip(10 + METHODS.indexOf('route'));
    const [tunnel, route] = this.#ground.inside(() => [once(request.destination), once(direct)] as const);
    const { median, spread } = estimate(
      tunnel.map((ns, i) => ns - route[i]! + hot.value!),
      this.#random,
    );
    this.#add('packet', `${title} request`, median, spread, 'ns');
    return ['request', figure(median, 0), figure(spread, 1), 'each packet once, beside DR'];
  }

  #establish(request: Ends, flows: Flows): void {
    for (const flags of ['S', 'A']) {
      this.#ground.inside(() =>
        timeProgram(
          this.#packet('client', segment(request, flags), flows),
          this.#ingress,
          { repeat: flows.count, batches: 1 },
          this.#random,
        ),
      );
    }
  }

  #packet(side: 'client' | 'real', frame: Uint8Array, flows: Flows): Packet {
    return { ...this.#ground.arriving(side, frame), flows };
  }

  /** Whether the data plane has this method; the reason where it has not. */
  #misforwarded(
    request: Ends,
    flows: Flows,
    family: Family,
    method: ForwardingMethod,
    real: string,
  ): string | undefined {
    const { frame, context } = this.#packet('client', segment(request, 'S'), flows);
    const { retval, data } = this.#ground.inside(() => this.#ingress.testRun({ data: frame, context }));
    this.#ground.forget();
    if (retval !== TC_ACT_REDIRECT) return `the data plane does not forward it (verdict ${retval})`;
    const [at, length] = family.name === 'ipv4' ? [30, 4] : [38, 16];
    const toReal = Buffer.compare(data.subarray(at, at + length), parseIp(real)) === 0;
    const grown = data.length > frame.length;
    const from = at - length;
    const sameSource = Buffer.compare(data.subarray(from, from + length), frame.subarray(from, from + length)) === 0;
    const right = {
      masq: toReal && sameSource,
      fullnat: toReal && !sameSource,
      route: !toReal && !grown,
      tunnel: grown,
      local: false,
    }[method];
    return right ? undefined : 'the data plane does not have it yet';
  }

  #count(name: string, what: string, value: number, unit = ''): void {
    this.#add('program', `${name} ${what}`, value, 0, unit);
  }

  #add(load: string, system: string, value: number, spread: number, unit: string): void {
    const [rounded, uncertain] = [value, spread].map((n) => Number(n.toFixed(2)));
    this.rows.push({ load, system, value: rounded!, spread: uncertain!, unit });
  }
}

/** With as many hops as there can be. */
function longLived(frame: Uint8Array): Uint8Array {
  const copy = frame.slice();
  copy[22] = 255;
  return copy;
}
