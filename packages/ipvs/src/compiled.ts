/** What the build left beside this package's code: the data plane compiled to eBPF, and the sources that are compiled anew. */
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { CollectionSpec } from '@ipvsd/bpf';

/** Throws where the build has not compiled the programs: a director's, or those of a real server's interfaces. */
export function compiledPrograms(name: 'ipvsd' | 'real-server' = 'ipvsd'): CollectionSpec {
  return JSON.parse(readFileSync(new URL(`../programs/${name}.json`, import.meta.url), 'utf8')) as CollectionSpec;
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
