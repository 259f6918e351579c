/**
 * A director in a namespace of its own with a client's and a real server's side, for programs that are run by test_run and not
 * by traffic. All that is done "inside" runs in that namespace, as an interface's number means nothing elsewhere.
 */

import { readdirSync, readFileSync } from 'node:fs';
import { bytesOf } from '@ipvsd/bpf';
import { KernelMap, skbContext } from '@ipvsd/bpf/kernel';
import {
  type Command,
  type ForwardingMethod,
  KernelDirector,
  type KernelPlane,
  plainTunnel,
  type ServiceId,
} from '@ipvsd/director';
import { Settings, settings, sweep } from '@ipvsd/ipvs';
import { createNamespace, inNamespace, parseMac, withRoutes, writeSysctl } from '@ipvsd/linux';
import { MINE, removeNamespace, undoAtEnd } from '../stage/cleanup.ts';

export interface Face {
  readonly ifindex: number;
  readonly mac: Uint8Array;
}

const SIDES = { client: ['10.1.0.1/16', 'fd01::1/64'], real: ['10.2.0.1/16', 'fd02::1/64'] } as const;
const NEXT_HOPS = { client: ['10.1.0.2', 'fd01::2'], real: ['10.2.0.2', 'fd02::2'] } as const;
/** Where clients and real servers are, each behind a next hop, as they would be. */
export const NETWORKS = { client: ['10.64.0.0/10', 'fd64::/32'], real: ['10.3.0.0/16', 'fd03::/64'] } as const;

/** The namespace and its two sides. */
export class Wires {
  readonly namespace: string;
  readonly client: Face;
  readonly real: Face;

  constructor(name: string) {
    this.namespace = `${MINE}-${name}`;
    const far = `${this.namespace}-far`;
    for (const namespace of [far, this.namespace]) {
      createNamespace(namespace);
      undoAtEnd(() => removeNamespace(namespace));
    }
    [this.client, this.real] = [this.#face('client', far), this.#face('real', far)];
    writeSysctl('net.ipv4.ip_forward', 1, this.namespace);
    writeSysctl('net.ipv6.conf.all.forwarding', 1, this.namespace);
  }

  remove(): void {
    for (const namespace of [this.namespace, `${this.namespace}-far`]) removeNamespace(namespace);
  }

  inside<T>(work: () => T): T {
    return inNamespace(this.namespace, work);
  }

  #face(side: 'client' | 'real', far: string): Face {
    return withRoutes(this.namespace, (routes) => {
      routes.addVeth(side, side, far);
      for (const address of SIDES[side]) routes.addAddress(side, address, { nodad: true });
      routes.setUp(side);
      const peer = withRoutes(far, (others) => {
        others.setUp(side);
        return others.link(side);
      });
      for (const [i, hop] of NEXT_HOPS[side].entries()) {
        routes.addNeighbour(side, hop, peer.mac);
        routes.addRoute({ to: NETWORKS[side][i]!, via: hop });
      }
      const { ifindex, mac } = routes.link(side);
      return { ifindex, mac: parseMac(mac) };
    });
  }

  /** As a frame that arrives on one side. */
  arriving(side: 'client' | 'real', frame: Uint8Array): { frame: Uint8Array; context: Uint8Array } {
    const { ifindex, mac } = this[side];
    const addressed = frame.slice();
    addressed.set(mac);
    return { frame: addressed, context: skbContext({ ifindex, ingressIfindex: ifindex }) };
  }
}

/** With a director in it. */
export class Ground extends Wires {
  readonly #director: KernelDirector;
  readonly plane: KernelPlane;

  constructor(name: string, maxConnections: number) {
    super(name);
    this.#director = new KernelDirector({ maxConnections });
    this.plane = this.inside(() => this.#director.make().plane);
  }

  execute(commands: readonly Command[]): void {
    const errors = this.inside(() => this.#director.executeAll(commands, { atomic: true }));
    const refused = errors.find((error) => error !== undefined);
    if (refused !== undefined) throw refused;
  }

  get director(): KernelDirector {
    return this.#director;
  }

  /** Bytes that its maps take in the kernel. */
  mapBytes(): number {
    return readdirSync(this.plane.folder)
      .filter((name) => !/^(prog_|link_|ready$)/.test(name))
      .map((name) => {
        const map = KernelMap.fromPin(`${this.plane.folder}/${name}`);
        const info = readFileSync(`/proc/self/fdinfo/${map.fd}`, 'utf8');
        map.close();
        return Number(/memlock:\s*(\d+)/.exec(info)?.[1] ?? 0);
      })
      .reduce((sum, bytes) => sum + bytes, 0);
  }

  /** All connections are forgotten: their time is over, and the data plane's own sweep takes them out. */
  forget(): void {
    this.inside(() => {
      this.#setClock(0x7fff_0000);
      this.plane.call(sweep, sweep.context.create());
      this.#setClock(0);
    });
  }

  #setClock(ticks: number): void {
    const store = this.plane.store(settings);
    const key = new Uint8Array(4);
    const s = Settings.on(store.lookup(key)!);
    s.clock = ticks;
    store.update(key, bytesOf(s));
  }
}

export interface ServiceOptions {
  readonly address: string;
  readonly port: number;
  readonly forwarding?: ForwardingMethod;
  readonly scheduler?: string;
  readonly realServers: readonly { readonly address: string; readonly port: number; readonly weight?: number }[];
  readonly localAddresses?: readonly string[];
}

export function serviceCommands(options: ServiceOptions): Command[] {
  const { address, port, forwarding = 'masq', scheduler = 'rr', realServers, localAddresses = [] } = options;
  const family = address.includes(':') ? 'ipv6' : 'ipv4';
  const service: ServiceId = { kind: 'address', family, protocol: 'tcp', address, port };
  const settings = { scheduler, schedulerFlags: 0, persistence: null, persistenceEngine: null, onePacket: false };
  return [
    { kind: 'addService', service, settings },
    ...localAddresses.map((address) => ({ kind: 'addLocalAddress', service, address }) as const),
    ...realServers.map(({ address, port, weight = 1 }) => {
      const settings = { forwarding, weight, upperThreshold: 0, lowerThreshold: 0, tunnel: plainTunnel };
      return { kind: 'addServer', service, server: { address, port }, settings } as const;
    }),
  ];
}
