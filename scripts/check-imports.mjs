// Imports run one way through the house, and only through a package's front door.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const MAY_IMPORT = {
  linux: [],
  bpf: ['linux'],
  ipvs: ['linux', 'bpf'],
  director: ['linux', 'bpf', 'ipvs'],
  ipvsadm: ['director'],
  keepalived: ['linux', 'director', 'load'],
  load: ['linux', 'director'],
  conformance: ['linux', 'bpf', 'ipvs', 'director', 'ipvsadm'],
  ipvsd: ['linux', 'bpf', 'ipvs', 'director', 'ipvsadm', 'keepalived', 'load'],
};
const DOORS = [
  '@ipvsd/bpf/kernel',
  '@ipvsd/bpf/compiler',
  '@ipvsd/bpf/testing',
  '@ipvsd/ipvsadm/completion',
  '@ipvsd/ipvsadm/conformance',
];

const problems = [];
for (const name of readdirSync('packages')) {
  for (const file of sources(join('packages', name, 'src'))) {
    const text = readFileSync(file, 'utf8');
    for (const [, specifier] of text.matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g)) check(name, file, specifier);
  }
}

function check(name, file, specifier) {
  if (specifier.startsWith('.') && specifier.includes('../../../')) {
    problems.push(`${file}: imports ${specifier}, must go through the other package's name`);
  }
  const [, other] = /^@ipvsd\/([a-z]+)/.exec(specifier) ?? [];
  if (other === undefined || other === name) return;
  // The only package that everything may test against is its own and those below.
  if (!MAY_IMPORT[name]?.includes(other)) problems.push(`${file}: imports ${specifier}, which lies above it`);
  if (specifier !== `@ipvsd/${other}` && !DOORS.includes(specifier)) {
    problems.push(`${file}: imports ${specifier}, which is not a door of its package`);
  }
}

function sources(folder) {
  return readdirSync(folder, { recursive: true })
    .filter((file) => file.endsWith('.ts'))
    .map((file) => join(folder, file));
}

for (const problem of problems) console.error(problem);
if (problems.length > 0) process.exit(1);
