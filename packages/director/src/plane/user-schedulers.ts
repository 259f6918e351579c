/**
 * Operators' own schedulers in a director that runs: a program each in the table `schedulers`, and its name in the registry.
 *
 * A program is loaded completely, and so has passed the verifier, before anything of the director changes; then one entry of
 * the table does, at once. A packet finds the old program or the new one, and connections know nothing of either.
 */
import { existsSync } from 'node:fs';
import type { CollectionSpec } from '@ipvsd/bpf';
import { type Collection, KernelMap, loadCollection } from '@ipvsd/bpf/kernel';
import { compiledPrograms, ServiceKey, Service as StoredService, schedulers, services } from '@ipvsd/ipvs';
import { DirectorError } from '../errors.ts';
import { serviceKey } from '../model.ts';
import { idOf } from './codec.ts';
import type { KernelPlane } from './kernel-plane.ts';
import { type Document, readDocument, registry, writeDocument } from './registry.ts';
import { isReservedScheduler } from './scheduler-names.ts';

/** Numbers below are for those that are built in. */
const FIRST_NUMBER = 32;

export interface UserSchedulerEntry {
  readonly name: string;
  readonly number: number;
  /** Where it was compiled from. */
  readonly file: string;
  /** The virtual services that use it. */
  readonly services: readonly string[];
}

const word = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);

export class UserSchedulers {
  readonly #plane: KernelPlane;

  constructor(plane: KernelPlane) {
    this.#plane = plane;
  }

  /** Whether the kernel takes it, where there is no director yet: throws what `add` would. */
  static check(name: string, spec: CollectionSpec): void {
    refuseReserved(name);
    loadCollection(spec, { programs: [name] }).close();
  }

  list(): readonly UserSchedulerEntry[] {
    return Object.entries(this.#document().schedulers ?? {}).map(([name, { number, file }]) => ({
      name,
      number,
      file,
      services: this.#usersOf(number),
    }));
  }

  /** `spec` holds one program of that name. Throws a VerifierError where the kernel refuses it; then nothing has changed. */
  add(name: string, spec: CollectionSpec, file: string): 'added' | 'replaced' {
    refuseReserved(name);
    const collection = this.#load(spec, name);
    try {
      return this.#plane.exclusively(() => this.#enter(name, collection, file));
    } finally {
      collection.close();
    }
  }

  remove(name: string): void {
    this.#plane.exclusively(() => {
      const document = this.#document();
      const { [name]: own, ...others } = document.schedulers ?? {};
      const refuse = (reason: string) => new DirectorError('EINVAL', `Cannot remove scheduler ${name}: ${reason}`);
      if (own === undefined) {
        if (isReservedScheduler(name)) throw refuse('it is built in, must be one that was added');
        throw refuse('there is none of that name, must be one that `ipvsd scheduler list` shows');
      }
      const [user, ...more] = this.#usersOf(own.number);
      if (user !== undefined) {
        const also = more.length === 0 ? '' : ` and ${more.length} more`;
        throw refuse(`virtual service ${user}${also} uses it, must be given another scheduler first`);
      }
      writeDocument(this.#plane.store(registry), { ...document, schedulers: others });
      this.#plane.store(schedulers).delete(word(own.number));
    });
  }

  /** The director's maps are shared; maps that only this scheduler has are made, and live as long as its program. */
  #load(spec: CollectionSpec, name: string): Collection {
    const ours = new Set(compiledPrograms().maps.map((map) => map.name));
    const reuseMaps = new Map<string, KernelMap>();
    try {
      for (const map of spec.maps) {
        const pin = `${this.#plane.folder}/${map.name}`;
        if (!ours.has(map.name)) continue;
        if (!existsSync(pin)) {
          throw new DirectorError(
            'ENOENT',
            `Cannot add scheduler ${name}: the director that runs has no map "${map.name}", as it is of another version; must be made anew with ipvsd detach`,
          );
        }
        reuseMaps.set(map.name, KernelMap.fromPin(pin));
      }
      return loadCollection(spec, { reuseMaps, programs: [name] });
    } finally {
      for (const map of reuseMaps.values()) map.close();
    }
  }

  #enter(name: string, collection: Collection, file: string): 'added' | 'replaced' {
    const document = this.#document();
    const known = document.schedulers?.[name];
    const number = known?.number ?? freeNumber(document);
    const table = this.#plane.store(schedulers);
    if (number >= table.maxEntries) {
      const most = table.maxEntries - FIRST_NUMBER;
      throw new DirectorError('ENOMEM', `Cannot add scheduler ${name}: there are ${most}, must remove one first`);
    }
    const after: Document = { ...document, schedulers: { ...document.schedulers, [name]: { number, file } } };
    // The document first: a name whose program is not there yet is used by nobody, as we hold the lock.
    writeDocument(this.#plane.store(registry), after);
    try {
      table.update(word(number), word(collection.program(name).fd));
    } catch (error) {
      writeDocument(this.#plane.store(registry), document);
      throw error;
    }
    return known === undefined ? 'added' : 'replaced';
  }

  #usersOf(number: number): string[] {
    return [...this.#plane.store(services).entries()]
      .filter(([, value]) => StoredService.on(value).scheduler === number)
      .map(([key]) => serviceKey(idOf(ServiceKey.on(key))));
  }

  #document(): Document {
    return readDocument(this.#plane.store(registry));
  }
}

function refuseReserved(name: string): void {
  if (!isReservedScheduler(name)) return;
  throw new DirectorError('EEXIST', `Cannot add scheduler ${name}: it is built in, must have another name`);
}

function freeNumber({ schedulers: own = {} }: Document): number {
  const taken = new Set(Object.values(own).map(({ number }) => number));
  let number = FIRST_NUMBER;
  while (taken.has(number)) number++;
  return number;
}
