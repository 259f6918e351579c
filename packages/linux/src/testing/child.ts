/** Child processes that run our own TypeScript, for what only a second process can show. */

import { mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildSync } from 'esbuild';

export interface ChildScript {
  /** To be run with `process.execPath`. */
  readonly path: string;
  /** What the child needs to find koffi. */
  readonly env: NodeJS.ProcessEnv;
  remove(): void;
}

/** Bundles `code`, which may import from `./index.ts` of this package, into one file. */
export function childScript(code: string): ChildScript {
  const folder = mkdtempSync(join(tmpdir(), 'ipvsd-child-'));
  const path = join(folder, 'child.cjs');
  const source = fileURLToPath(new URL('..', import.meta.url));
  buildSync({
    stdin: { contents: code, resolveDir: source, loader: 'ts' },
    bundle: true,
    platform: 'node',
    format: 'cjs',
    // For the other thread of crew.ts, which no child asks for.
    logOverride: { 'empty-import-meta': 'silent' },
    external: ['koffi'],
    outfile: path,
  });
  const modules = createRequire(import.meta.url)
    .resolve.paths('koffi')!
    .join(':');
  return { path, env: { ...process.env, NODE_PATH: modules }, remove: () => rmSync(folder, { recursive: true }) };
}
