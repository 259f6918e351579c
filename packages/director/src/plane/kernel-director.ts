/**
 * The director of the current network namespace, in the kernel.
 *
 * Reading asks for nothing to be there: no director is an empty one. The first command that means something makes it, as the
 * first ipvsadm loads ip_vs; every later change also takes in interfaces that have come since.
 */

import { start } from '@ipvsd/ipvs';
import type { Address } from '../address.ts';
import type { Command } from '../command.ts';
import type { Director, EstimatedLoad, Totals } from '../director.ts';
import type { DirectorError } from '../errors.ts';
import { MemoryDirector } from '../memory-director.ts';
import type {
  ConnectionEntry,
  EndPoint,
  RealServer,
  ServiceId,
  SyncDaemon,
  Timeouts,
  VirtualService,
} from '../model.ts';
import type { ServiceTable } from '../service-table.ts';
import { hostEnvironment } from './host.ts';
import { KernelPlane, type KernelPlaneOptions } from './kernel-plane.ts';
import { MapDirector } from './map-director.ts';

export class KernelDirector implements Director {
  readonly connectionTableSize = 4096;
  readonly #options: KernelPlaneOptions;
  #director: MapDirector<KernelPlane> | undefined;

  constructor(options: KernelPlaneOptions = {}) {
    this.#options = options;
  }

  execute(command: Command): void {
    const [error] = this.executeAll([command], { atomic: true });
    if (error) throw error;
  }

  executeAll(
    commands: readonly Command[],
    options: { readonly atomic: boolean },
  ): readonly (DirectorError | undefined)[] {
    const director = this.#find();
    if (director !== undefined) {
      director.plane.attach();
      return director.executeAll(commands, options);
    }
    // What an empty director refuses needs no director to be refused.
    const trial = new MemoryDirector({ environment: hostEnvironment() });
    const errors = trial.executeAll(commands, options);
    if (errors.every((error) => error !== undefined)) return errors;
    return this.make().executeAll(commands, options);
  }

  /** The director, made and attached to all interfaces where there is none. */
  make(): MapDirector<KernelPlane> {
    const plane = KernelPlane.create(this.#options);
    const director = this.#use(plane);
    director.writeSettings(undefined, plane.maxConnections);
    plane.call(start, start.context.create());
    plane.attach();
    return director;
  }

  table(): ServiceTable {
    return this.#read().table();
  }
  service(id: ServiceId): VirtualService | undefined {
    return this.#read().service(id);
  }
  reportLoads(id: ServiceId, byAddress: ReadonlyMap<Address, number>): void {
    this.#find()?.reportLoads(id, byAddress);
  }
  choice(id: ServiceId, client: EndPoint, virtual: EndPoint): RealServer | undefined {
    return this.#find()?.choice(id, client, virtual);
  }
  loads(id: ServiceId): readonly EstimatedLoad[] | undefined {
    return this.#find()?.loads(id);
  }
  connections(): Iterable<ConnectionEntry> {
    return this.#read().connections();
  }
  timeouts(): Timeouts {
    return this.#read().timeouts();
  }
  daemons(): readonly SyncDaemon[] {
    return this.#read().daemons();
  }
  sysctls(): ReadonlyMap<string, string> {
    return this.#read().sysctls();
  }
  totals(): Totals {
    return this.#read().totals();
  }

  #read(): Director {
    return this.#find() ?? new MemoryDirector();
  }

  #find(): MapDirector<KernelPlane> | undefined {
    if (this.#director !== undefined) return this.#director;
    const plane = KernelPlane.open();
    return plane && this.#use(plane);
  }

  #use(plane: KernelPlane): MapDirector<KernelPlane> {
    this.#director = new MapDirector(plane, { environment: hostEnvironment() });
    return this.#director;
  }
}
