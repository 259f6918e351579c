/** What set-up has changed on this host, so that undo knows what was before: a file for each network namespace. */
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import type { Address } from '@ipvsd/director';
import { currentNamespaceCookie } from '@ipvsd/linux';
import type { Decapsulation, Wish } from './wish.ts';

/** A change that was made; `before` and `after` where there was a value. */
export type Done =
  | { readonly kind: 'up'; readonly interface: string }
  | { readonly kind: 'sysctl'; readonly name: string; readonly before: number; readonly after: number }
  | { readonly kind: 'address'; readonly interface: string; readonly address: string; readonly vip: Address }
  | { readonly kind: 'device'; readonly name: string }
  | { readonly kind: 'programs' };

export interface State {
  readonly format: 1;
  readonly wishes: readonly (Wish & { readonly decapsulation: Decapsulation })[];
  /** In the order in which it was done. */
  readonly done: readonly Done[];
}

const NOTHING: State = { format: 1, wishes: [], done: [] };
const FOLDER = '/run/ipvsd';

/** Of the current network namespace. */
export const statePath = (folder = FOLDER): string => join(folder, `real-server-${currentNamespaceCookie()}.json`);

/** One process changes it at a time. */
export const lockPath = (path: string): string => join(dirname(path), 'lock', basename(path));

export function readState(path: string): State {
  if (!existsSync(path)) return NOTHING;
  const state = JSON.parse(readFileSync(path, 'utf8')) as State;
  if (state.format !== 1) {
    throw new Error(
      `Cannot read ${path}: its format is ${state.format as number}, must be 1; undo with the ipvsd that wrote it`,
    );
  }
  return state;
}

/** At once: whoever reads sees the old one or the new one. Without wishes and changes there is no file. */
export function writeState(path: string, state: State): void {
  if (state.wishes.length === 0 && state.done.length === 0) {
    rmSync(path, { force: true });
    return;
  }
  mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
  writeFileSync(`${path}.new`, `${JSON.stringify(state, null, 2)}\n`, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}
