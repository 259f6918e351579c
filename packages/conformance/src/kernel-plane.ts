/**
 * The director under test in the kernel: compiled programs and real maps, in a network namespace of its own with the recordings'
 * interfaces, addresses and routes. Packets go through the ingress program by test runs, as if they had come in by the interface;
 * the clock is the one of the settings, which the runner moves.
 *
 * Loading takes a second and a scenario a few milliseconds, so one namespace serves all scenarios, emptied after each; its time
 * goes on from where the last one ended.
 */
import { existsSync, readdirSync } from 'node:fs';
import { bytesOf, type MapDefinition, type MapStore, TC_ACT_REDIRECT, TC_ACT_SHOT } from '@ipvsd/bpf';
import { type KernelMap, skbContext } from '@ipvsd/bpf/kernel';
import { type ConnectionEntry, createEnvironment, defaultSysctls, KernelPlane, MapDirector } from '@ipvsd/director';
import {
  Connection,
  ConnectionOrder,
  connections,
  drop,
  ingress,
  Population,
  population,
  Settings,
  settings,
  sweep,
  TICK_NS,
  waiting,
} from '@ipvsd/ipvs';
import { createNamespace, deleteNamespace, inNamespace, PacketSocket, withRoutes, writeSysctl } from '@ipvsd/linux';
import { DEFENCES, nextWake } from './node-plane.ts';
import {
  BOOT_NS,
  type Fate,
  frameOf,
  INTERFACES,
  KERNEL_TICK,
  type Side,
  type TestPlane,
  type TestPlaneOptions,
} from './plane.ts';
import type { Site } from './site.ts';
import { ICMP, ICMPV6, parsePacket } from './wire.ts';

const MAX_CONNECTIONS = 1024;
const KEY = new Uint8Array(4);
const EMPTY = Uint8Array.of(0x45);
const LINKS = ['lbc', 'lbs', 'or0'] as const;
const ADDRESSES: Readonly<Record<string, readonly string[]>> = {
  lbc: ['10.1.0.1/24', '10.1.0.100/32', '2001:db8:1::1/64', '2001:db8:1::100/128'],
  lbs: ['10.2.0.1/24', '2001:db8:2::1/64'],
  or0: ['10.3.0.1/24', '2001:db8:3::1/64'],
};
const ROUTES = [
  { to: '172.16.0.0/12', via: '10.1.0.2' },
  { to: '192.168.77.0/24', via: '10.1.0.2' },
  { to: '2001:db8:c::/48', via: '2001:db8:1::2' },
  { to: '2001:db8:77::/48', via: '2001:db8:1::2' },
];

const PREFIX = 'ipvsd-conformance-';
const FOLDER = '/run/netns';

/** The namespace with the loaded data plane; all scenarios of a run share it. */
export class KernelWorld {
  readonly namespace = `${PREFIX}${process.pid}`;
  readonly plane: KernelPlane;
  readonly ifindex: Readonly<Record<Side, number>>;
  readonly #arrivals: Readonly<Record<Side, PacketSocket>>;
  /** Nanoseconds since boot at which the next scenario begins. */
  base = BOOT_NS;

  constructor() {
    removeAbandoned();
    createNamespace(this.namespace);
    try {
      this.ifindex = this.#build();
      this.plane = inNamespace(this.namespace, () => KernelPlane.create({ maxConnections: MAX_CONNECTIONS }));
      const { namespace } = this;
      this.#arrivals = {
        client: new PacketSocket('lbc', { namespace }),
        server: new PacketSocket('lbs', { namespace }),
      };
    } catch (error) {
      deleteNamespace(this.namespace);
      throw error;
    }
  }

  #build(): Record<Side, number> {
    for (const name of ['net.ipv4.ip_forward', 'net.ipv6.conf.all.forwarding']) writeSysctl(name, 1, this.namespace);
    return withRoutes(this.namespace, (routes) => {
      routes.setUp('lo');
      for (const [i, name] of LINKS.entries()) {
        // A pair with both ends here: not every machine has dummies.
        routes.addVeth(name, `${name}-far`);
        routes.setMac(name, `02:00:00:00:0${i + 1}:01`);
        for (const end of [name, `${name}-far`]) routes.setUp(end);
        for (const address of ADDRESSES[name]!) routes.addAddress(name, address, { nodad: true });
      }
      for (const route of ROUTES) routes.addRoute({ ...route, dev: 'lbc' });
      return { client: routes.link('lbc').ifindex, server: routes.link('lbs').ifindex };
    });
  }

  /** How many fragments wait for others. */
  waiting(): number {
    return [...(this.plane.store(waiting) as KernelMap).keys()].length;
  }

  /** The IP packet that the data plane has let come in once more. */
  comeAgain(side: Side): Uint8Array {
    for (;;) {
      const frame = this.#arrivals[side].receive();
      if (frame === null) throw new Error('A fragment that waited did not come in once more');
      // Not what the far end says of its own accord.
      if (frame.subarray(6, 12).every((byte, i) => byte === frameOf(EMPTY, side)[6 + i])) return frame.slice(14);
    }
  }

  /** As if nothing had ever been: no services, no connections, no counts, all settings at their defaults. */
  empty(director: MapDirector<KernelPlane>): void {
    director.execute({ kind: 'flush' });
    for (const [name, value] of defaultSysctls()) {
      if (director.sysctls().get(name) !== value) director.execute({ kind: 'setSysctl', name, value });
    }
    for (const { role } of director.daemons()) director.execute({ kind: 'stopDaemon', role });
    for (const [index] of aliveConnections(this.plane))
      this.plane.call(drop, ConnectionOrder.create({ connection: index }));
    for (const name of readdirSync(this.plane.folder)) {
      if (/^(prog_|link_|ready$)/.test(name)) continue;
      const store = this.plane.store({ name } as MapDefinition);
      if (store.type === 'hash' || store.type === 'lruHash') (store as KernelMap).clear();
      else if (name === 'allocation' || name === 'registry') store.update(KEY, new Uint8Array(store.valueSize));
    }
    director.writeSettings();
  }

  close(): void {
    for (const socket of Object.values(this.#arrivals)) socket.close();
    inNamespace(this.namespace, () => this.plane.detach());
    deleteNamespace(this.namespace);
  }
}

/** What runs left behind that were killed: their data planes, which nothing but the namespace holds, and the namespaces. */
function removeAbandoned(): void {
  if (!existsSync(FOLDER)) return;
  for (const name of readdirSync(FOLDER)) {
    if (!name.startsWith(PREFIX) || existsSync(`/proc/${name.slice(PREFIX.length)}`)) continue;
    inNamespace(name, () => KernelPlane.open()?.detach());
    deleteNamespace(name);
  }
}

export class KernelTestPlane implements TestPlane {
  readonly kind = 'kernel';
  readonly director: MapDirector<KernelPlane>;
  readonly #world: KernelWorld;
  readonly #site: Site;
  readonly #base: bigint;
  #now = 0;
  #touched = 0;
  #deadline = 0;

  constructor(world: KernelWorld, { site, interfaces = INTERFACES }: TestPlaneOptions) {
    this.#world = world;
    this.#site = site;
    this.#base = world.base;
    this.director = new MapDirector(world.plane, { environment: createEnvironment({ interfaces }) });
    this.director.writeSettings(undefined, MAX_CONNECTIONS);
    this.#setClock();
    this.#call();
    this.#deadline = this.#findDeadline();
  }

  receive(packet: Uint8Array, side: Side, mark: number): readonly Fate[] {
    const { namespace, plane, ifindex } = this.#world;
    const index = ifindex[side];
    const waiting = this.#world.waiting();
    const context = skbContext({ mark, ifindex: index, ingressIfindex: index });
    const { retval, data } = inNamespace(namespace, () =>
      plane.program(ingress.name).testRun({ data: frameOf(packet, side), context }),
    );
    this.touched();
    const fate = this.#fateOf(retval | 0, data.slice(14));
    // One that has waited, or the rest of one that was split, comes in once more when this packet is on its way.
    if (this.#world.waiting() >= waiting && !this.#isPiece(fate)) return [fate];
    return [fate, ...this.receive(this.#world.comeAgain(side), side, mark)];
  }

  /** More is to follow of a packet that the director has made. */
  #isPiece(fate: Fate): boolean {
    if (fate.kind !== 'send') return false;
    const { source, destination, moreFragments } = parsePacket(fate.packet);
    return moreFragments && source === this.#site.route(destination)?.source;
  }

  #fateOf(verdict: number, after: Uint8Array): Fate {
    if (verdict === TC_ACT_SHOT) return { kind: 'drop' };
    if (verdict !== TC_ACT_REDIRECT) return { kind: 'pass', packet: after };
    const hop = this.#hopOf(after);
    const route = hop === undefined ? undefined : this.#site.route(hop);
    return route === undefined ? { kind: 'drop' } : { kind: 'send', packet: after, side: route.side, hop: route.hop };
  }

  /** A test run does not say where a redirected packet is to go; its destination does, or its connection (DR). */
  #hopOf(packet: Uint8Array): string | undefined {
    const p = parsePacket(packet);
    if (!this.#site.isOwn(p.destination)) return p.destination;
    const isError = p.protocol === ICMP || p.protocol === ICMPV6;
    const about = isError && p.transport.length > 28 ? parsePacket(p.transport.subarray(8)) : undefined;
    const [client, clientPort, virtual, virtualPort] = about
      ? [about.destination, about.destinationPort, about.source, about.sourcePort]
      : [p.source, p.sourcePort, p.destination, p.destinationPort];
    // A later fragment has no ports.
    const anyPort = p.fragmentOffset > 0;
    const isIt = (c: ConnectionEntry): boolean =>
      c.client.address === client &&
      c.virtual.address === virtual &&
      (anyPort || (c.client.port === clientPort && c.virtual.port === virtualPort));
    return [...this.director.connections()].find(isIt)?.real.address;
  }

  touched(): void {
    this.#touched = this.#now;
    this.#deadline = Math.min(this.#deadline, (Math.floor(this.#now / KERNEL_TICK) + 1) * KERNEL_TICK);
  }

  nextDeadline(): number {
    if (this.#deadline <= this.#now) this.#deadline = this.#findDeadline();
    return this.#deadline;
  }

  wake(now: number): void {
    this.#now = now;
    this.#setClock();
    if (now < this.#deadline) return;
    this.#call();
    this.#deadline = this.#findDeadline();
  }

  close(): void {
    this.#dropAll();
    this.#world.empty(this.director);
    // Whole minutes on, so that ticks and minutes begin where they would.
    this.#world.base = this.#base + BigInt(Math.ceil(this.#now / 60_000_000) + 2) * 60_000_000_000n;
  }

  /** Connections first, then what controlled them. */
  #dropAll(): void {
    for (let round = 0; round < 10; round++) {
      const alive = aliveConnections(this.#world.plane);
      if (alive.length === 0) return;
      for (const [connection] of alive) {
        this.#world.plane.call(drop, ConnectionOrder.create({ connection }));
      }
      this.#now += 60_000_000;
      this.#setClock();
      this.#call();
    }
    throw new Error(
      'Cannot empty the connection table for the next scenario: entries stay however often they are dropped',
    );
  }

  #call(): void {
    this.#world.plane.call(sweep, sweep.context.create());
  }

  #setClock(): void {
    const store = this.#world.plane.store(settings);
    const view = Settings.on(store.lookup(KEY)!);
    const now = this.#base + BigInt(Math.round(this.#now)) * 1000n;
    view.clock = Number(BigInt.asUintN(32, now / BigInt(TICK_NS)));
    store.update(KEY, bytesOf(view));
  }

  #findDeadline(): number {
    const sysctls = this.director.sysctls();
    const defends = DEFENCES.some((name) => sysctls.get(name) !== '0');
    const due = aliveConnections(this.#world.plane).map(([, c]) => c.lastSeen + c.timeout);
    return nextWake(this.#now, this.#touched, defends, this.#base, due);
  }
}

function aliveConnections(plane: KernelPlane): [number, ReturnType<typeof Connection.on>][] {
  const store: MapStore = plane.store(connections);
  const { highest } = Population.on(plane.store(population).lookup(KEY)!);
  const found: [number, ReturnType<typeof Connection.on>][] = [];
  for (let index = 0; index < highest; index++) {
    const c = Connection.on(store.lookup(new Uint8Array(Uint32Array.of(index).buffer))!);
    if (c.alive === 1) found.push([index, c]);
  }
  return found;
}
