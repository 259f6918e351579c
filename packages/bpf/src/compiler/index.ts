/** The compiler of kernel TypeScript: `@ipvsd/bpf/compiler`. It needs `typescript`; running what it made does not. */
import type { CollectionSpec } from '../spec.ts';
import { dump } from './back/dump.ts';
import { emit } from './back/index.ts';
import { type CompileOptions, type CompileResult, compileWith } from './compile.ts';

export { type DumpOptions, dump } from './back/dump.ts';
export type { CompileOptions, CompileResult } from './compile.ts';
export { type Diagnostic, formatDiagnostic } from './diagnostics.ts';
export type * from './ir.ts';
export { printIr } from './print-ir.ts';

/** From an entry .ts file to maps and programs, or to what is wrong with it. */
export const compile = (entryFile: string, options: CompileOptions = {}): CompileResult => compileWith(emit, entryFile, options);

/** Source lines with the instructions that became of them. */
export const dumpSpec = (spec: CollectionSpec): string => dump({ spec });
