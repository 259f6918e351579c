/**
 * The world that kernel TypeScript runs in when it runs in Node: the bytes of the maps, the clock, chance, routes, timers.
 *
 * Many worlds live in one process (a cluster in one test); one is current while a program runs. Everything that the kernel
 * would decide is an argument, so a run is repeated by giving the same world.
 */
import type { MapStore } from '../map-store.ts';
import type { MapDefinition } from './map.ts';
import { NodeMap } from './node-map.ts';
import type { NodeSkb, Redirection } from './skb.ts';
import type { View, Window } from './struct.ts';

export interface Surroundings {
  /** Nanoseconds since boot. */
  readonly now: () => bigint;
  /** 32 random bits. */
  readonly random: () => number;
  readonly cpu?: () => number;
  /** What bpf_fib_lookup answers: fills the parameters and returns its code (0 found, 4 no forwarding, 7 no neighbour ...). */
  readonly route?: (parameters: Uint8Array, flags: number) => number;
  /** MTU of an interface; 1500 where not given. */
  readonly mtu?: (ifindex: number) => number;
  /** Entries of a map by name, where not as declared. */
  readonly maxEntries?: Readonly<Record<string, number>>;
}

interface ArmedTimer {
  readonly window: Pick<Window, '$data' | '$base'>;
  callback: ((map: MapDefinition, key: number, value: View<never>) => number) | undefined;
  map: MapDefinition;
  value: View<never> | undefined;
  deadline: bigint | undefined;
}

export class World {
  readonly surroundings: Surroundings;
  readonly #maps = new Map<string, NodeMap>();
  readonly #timers: ArmedTimer[] = [];
  #packet: NodeSkb | undefined;

  constructor(surroundings: Surroundings) {
    this.surroundings = surroundings;
  }

  store(map: MapDefinition): NodeMap {
    const known = this.#maps.get(map.name);
    if (known !== undefined) return known;
    const made = new NodeMap(map, this.surroundings.maxEntries?.[map.name] ?? map.maxEntries);
    this.#maps.set(map.name, made);
    return made;
  }

  /** The map as user space sees it. */
  map(definition: MapDefinition): MapStore {
    return this.store(definition);
  }

  /** Run `what` with this world as the current one. */
  run<T>(what: () => T): T {
    const before = current;
    current = this;
    try {
      return what();
    } finally {
      current = before;
    }
  }

  /** Run a tc program on a packet: its verdict; the packet's bytes, redirection and clones are left in `skb`. */
  runTc(program: { readonly run: (skb: NodeSkb) => number }, skb: NodeSkb): number {
    const before = this.#packet;
    this.#packet = skb;
    try {
      return this.run(() => program.run(skb));
    } finally {
      this.#packet = before;
    }
  }

  /** Called by redirecting helpers. */
  redirected(redirection: Redirection): void {
    if (this.#packet === undefined) throw new Error('Cannot redirect: no packet is being handled');
    this.#packet.redirection = redirection;
  }

  timer(opaque: object): ArmedTimer {
    const window = opaque as unknown as Pick<Window, '$data' | '$base'>;
    const at = window.$data.byteOffset + window.$base;
    const known = this.#timers.find(
      (t) => t.window.$data.buffer === window.$data.buffer && t.window.$data.byteOffset + t.window.$base === at,
    );
    if (known !== undefined) return known;
    const made = { window, callback: undefined, deadline: undefined, value: undefined } as unknown as ArmedTimer;
    this.#timers.push(made);
    return made;
  }

  /** Nanoseconds since boot at which the next timer fires; undefined when none is armed. */
  get nextTimer(): bigint | undefined {
    let next: bigint | undefined;
    for (const { deadline } of this.#timers) {
      if (deadline !== undefined && (next === undefined || deadline < next)) next = deadline;
    }
    return next;
  }

  /** Fire what is due, earliest first. */
  runTimers(): void {
    for (;;) {
      const now = this.surroundings.now();
      const due = this.#timers
        .filter(({ deadline }) => deadline !== undefined && deadline <= now)
        .sort((a, b) => (a.deadline! < b.deadline! ? -1 : 1))[0];
      if (due === undefined) return;
      due.deadline = undefined;
      this.run(() => due.callback?.(due.map, 0, due.value as View<never>));
    }
  }
}

let current: World | undefined;

export function currentWorld(): World {
  if (current === undefined) {
    throw new Error('Cannot run kernel TypeScript in Node: no world is current; use world.run(() => ...)');
  }
  return current;
}
