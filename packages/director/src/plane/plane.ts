/**
 * Where the data plane runs: in the kernel, with its maps pinned, or in Node, with its maps in a world. What a director does
 * to one it does to the other.
 */
import type { Fields, MapDefinition, MapStore, SyscallProgram, View } from '@ipvsd/bpf';

export interface Plane {
  readonly kind: 'kernel' | 'node';
  /** The map that a definition of the data plane stands for here. */
  store(definition: MapDefinition): MapStore;
  /** Run one of the data plane's control programs; its context is changed in place. */
  call<Fs extends Fields>(program: SyscallProgram<Fs>, context: View<Fs>): number;
  /** Runs `work` while nobody else changes this plane. */
  exclusively<T>(work: () => T): T;
  /** Nanoseconds since boot, by the clock that the data plane reads. */
  now(): bigint;
}
