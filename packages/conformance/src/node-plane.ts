/** The director under test in Node. */
import { bytesOf, NodeSkb, type Redirection, RedirectNeighbour, TC_ACT_REDIRECT, TC_ACT_SHOT } from '@ipvsd/bpf';
import { createEnvironment, MapDirector, NodePlane } from '@ipvsd/director';
import { AF_INET, Connection, connections, Population, population, sweep, TICK_NS } from '@ipvsd/ipvs';
import { formatIp } from '@ipvsd/linux';
import {
  answerRoute,
  BOOT_NS,
  type Fate,
  frameOf,
  IFINDEX,
  nanoseconds,
  type Side,
  sideOf,
  type TestPlane,
  type TestPlaneOptions,
} from './plane.ts';

/** Small maps: what a scenario needs, so that a world costs next to nothing. */
const SMALL = 2048;
const MAX_ENTRIES = Object.fromEntries(
  ['connections', 'free_slots', 'servers', 'traffic', 'services', 'service_states', 'members', 'flows4', 'flows6'].map(
    (name) => [name, SMALL],
  ),
);

/** Defence, estimator and the like want to be woken each second. */
const SECOND = 1_000_000;
/** No timeout is shorter, so a packet cannot make an earlier deadline. */
const SHORTEST_TIMEOUT = 1_000_000;

export class NodeTestPlane implements TestPlane {
  readonly kind = 'node';
  readonly director: MapDirector<NodePlane>;
  readonly #plane: NodePlane;
  #now = 0;
  /** A bound: nothing is due before. */
  #deadline = 0;
  #random: number;

  constructor({ site, seed }: TestPlaneOptions) {
    this.#random = seed;
    this.#plane = new NodePlane({
      now: () => nanoseconds(this.#now),
      random: () => this.#nextRandom(),
      route: (parameters, flags) => answerRoute(site, parameters, flags),
      mtu: () => site.mtu,
      maxEntries: MAX_ENTRIES,
    });
    const interfaces = new Map([
      ['lo', 65_536],
      ['lbc', 1500],
      ['lbs', 1500],
      ['or0', 1500],
    ]);
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
    this.#deadline = Math.min(this.#deadline, this.#now + SHORTEST_TIMEOUT);
    const made = skb.clones.map((clone) => sent(clone, clone.packet!));
    return [...made, fateOf(verdict, skb)];
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
    let next = (Math.floor(this.#now / SECOND) + 1) * SECOND;
    const store = this.#plane.store(connections);
    const { highest } = Population.on(this.#plane.store(population).lookup(new Uint8Array(4))!);
    for (let index = 0; index < highest; index++) {
      const c = Connection.on(store.lookup(new Uint8Array(Uint32Array.of(index).buffer))!);
      if (c.alive !== 1) continue;
      const due = Number((BigInt(c.lastSeen + c.timeout) * BigInt(TICK_NS) - BOOT_NS) / 1000n) + 1;
      if (due > this.#now && due < next) next = due;
    }
    return next;
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
