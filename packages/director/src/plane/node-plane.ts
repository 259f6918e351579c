/** The data plane in Node: the same source, its maps in memory. For tests, replays and the demo without root. */
import {
  type Fields,
  type MapDefinition,
  type MapStore,
  type NodeSkb,
  type Surroundings,
  type SyscallProgram,
  type View,
  World,
} from '@ipvsd/bpf';
import { ingress } from '@ipvsd/ipvs';
import type { Plane } from './plane.ts';

export class NodePlane implements Plane {
  readonly kind = 'node';
  readonly world: World;

  constructor(surroundings: Surroundings) {
    this.world = new World(surroundings);
  }

  store(definition: MapDefinition): MapStore {
    return this.world.store(definition);
  }

  call<Fs extends Fields>(program: SyscallProgram<Fs>, context: View<Fs>): number {
    return this.world.run(() => program.run(context));
  }

  exclusively<T>(work: () => T): T {
    return work();
  }

  now(): bigint {
    return this.world.surroundings.now();
  }

  /** A packet arrives: the verdict, with the packet's bytes and where it is to go left in `skb`. */
  receive(skb: NodeSkb): number {
    return this.world.runTc(ingress, skb);
  }
}
