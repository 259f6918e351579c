/** The data plane compiled to eBPF, as the build left it beside this package's code. */
import { readFileSync } from 'node:fs';
import type { CollectionSpec } from '@ipvsd/bpf';

const FILE = new URL('../programs/ipvsd.json', import.meta.url);

/** Throws where the build has not compiled the programs. */
export function compiledPrograms(): CollectionSpec {
  return JSON.parse(readFileSync(FILE, 'utf8')) as CollectionSpec;
}
