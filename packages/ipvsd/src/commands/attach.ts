/** `ipvsd attach` and `ipvsd detach`: which interfaces hand their packets to the director. */
import { KernelDirector, KernelPlane } from '@ipvsd/director';
import { openDirector } from '../open-director.ts';

export function attach(names: readonly string[]): void {
  openDirector();
  const plane = KernelPlane.open() ?? new KernelDirector().make().plane;
  const fresh = plane.attach(names.length === 0 ? undefined : names);
  process.stdout.write(fresh.length === 0 ? 'Attached already\n' : `Attached to ${fresh.join(', ')}\n`);
}

export function detach(names: readonly string[]): void {
  openDirector();
  const plane = KernelPlane.open();
  if (plane === undefined) throw new Error('Cannot detach: there is no director in this network namespace');
  plane.detach(names.length === 0 ? undefined : names);
}
