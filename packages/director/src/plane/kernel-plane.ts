/**
 * The data plane in the kernel: maps, programs and their attachments pinned in one folder for each network namespace.
 *
 * The folder is the director. Who opens it first loads the programs and attaches them; everyone else finds them there, and
 * nothing of it needs a process. The folder bears the namespace's cookie, which is never used again, so what a deleted
 * namespace left behind is never mistaken for a new one's.
 */
import { existsSync, mkdirSync, readdirSync, rmdirSync, unlinkSync } from 'node:fs';
import {
  bytesOf,
  type Fields,
  type MapDefinition,
  type MapSpec,
  type MapStore,
  type SyscallProgram,
  type View,
} from '@ipvsd/bpf';
import {
  attachTc,
  BpfLink,
  detachTc,
  type FeatureName,
  hasFeature,
  KernelMap,
  KernelProgram,
  loadCollection,
  requireFeatures,
} from '@ipvsd/bpf/kernel';
import {
  bucketsFor,
  compiledPrograms,
  connections,
  drop,
  ingress,
  MAX_CONNECTIONS,
  OwnAddress,
  OwnAddressKey,
  ownAddresses,
  Peer,
  PeerKey,
  peers,
  reservedFor,
  server,
  start,
  sweep,
  TUNNEL_KINDS,
  TunnelLink,
  TunnelLinkKey,
  tunnelLinks,
  zero,
} from '@ipvsd/ipvs';
import {
  AF_INET,
  AF_INET6,
  currentNamespaceCookie,
  findBpfFileSystem,
  type InterfaceAddress,
  type Link,
  livingNamespaceCookies,
  monotonicCoarseNs,
  mountBpfFileSystem,
  parseIp,
  withFileLock,
  withRoutes,
} from '@ipvsd/linux';
import { allocation } from './allocation.ts';
import type { Plane } from './plane.ts';
import { registry } from './registry.ts';
import { trash } from './trash.ts';

const NEEDED: readonly FeatureName[] = [
  'btf',
  'direct map values',
  'batch operations',
  'queue maps',
  'redirect_neigh',
  'coarse clock',
  'atomics',
  'syscall programs',
  'timers',
  'bpf_loop',
];

/** Maps that only user space uses: no program brings them along. */
const USER_MAPS: readonly MapDefinition[] = [allocation, registry, trash];
const PINNED_PROGRAMS: readonly string[] = [ingress.name, server.name, start.name, sweep.name, drop.name, zero.name];

const LOCK_FOLDER = '/run/ipvsd/lock';
const INGRESS_PRIORITY = 1;

export interface KernelPlaneOptions {
  /** Connections that may exist; memory is taken for them at once, about 370 bytes each. */
  readonly maxConnections?: number;
}

export class KernelPlane implements Plane {
  readonly kind = 'kernel';
  readonly folder: string;
  readonly #lock: string;
  readonly #maps = new Map<string, KernelMap>();
  readonly #programs = new Map<string, KernelProgram>();

  private constructor(bpfFolder: string, cookie: bigint) {
    this.folder = `${bpfFolder}/${cookie}`;
    this.#lock = `${LOCK_FOLDER}/${cookie}`;
  }

  /** The director of the current network namespace, or undefined where nobody has made one. */
  static open(): KernelPlane | undefined {
    const bpfFolder = findBpfFileSystem();
    if (bpfFolder === undefined) return undefined;
    const plane = new KernelPlane(bpfFolder, currentNamespaceCookie());
    return existsSync(`${plane.folder}/${READY}`) ? plane : undefined;
  }

  /** The same, made where there is none: programs loaded, maps and programs pinned, the timer started. */
  static create({ maxConnections = MAX_CONNECTIONS }: KernelPlaneOptions = {}): KernelPlane {
    requireFeatures(NEEDED);
    const bpfFolder = mountBpfFileSystem();
    const plane = new KernelPlane(bpfFolder, currentNamespaceCookie());
    return withFileLock(plane.#lock, () => {
      if (existsSync(`${plane.folder}/${READY}`)) return plane;
      removeAbandoned(bpfFolder);
      removeFolder(plane.folder);
      plane.#load(maxConnections);
      return plane;
    });
  }

  #load(maxConnections: number): void {
    mkdirSync(this.folder, { recursive: true, mode: 0o700 });
    const sizes = sizesFor(maxConnections + reservedFor(maxConnections));
    const collection = loadCollection(compiledPrograms(), { pinTo: this.folder, maxEntries: sizes });
    for (const definition of USER_MAPS) {
      const map = KernelMap.create(specOf(definition));
      map.pin(`${this.folder}/${definition.name}`);
      map.close();
    }
    for (const name of PINNED_PROGRAMS) collection.program(name).pin(`${this.folder}/${programPin(name)}`);
    collection.close();
    // The last pin says that all others are there.
    const program = KernelProgram.fromPin(`${this.folder}/${programPin(ingress.name)}`);
    program.pin(`${this.folder}/${READY}`);
    program.close();
  }

  /** Connections that its maps were made for. */
  get maxConnections(): number {
    const { maxEntries } = this.store(connections);
    return maxEntries - Math.floor(maxEntries / 17);
  }

  store(definition: MapDefinition): MapStore {
    const known = this.#maps.get(definition.name);
    if (known !== undefined) return known;
    const map = KernelMap.fromPin(`${this.folder}/${definition.name}`);
    this.#maps.set(definition.name, map);
    return map;
  }

  call<Fs extends Fields>(program: SyscallProgram<Fs>, context: View<Fs>): number {
    const { retval, context: after } = this.program(program.name).testRun({ context: bytesOf(context) });
    bytesOf(context).set(after);
    return retval;
  }

  /** A program of this director, by its name. */
  program(name: string): KernelProgram {
    const known = this.#programs.get(name);
    if (known !== undefined) return known;
    const program = KernelProgram.fromPin(`${this.folder}/${programPin(name)}`);
    this.#programs.set(name, program);
    return program;
  }

  exclusively<T>(work: () => T): T {
    return withFileLock(this.#lock, work);
  }

  now(): bigint {
    return monotonicCoarseNs();
  }

  // Interfaces -----------------------------------------------------------------------------------------------------

  /** Attach to the named interfaces, or to all but the loopback; those that are attached stay as they are. */
  attach(names?: readonly string[]): readonly string[] {
    return withRoutes(undefined, (routes) => {
      const all = routes.links();
      const links = names?.map((name) => routes.link(name)) ?? all.filter(({ name }) => name !== 'lo');
      const attached = this.attachments();
      const fresh = links.filter(({ ifindex }) => !attached.has(ifindex));
      for (const { ifindex } of fresh) this.#attachTo(ifindex);
      this.#keep(peers, localPeers(all));
      this.#keep(tunnelLinks, tunnelsAmong(all));
      this.#keep(ownAddresses, sendingAddresses(routes.addresses()));
      return fresh.map(({ name }) => name);
    });
  }

  /** Makes a map of what the host is like hold these entries and no others; what is right already is not written. */
  #keep(definition: MapDefinition, entries: readonly Entry[]): void {
    const store = this.store(definition);
    const wanted = new Map(entries.map((entry) => [entry[0].join(), entry]));
    for (const [key, value] of [...store.entries()]) {
      const kept = wanted.get(key.join());
      if (kept === undefined) store.delete(key);
      else if (Buffer.compare(kept[1], value) === 0) wanted.delete(key.join());
    }
    for (const [key, value] of wanted.values()) store.update(key, value);
  }

  #attachTo(ifindex: number): void {
    const path = `${this.folder}/${linkPin(ifindex)}`;
    // A pin of an interface that is gone and whose number came back.
    if (existsSync(path)) unlinkSync(path);
    const attachment = attachTc(this.program(ingress.name), {
      interface: ifindex,
      direction: 'ingress',
      priority: INGRESS_PRIORITY,
      position: 'first',
    });
    attachment.pin(path);
    attachment.close();
  }

  /** Interfaces that hand their packets to the data plane, by ifindex. */
  attachments(): Set<number> {
    if (!hasFeature('tcx')) return clsactAttachments();
    const found = new Set<number>();
    for (const name of linkPins(this.folder)) {
      const link = BpfLink.fromPin(`${this.folder}/${name}`);
      const { ifindex } = link.info();
      if (ifindex !== 0) found.add(ifindex);
      link.close();
    }
    return found;
  }

  /** Detach from the named interfaces; from all: and forget everything, maps and programs too. */
  detach(names?: readonly string[]): void {
    if (names === undefined) {
      this.exclusively(() => {
        for (const ifindex of this.attachments()) this.#detachFrom(ifindex);
        this.close();
        removeFolder(this.folder);
      });
      return;
    }
    withRoutes(undefined, (routes) => {
      for (const name of names) this.#detachFrom(routes.link(name).ifindex);
    });
  }

  #detachFrom(ifindex: number): void {
    const pin = `${this.folder}/${linkPin(ifindex)}`;
    detachTc({ ifindex, direction: 'ingress', priority: INGRESS_PRIORITY, pin });
  }

  /** Let go of what this process holds; the director lives on. */
  close(): void {
    for (const map of this.#maps.values()) map.close();
    for (const program of this.#programs.values()) program.close();
    this.#maps.clear();
    this.#programs.clear();
  }
}

type Entry = readonly [key: Uint8Array, value: Uint8Array];

/** Interfaces that lead straight into other network namespaces of this machine. */
const localPeers = (links: readonly Link[]): Entry[] =>
  links
    .filter(({ kind, peerElsewhere }) => kind === 'veth' && peerElsewhere)
    .map(({ ifindex }) => [bytesOf(PeerKey.create({ ifindex })), bytesOf(Peer.create())]);

/** Interfaces on which packets arrive that came in a tunnel. */
const tunnelsAmong = (links: readonly Link[]): Entry[] =>
  links
    .filter(({ kind }) => kind !== undefined && TUNNEL_KINDS.includes(kind))
    .map(({ ifindex }) => [bytesOf(TunnelLinkKey.create({ ifindex })), bytesOf(TunnelLink.create())]);

/** From which address of an interface the data plane may send: the first of each family that is not one host's alone. */
function sendingAddresses(addresses: readonly InterfaceAddress[]): Entry[] {
  const found = new Map<string, Entry>();
  for (const { ifindex, address, family, scope } of addresses) {
    const [ip = '', length] = address.split('/');
    const alone = Number(length) === (family === 4 ? 32 : 128);
    const key = bytesOf(OwnAddressKey.create({ ifindex, family: family === 4 ? AF_INET : AF_INET6 }));
    if (scope !== 'global' || alone || found.has(key.join())) continue;
    const value = bytesOf(OwnAddress.create());
    value.set(parseIp(ip));
    found.set(key.join(), [key, value]);
  }
  return [...found.values()];
}

const READY = 'ready';
const programPin = (name: string): string => `prog_${name}`;
const linkPin = (ifindex: number): string => `link_${ifindex}`;
const linkPins = (folder: string): string[] => readdirSync(folder).filter((name) => name.startsWith('link_'));

/** A record of sequence numbers for each direction, a free slot and a local end. */
const sizesFor = (entries: number): Record<string, number> => ({
  connections: entries,
  adjustments: 2 * entries,
  free_slots: entries,
  local_ends: entries,
  idle_rules: entries,
  flow_buckets: bucketsFor(entries),
});

function specOf(definition: MapDefinition): MapSpec {
  const { type, name, keySize, valueSize, maxEntries, flags } = definition;
  return { type, name, keySize, valueSize, maxEntries, flags, keyTypeId: 0, valueTypeId: 0 };
}

function clsactAttachments(): Set<number> {
  return withRoutes(undefined, (routes) => {
    const links = routes
      .links()
      .filter(({ ifindex }) =>
        routes.bpfFilters(ifindex, 'ingress').some(({ priority }) => priority === INGRESS_PRIORITY),
      );
    return new Set(links.map(({ ifindex }) => ifindex));
  });
}

function removeFolder(folder: string): void {
  if (!existsSync(folder)) return;
  for (const name of readdirSync(folder)) unlinkSync(`${folder}/${name}`);
  rmdirSync(folder);
}

/**
 * Directors without interfaces, whose namespace has neither process nor name, belonged to one that was deleted; their memory
 * comes back.
 */
function removeAbandoned(bpfFolder: string): void {
  const idle = readdirSync(bpfFolder).filter((cookie) => {
    const folder = `${bpfFolder}/${cookie}`;
    return /^\d+$/.test(cookie) && linkPins(folder).every((name) => !hasInterface(`${folder}/${name}`));
  });
  if (idle.length === 0) return;
  const living = livingNamespaceCookies();
  for (const cookie of idle) if (!living.has(BigInt(cookie))) removeFolder(`${bpfFolder}/${cookie}`);
}

function hasInterface(pin: string): boolean {
  const link = BpfLink.fromPin(pin);
  try {
    return link.info().ifindex !== 0;
  } finally {
    link.close();
  }
}
