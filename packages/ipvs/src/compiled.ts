/** What the build left beside this package's code: the data plane compiled to eBPF, and the sources that are compiled anew. */
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { CollectionSpec } from '@ipvsd/bpf';

const FILE = new URL('../programs/ipvsd.json', import.meta.url);

/** Throws where the build has not compiled the programs. */
export function compiledPrograms(): CollectionSpec {
  return JSON.parse(readFileSync(FILE, 'utf8')) as CollectionSpec;
}

/** Of this package itself, and beside a bundle. */
const SCHEDULER_SOURCES = ['../src/scheduler/user.ts', '../kernel/ipvs/scheduler/user.ts'];

/** What `ipvsd/scheduler` means to the compiler: the source that operators' own schedulers import. */
export function schedulerModule(): string {
  const files = SCHEDULER_SOURCES.map((path) => fileURLToPath(new URL(path, import.meta.url)));
  const found = files.find((file) => existsSync(file));
  if (found === undefined) {
    throw new Error(
      `Cannot find the sources of ipvsd/scheduler: there is no ${files.join(' and no ')}; reinstall ipvsd`,
    );
  }
  return found;
}
