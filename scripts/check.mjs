// The one gate: types, format, import direction, fast tests. Each part says what it was when it fails.
import { spawnSync } from 'node:child_process';

const bin = (name, file) => `node_modules/${name}/${file}`;
const STEPS = [
  ['types', bin('typescript', 'bin/tsc'), '-b'],
  ['types of tests', bin('typescript', 'bin/tsc'), '-p', 'tsconfig.tests.json'],
  ['format and lint', bin('@biomejs/biome', 'bin/biome'), 'ci', '--error-on-warnings', '.'],
  ['import direction', 'scripts/check-imports.mjs'],
  ['docs/counters.md', 'scripts/counters.mjs', '--check'],
  ['fast tests', bin('vitest', 'vitest.mjs'), 'run', '--project', 'fast'],
];

for (const [what, script, ...args] of STEPS) {
  const started = performance.now();
  const { status } = spawnSync(process.execPath, [script, ...args], { stdio: 'inherit' });
  if (status !== 0) {
    console.error(`check: ${what} failed`);
    process.exit(1);
  }
  console.log(`check: ${what} ok (${((performance.now() - started) / 1000).toFixed(1)} s)`);
}
