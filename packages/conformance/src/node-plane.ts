/** The director under test in Node. */
import {
  bytesOf,
  type MapDefinition,
  NodeSkb,
  type Redirection,
  RedirectNeighbour,
  TC_ACT_REDIRECT,
  TC_ACT_SHOT,
} from '@ipvsd/bpf';
import { createEnvironment, MapDirector, NodePlane } from '@ipvsd/director';
import * as dataPlane from '@ipvsd/ipvs';
import { AF_INET, Connection, connections, Population, population, sweep, TICK_NS } from '@ipvsd/ipvs';
import { formatIp } from '@ipvsd/linux';
import {
  answerRoute,
  BOOT_NS,
  type Fate,
  frameOf,
  IFINDEX,
  INTERFACES,
  KERNEL_TICK,
  nanoseconds,
  type Side,
  sideOf,
  type TestPlane,
  type TestPlaneOptions,
} from './plane.ts';

/** Small maps: what a scenario needs, so that a world costs next to nothing. */
const SMALL = 1024;
const MAX_ENTRIES: Readonly<Record<string, number>> = {
  free_slots: SMALL,
  ...Object.fromEntries(
    Object.values<unknown>(dataPlane)
      .filter((value): value is MapDefinition => (value as Partial<MapDefinition> | undefined)?.kind === 'map')
      .filter(({ type, maxEntries }) => /array|stack/i.test(type) && maxEntries > SMALL)
      .map(({ name }) => [name, SMALL]),
  ),
  adjustments: 2 * SMALL,
};

/** Defence, estimator and the like want to be woken each second; when all is quiet, a minute at a time. */
const SECOND = 1_000_000;
const MINUTE = 60 * SECOND;
const QUIET_AFTER = 40 * SECOND;
const STILL_AFTER = 10 * MINUTE;

/** When the data plane is to be woken next: at a deadline, given in ticks, or at the next full second or minute. */
export function nextWake(
  now: number,
  touched: number,
  defends: boolean,
  base: bigint,
  deadlines: readonly number[],
): number {
  const idle = now - touched;
  const step = idle < QUIET_AFTER || defends ? SECOND : idle < STILL_AFTER ? MINUTE : 10 * MINUTE;
  let next = (Math.floor(now / step) + 1) * step;
  for (const deadline of deadlines) {
    const due = Number((BigInt(deadline) * BigInt(TICK_NS) - base) / 1000n) + 1;
    if (due > now && due < next) next = due;
  }
  return next;
}

/** Settings of which any makes each second count. */
export const DEFENCES = ['drop_entry', 'drop_packet', 'secure_tcp'] as const;

export class NodeTestPlane implements TestPlane {
  readonly kind = 'node';
  readonly director: MapDirector<NodePlane>;
  readonly #plane: NodePlane;
  #now = 0;
  /** A bound: nothing is due before. */
  #deadline = 0;
  /** When a packet or a command came last. */
  #touched = 0;
  #random: number;

  constructor({ site, seed, interfaces = INTERFACES }: TestPlaneOptions) {
    this.#random = seed;
    this.#plane = new NodePlane({
      now: () => nanoseconds(this.#now),
      random: () => this.#nextRandom(),
      route: (parameters, flags) => answerRoute(site, parameters, flags),
      mtu: () => site.mtu,
      maxEntries: MAX_ENTRIES,
    });
    this.director = new MapDirector(this.#plane, { environment: createEnvironment({ interfaces }) });
    this.director.writeSettings(undefined, SMALL);
    this.#deadline = this.#findDeadline();
  }

  receive(packet: Uint8Array, side: Side, mark: number): readonly Fate[] {
    const ifindex = IFINDEX[side];
    const skb = new NodeSkb(frameOf(packet, side), {
      ifindex,
      ingressIfindex: ifindex,
      mark,
      hash: this.#nextRandom(),
    });
    const verdict = this.#plane.receive(skb);
    this.touched();
    // What comes in once more does so when this packet is on its way.
    const again = skb.clones.filter(({ ingress }) => ingress === true);
    const made = skb.clones.filter(({ ingress }) => ingress !== true).map((clone) => sent(clone, clone.packet!));
    return [
      ...made,
      fateOf(verdict, skb),
      ...again.flatMap((clone) => this.receive(clone.packet!.slice(14), sideOf(clone.ifindex) ?? side, mark)),
    ];
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
    if (now < this.#deadline) return;
    this.#plane.call(sweep, sweep.context.create());
    this.#deadline = this.#findDeadline();
  }

  close(): void {}

  #findDeadline(): number {
    const store = this.#plane.store(connections);
    const { highest } = Population.on(this.#plane.store(population).lookup(new Uint8Array(4))!);
    const due: number[] = [];
    for (let index = 0; index < highest; index++) {
      const c = Connection.on(store.lookup(new Uint8Array(Uint32Array.of(index).buffer))!);
      if (c.alive === 1) due.push(c.lastSeen + c.timeout);
    }
    return nextWake(this.#now, this.#touched, this.#defends(), BOOT_NS, due);
  }

  /** The defence works by the second. */
  #defends(): boolean {
    const sysctls = this.director.sysctls();
    return DEFENCES.some((name) => sysctls.get(name) !== '0');
  }

  #nextRandom(): number {
    this.#random = (Math.imul(this.#random, 1_664_525) + 1_013_904_223) >>> 0;
    return (this.#random ^ (this.#random >>> 15)) >>> 0;
  }
}

function fateOf(verdict: number, skb: NodeSkb): Fate {
  if (verdict === TC_ACT_SHOT) return { kind: 'drop' };
  if (verdict !== TC_ACT_REDIRECT) return { kind: 'pass', packet: skb.bytes.slice(14) };
  if (skb.redirection === undefined) throw new Error('The data plane says redirect, but not where');
  return sent(skb.redirection, skb.bytes);
}

function sent({ ifindex, neighbour }: Redirection, frame: Uint8Array): Fate {
  const side = sideOf(ifindex);
  // Sent to an interface that is not there: gone.
  if (side === undefined) return { kind: 'drop' };
  return { kind: 'send', packet: frame.slice(14), side, hop: neighbour && hopOf(neighbour) };
}

function hopOf(neighbour: Uint8Array): string {
  const view = RedirectNeighbour.on(neighbour);
  const address = bytesOf(view).slice(4, view.family === AF_INET ? 8 : 20);
  return formatIp(address);
}
