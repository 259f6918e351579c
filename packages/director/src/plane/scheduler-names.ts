/** Schedulers by name and number: those that are built in, and operators' own as the registry has them. */
import { SCHEDULER_NAMES, SCHEDULERS } from '@ipvsd/ipvs';
import type { Plane } from './plane.ts';
import { type Document, readDocument, registry } from './registry.ts';

const BUILT_IN: ReadonlySet<string> = new Set([
  'none',
  ...SCHEDULERS.map(({ number }) => SCHEDULER_NAMES[number] ?? ''),
]);

export const isBuiltInScheduler = (name: string): boolean => BUILT_IN.has(name);
/** The kernel's names are never an operator's, those that we lack neither. */
export const isReservedScheduler = (name: string): boolean => BUILT_IN.has(name) || SCHEDULER_NAMES.includes(name);

export class SchedulerNames {
  readonly #plane: Plane;
  #own: Document['schedulers'] | undefined;

  constructor(plane: Plane) {
    this.#plane = plane;
  }

  /** Another process may have changed them since. */
  refresh(): void {
    this.#own = undefined;
  }

  has(name: string): boolean {
    return isBuiltInScheduler(name) || this.#read()[name] !== undefined;
  }

  numberOf(name: string): number {
    const builtIn = SCHEDULER_NAMES.indexOf(name);
    return builtIn >= 0 ? builtIn : (this.#read()[name]?.number ?? 0);
  }

  nameOf(number: number): string {
    const builtIn = SCHEDULER_NAMES[number];
    if (builtIn !== undefined) return builtIn;
    const found = Object.entries(this.#read()).find(([, own]) => own.number === number);
    return found?.[0] ?? 'none';
  }

  #read(): NonNullable<Document['schedulers']> {
    this.#own ??= readDocument(this.#plane.store(registry)).schedulers ?? {};
    return this.#own;
  }
}
