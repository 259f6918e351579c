#!/usr/bin/env node
/** `bpf compile` and `bpf dump`: kernel TypeScript at the command line. */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import type { CompileResult } from '../compiler/index.ts';

const USAGE = `Usage:
  bpf compile ENTRY.ts [--out FILE.json]     compile the programs that ENTRY exports
  bpf dump ENTRY.ts [--ir] [--verifier]      show source lines with their instructions; the IR; what the verifier says
`;

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    out: { type: 'string', short: 'o' },
    ir: { type: 'boolean' },
    verifier: { type: 'boolean' },
    help: { type: 'boolean', short: 'h' },
  },
});
const [command, entry, ...rest] = positionals;

if (values.help === true) process.stdout.write(USAGE);
else if ((command !== 'compile' && command !== 'dump') || entry === undefined || rest.length > 0) {
  process.stderr.write(USAGE);
  process.exitCode = 2;
} else await run(command, entry);

async function run(command: 'compile' | 'dump', entry: string): Promise<void> {
  // Loaded only now: `bpf --help` needs no compiler.
  const { compile, formatDiagnostic } = await import('../compiler/index.ts');
  const result = compile(entry);
  for (const diagnostic of result.diagnostics) process.stderr.write(`${formatDiagnostic(diagnostic)}\n`);
  if (result.spec === undefined) {
    process.exitCode = 1;
    return;
  }
  if (command === 'dump') return dump(result);
  const json = `${JSON.stringify(result.spec)}\n`;
  if (values.out === undefined) process.stdout.write(json);
  else writeFileSync(values.out, json);
}

async function dump({ spec, ir }: CompileResult): Promise<void> {
  const { dumpSpec, printIr } = await import('../compiler/index.ts');
  if (values.ir === true) process.stdout.write(printIr(ir!));
  process.stdout.write(dumpSpec(spec!));
  if (values.verifier !== true) return;
  const { loadCollection } = await import('../kernel/index.ts');
  const collection = loadCollection(spec!, { log: 1 });
  for (const program of collection.programs.values()) process.stdout.write(`\n; ${program.name}\n${program.log}\n`);
  collection.close();
}
