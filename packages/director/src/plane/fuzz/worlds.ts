/**
 * The two worlds of the fuzzer: the data plane in the kernel, in a network namespace of its own, and in Node, with a route table
 * that says the same. What is done to one is done to the other, and everything that can be seen is compared.
 */
import { BPF_FIB_LOOKUP_SRC, bytesOf, type MapDefinition, NodeSkb } from '@ipvsd/bpf';
import { type KernelMap, skbContext } from '@ipvsd/bpf/kernel';
import {
  ADJUSTED,
  Adjustment,
  adjustments,
  bucketsFor,
  Connection,
  connections,
  defence,
  engineData,
  engineFlows,
  engineServers,
  FollowedFlow,
  flowBuckets,
  followed,
  fragmenting,
  helpedPorts,
  IdleEnd,
  idleEnds,
  idleRules,
  ingress,
  LocalEnd,
  loads,
  localAddresses,
  localEnds,
  localities,
  masquerades,
  members,
  OUTWARDS,
  opened,
  population,
  Ranges,
  REASON_LIST,
  ranges,
  reasons,
  reservedFor,
  Settings,
  RealServer as StoredServer,
  segmentLimits,
  serverFigures,
  servers,
  serviceFigures,
  serviceStates,
  services,
  settings,
  standings,
  sweep,
  TunnelLink,
  TunnelLinkKey,
  totalFigures,
  traffic,
  tunnelLinks,
  waiting,
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
import { expect } from 'vitest';
import type { Family } from '../../address.ts';
import type { Command } from '../../command.ts';
import { type MarkRule, parseNetwork } from '../../mark-rule.ts';
import { indexKey } from '../index-key.ts';
import { KernelPlane } from '../kernel-plane.ts';
import { MapDirector } from '../map-director.ts';
import { MarkTable } from '../mark-table.ts';
import { MasqueradeTable } from '../masquerade-table.ts';
import { NodePlane } from '../node-plane.ts';
import type { Plane } from '../plane.ts';
import { MASQUERADED, OWN_ADDRESSES, SITES } from './site.ts';

const MAX_CONNECTIONS = 512;
const ENTRIES = MAX_CONNECTIONS + reservedFor(MAX_CONNECTIONS);
const MTU = 1500;
const KEY = new Uint8Array(4);
/** Of both tables of flows, so that they are the same. */
const FLOW_KEY = 0x0123_4567_89ab_cdefn;
const HASHES = [
  adjustments,
  services,
  engineFlows,
  engineData,
  engineServers,
  idleRules,
  followed,
  localities,
  localAddresses,
  helpedPorts,
  masquerades,
  defence,
  population,
];
/** An LRU map chooses for itself what it forgets once it is full; before it comes to that it is emptied. */
const MOST_IN_LRU = 1000;

export type Side = 'client' | 'server';

export interface Outcome {
  readonly verdict: number;
  readonly left: Uint8Array;
  /** What comes in once more through the same interface, but for pieces that are known by an id of chance. */
  readonly again: readonly Uint8Array[];
}

export class Worlds {
  readonly #namespace: string;
  readonly #outside: string;
  readonly #links: Readonly<Record<Side, { readonly ifindex: number; readonly mac: Uint8Array }>>;
  readonly #kernel: KernelPlane;
  readonly #node: NodePlane;
  readonly #directors: readonly MapDirector[];
  readonly #marks: readonly MarkTable[];
  readonly #masquerades: readonly MasqueradeTable[];

  constructor(namespace: string, outside: string) {
    this.#namespace = namespace;
    this.#outside = outside;
    this.#links = makeHost(namespace, outside);
    this.#kernel = this.inside(() => KernelPlane.create({ maxConnections: MAX_CONNECTIONS }));
    this.#node = new NodePlane({
      now: () => 0n,
      random: () => 0,
      route: (parameters, flags) => this.#route(parameters, flags),
      maxEntries: {
        connections: ENTRIES,
        free_slots: ENTRIES,
        idle_rules: ENTRIES,
        local_ends: ENTRIES,
        adjustments: 2 * ENTRIES,
        flow_buckets: bucketsFor(ENTRIES),
        traffic: 4096,
        servers: 4096,
      },
    });
    const planes: readonly Plane[] = [this.#kernel, this.#node];
    this.#directors = planes.map((plane) => new MapDirector(plane));
    this.#marks = planes.map((plane) => new MarkTable(plane));
    // Packets from real servers come in a tunnel, for ignore_tunneled.
    const key = bytesOf(TunnelLinkKey.create({ ifindex: this.#links.server.ifindex }));
    for (const plane of planes) plane.store(tunnelLinks).update(key, bytesOf(TunnelLink.create()));
    this.#masquerades = planes.map((plane) => new MasqueradeTable(plane));
    for (const plane of planes) {
      const store = plane.store(settings);
      const s = Settings.on(store.lookup(KEY)!);
      s.flowKey = FLOW_KEY;
      store.update(KEY, bytesOf(s));
    }
    for (const director of this.#directors) director.writeSettings(undefined, MAX_CONNECTIONS);
  }

  /** Runs `work` where the kernel's world is. */
  inside<T>(work: () => T): T {
    return inNamespace(this.#namespace, work);
  }

  remove(): void {
    this.inside(() => this.#kernel.detach());
    deleteNamespace(this.#namespace);
    deleteNamespace(this.#outside);
  }

  // What is done to both -------------------------------------------------------------------------------------------

  /** False where both refuse. */
  execute(command: Command): boolean {
    const [here, there] = this.#directors.map((d) => d.executeAll([command], { atomic: true })[0]?.code);
    expect(here, JSON.stringify(command)).toBe(there);
    return here === undefined;
  }

  /** The rules for marks become these. */
  mark(rules: readonly MarkRule[]): void {
    for (const table of this.#marks) table.update((before) => ({ remove: before, add: rules }));
  }

  /** Real servers of that family reach clients with the director's address, or no longer. */
  masquerade(family: Family): void {
    const from = parseNetwork(MASQUERADED[family])!;
    const [address] = SITES[family].own;
    for (const table of this.#masquerades) {
      const known = table.list().some((rule) => rule.from.family === family);
      if (known) table.remove(from);
      else table.add({ from, ifindex: this.#links.client.ifindex, address });
    }
  }

  /** Time in ticks, and what stands in for random numbers. */
  set(clock: number, chance: number): void {
    for (const plane of [this.#kernel, this.#node]) {
      const store = plane.store(settings);
      const s = Settings.on(store.lookup(KEY)!);
      s.clock = clock;
      s.chance = chance;
      store.update(KEY, bytesOf(s));
    }
  }

  /** Sequence numbers of a connection become others than their senders', as if a helper had been at work. */
  adjust(number: number, a: { readonly from: number; readonly before: number; readonly after: number }): void {
    for (const plane of [this.#kernel, this.#node] satisfies Plane[]) {
      const store = plane.store(connections);
      const bytes = store.lookup(indexKey(number))!;
      const c = Connection.on(bytes);
      if (c.alive !== 1) return;
      c.flags = (c.flags | ADJUSTED) >>> 0;
      store.update(indexKey(number), bytes);
      for (const direction of [0, 1]) {
        plane
          .store(adjustments)
          .update(indexKey(2 * number + direction), bytesOf(Object.assign(Adjustment.create(), a)));
      }
    }
  }

  /** What the timer does when it fires. */
  sweep(): void {
    for (const plane of [this.#kernel, this.#node] satisfies Plane[]) plane.call(sweep, sweep.context.create());
  }

  mac(side: Side): Uint8Array {
    return this.#links[side].mac;
  }

  /** A packet arrives from one side; `story` is told where the worlds differ. */
  send(frame: Uint8Array, side: Side, mark: number, story: () => string): Outcome {
    const { ifindex, mac } = this.#links[side];
    const context = skbContext({ mark, ifindex, ingressIfindex: ifindex });
    const here = this.#kernel.program(ingress.name).testRun({ data: frame, context });
    const other = frame.subarray(0, 6).some((byte, i) => byte !== mac[i]);
    const skb = new NodeSkb(frame, { mark, ifindex, ingressIfindex: ifindex, pktType: other ? OTHER_HOST : 0 });
    const verdict = this.#node.receive(skb);
    const [ours, theirs] = [here.data, skb.bytes].map(withoutChance);
    if ((here.retval | 0) !== verdict || Buffer.compare(ours!, theirs!) !== 0) {
      const told = `${story()}: ${Buffer.from(frame).toString('hex')}`;
      expect(here.retval | 0, `verdict of ${told}`).toBe(verdict);
      expect(hex(ours!), `bytes of ${told}`).toBe(hex(theirs!));
    }
    const again = skb.clones.flatMap(({ ingress, packet }) =>
      ingress && packet !== undefined && !isNamedByChance(packet) ? [packet] : [],
    );
    return { verdict, left: skb.bytes, again };
  }

  // What is compared -----------------------------------------------------------------------------------------------

  compare(story: string): void {
    // When the kernel was asked for a route, each of its CPUs remembers for itself.
    this.#compareValues(connections, 0, ENTRIES, story, (bytes) => {
      const c = Connection.on(bytes);
      c.route.at = 0;
      // What a free entry last held is nobody's.
      if (c.alive !== 1) bytes.fill(0);
    });
    this.#compareValues(localEnds, 0, ENTRIES, story, (bytes) => {
      LocalEnd.on(bytes).route.at = 0;
    });
    this.#compareValues(flowBuckets, 0, bucketsFor(ENTRIES), story);
    const given = Ranges.on(this.#node.store(ranges).lookup(KEY)!);
    this.#compareValues(servers, 0, given.servers, story, (bytes) => {
      StoredServer.on(bytes).route.at = 0;
    });
    this.#compareValues(serviceStates, 0, given.services, story);
    this.#compareValues(segmentLimits, 0, given.services, story);
    this.#compareValues(serverFigures, 0, given.servers, story);
    this.#compareValues(serviceFigures, 0, given.services, story);
    this.#compareValues(totalFigures, 0, 1, story);
    for (const definition of [standings, members, loads, opened]) this.#compareMemory(definition, story);
    for (const definition of HASHES) {
      this.#compareEntries(definition, story);
    }
    this.#compareCounts(traffic, given.servers, story);
    this.#compareCounts(reasons, 64, story);
    this.#compareEnds(story);
    for (const lru of [followed, fragmenting, waiting, localities]) this.#relieve(lru);
  }

  /** How often each reason was counted, by its name. */
  reasons(): Readonly<Record<string, number>> {
    const counted = REASON_LIST.map(({ name }, i) => {
      const [count = 0n] = total(this.#node.store(reasons).lookupPerCpu(indexKey(i)));
      return [name, Number(count)] as const;
    });
    return Object.fromEntries(counted.filter(([, count]) => count > 0));
  }

  #compareEntries(definition: MapDefinition, story: string): void {
    const [here, there] = [this.#kernel, this.#node].map((plane) =>
      [...plane.store(definition).entries()]
        .filter(([, value]) => !isOfChance(definition, value))
        .map((pair) => pair.map(hex).join(' '))
        .sort(),
    );
    expect(here, `${definition.name} after ${story}`).toEqual(there);
  }

  #compareValues(
    definition: MapDefinition,
    first: number,
    count: number,
    story: string,
    forget: (bytes: Uint8Array) => void = () => {},
  ): void {
    if (count === 0) return;
    const here = (this.#kernel.store(definition) as KernelMap).values(first, count);
    for (const [i, ours] of here.entries()) {
      const theirs = this.#node.store(definition).lookup(indexKey(first + i))!;
      forget(ours);
      forget(theirs);
      if (Buffer.compare(ours, theirs) !== 0) {
        expect(hex(ours), `${definition.name} ${first + i} after ${story}`).toBe(hex(theirs));
      }
    }
  }

  /** Eight bytes differ first where these are. */
  #compareMemory(definition: MapDefinition, story: string): void {
    const [here, there] = [this.#kernel, this.#node].map((plane) => plane.store(definition).memory());
    if (Buffer.compare(here!, there!) === 0) return;
    const at = here!.findIndex((byte, i) => byte !== there![i]) & ~7;
    const [ours, theirs] = [here!, there!].map((memory) => hex(memory.subarray(at, at + 8)));
    expect(ours, `${definition.name} from byte ${at} on after ${story}`).toBe(theirs);
  }

  #compareCounts(definition: MapDefinition, count: number, story: string): void {
    for (let i = 0; i < count; i++) {
      const [here, there] = [this.#kernel, this.#node].map((plane) =>
        total(plane.store(definition).lookupPerCpu(indexKey(i))),
      );
      expect(here, `${definition.name} ${i} after ${story}`).toEqual(there);
    }
  }

  /** What is to be told of connections that went by silence; it is taken out. */
  #compareEnds(story: string): void {
    const node = this.#node.world.store(idleEnds);
    const into = IdleEnd.create();
    for (let there = true; there; ) {
      there = node.pop(into) === 0;
      const ours = (this.#kernel.store(idleEnds) as KernelMap).pop();
      expect(ours && hex(ours), `idle_ends after ${story}`).toBe(there ? hex(bytesOf(into)) : null);
    }
  }

  #relieve(definition: MapDefinition): void {
    const keys = [...this.#node.store(definition).entries()].map(([key]) => key);
    if (keys.length <= MOST_IN_LRU) return;
    for (const plane of [this.#kernel, this.#node]) {
      const store = plane.store(definition);
      for (const key of keys) store.delete(key);
    }
  }

  // Routes ---------------------------------------------------------------------------------------------------------

  /** As bpf_fib_lookup answers: on link are the two networks; nothing else is known. */
  #route(parameters: Uint8Array, flags: number): number {
    const view = new DataView(parameters.buffer, parameters.byteOffset);
    const four = parameters[0] === 2;
    const address = parameters.subarray(32, four ? 36 : 48);
    const own = OWN_BYTES.findIndex((bytes) => samePrefix(bytes, address, four ? 3 : 8));
    if (own < 0) return NOT_FORWARDED;
    // The director's own addresses are not forwarded to, nor is the broadcast (IPv4) or the routers' anycast address (IPv6).
    const host = address.subarray(four ? 3 : 8).reduce((sum, byte) => sum * 256 + byte, 0);
    if (host === 1 || host === (four ? 255 : 0)) return NOT_FORWARDED;
    const length = view.getUint16(6, true);
    if (length !== 0) view.setUint16(6, MTU, true);
    if (length > MTU) return FRAGMENTATION_NEEDED;
    view.setUint32(8, this.#links[own % 2 === 0 ? 'client' : 'server'].ifindex, true);
    if ((flags & BPF_FIB_LOOKUP_SRC) !== 0) parameters.set(OWN_BYTES[own]!, 16);
    return 0;
  }
}

const OTHER_HOST = 3;
/** Codes of bpf_fib_lookup. */
const NOT_FORWARDED = 4;
const FRAGMENTATION_NEEDED = 8;
const OWN_BYTES = OWN_ADDRESSES.map(parseIp);

const samePrefix = (a: Uint8Array, b: Uint8Array, length: number): boolean =>
  a.length === b.length && Buffer.compare(a.subarray(0, length), b.subarray(0, length)) === 0;

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

function total(perCpu: readonly Uint8Array[]): bigint[] {
  const words = perCpu.map((bytes) => [...new BigUint64Array(bytes.slice().buffer)]);
  return words[0]!.map((_, i) => words.reduce((sum, cpu) => sum + cpu[i]!, 0n));
}

const isNamedByChance = (packet: Uint8Array): boolean => packet[12] === 8 && isOurs(packet);
const isOurs = (packet: Uint8Array): boolean =>
  OWN_BYTES.some((own) => own.length === 4 && own.every((byte, i) => packet[26 + i] === byte));

/** The IPv4 id of what the director makes is drawn at random, and its header checksum follows. */
function withoutChance(received: Uint8Array): Uint8Array {
  if (received[12] !== 8 || received[13] !== 0) return received;
  if (received[23] !== 1 && !isOurs(received)) return received;
  const copy = received.slice();
  for (const at of [18, 19, 24, 25]) copy[at] = 0;
  return copy;
}

/** A router between two networks that end in `outside`. */
function makeHost(namespace: string, outside: string) {
  createNamespace(namespace);
  createNamespace(outside);
  const links = withRoutes(namespace, (routes) => {
    routes.setUp('lo');
    const made = (['client', 'server'] as const).map((name, side) => {
      routes.addVeth(name, `far-${name}`, outside);
      routes.addAddress(name, `${SITES.ipv4.own[side as 0 | 1]}/24`);
      routes.addAddress(name, `${SITES.ipv6.own[side as 0 | 1]}/64`, { nodad: true });
      routes.setUp(name);
      const { ifindex, mac } = routes.link(name);
      return { ifindex, mac: parseMac(mac) };
    });
    return { client: made[0]!, server: made[1]! };
  });
  withRoutes(outside, (routes) => {
    for (const name of ['far-client', 'far-server']) routes.setUp(name);
  });
  writeSysctl('net.ipv4.ip_forward', 1, namespace);
  writeSysctl('net.ipv6.conf.all.forwarding', 1, namespace);
  return links;
}

/** Pieces of a packet in a tunnel are known by an id that is drawn at random. */
const isOfChance = (definition: MapDefinition, value: Uint8Array): boolean =>
  definition === followed && FollowedFlow.on(value).direction === OUTWARDS;
