// The build: TypeScript to JavaScript, kernel TypeScript to eBPF, and the commands into files of their own.
import { execFileSync } from 'node:child_process';
import { chmodSync, cpSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { build } from 'esbuild';

const run = (script, ...args) => execFileSync(process.execPath, [script, ...args], { stdio: 'inherit' });

run('node_modules/typescript/bin/tsc', '-b');
mkdirSync('packages/ipvs/programs', { recursive: true });
const programs = 'packages/ipvs/programs';
for (const [entry, file] of [
  ['index', 'ipvsd'],
  ['real-server', 'real-server'],
]) {
  const source = `packages/ipvs/src/programs/${entry}.ts`;
  run('packages/bpf/dist/bin/bpf.js', 'compile', source, '--out', `${programs}/${file}.json`);
}

const folder = 'packages/ipvsd/src/bin';
rmSync('packages/ipvsd/bundle', { recursive: true, force: true });
await build({
  entryPoints: readdirSync(folder).map((file) => `${folder}/${file}`),
  outdir: 'packages/ipvsd/bundle',
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node20.19',
  external: ['koffi', 'typescript'],
  // Some libraries are CommonJS inside and ask for node's modules by require().
  banner: { js: "import { createRequire as _require } from 'node:module'; const require = _require(import.meta.url);" },
  logLevel: 'warning',
});
for (const file of readdirSync('packages/ipvsd/bundle')) {
  if (!file.includes('-') || file.startsWith('ipvsadm-')) chmodSync(`packages/ipvsd/bundle/${file}`, 0o755);
}
// What a scheduler of an operator's own is compiled with: the data plane's sources, and the language's declarations.
const kernel = 'packages/ipvsd/kernel';
rmSync(kernel, { recursive: true, force: true });
cpSync('packages/ipvs/src', `${kernel}/ipvs`, {
  recursive: true,
  filter: (path) => !/\.test\.ts$|\/cases$/.test(path),
});
cpSync('packages/bpf/dist/language', `${kernel}/bpf/language`, {
  recursive: true,
  filter: (path) => !/\.js$|\.map$/.test(path),
});
for (const name of ['index', 'map-store', 'spec']) {
  cpSync(`packages/bpf/dist/${name}.d.ts`, `${kernel}/bpf/${name}.d.ts`);
}
cpSync('packages/ipvs/programs', 'packages/ipvsd/programs', { recursive: true });
for (const page of readdirSync('packages/ipvsadm/man'))
  cpSync(`packages/ipvsadm/man/${page}`, `packages/ipvsd/man/${page}`);
