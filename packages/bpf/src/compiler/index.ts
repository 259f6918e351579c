/** The compiler of kernel TypeScript: `@ipvsd/bpf/compiler`. It needs `typescript`; running what it made does not. */
import type { CollectionSpec } from '../spec.ts';
import { dump } from './back/dump.ts';

export { type DumpOptions, dump } from './back/dump.ts';
export { type CompileOptions, type CompileResult, compile } from './compile.ts';
export { type Diagnostic, formatDiagnostic } from './diagnostics.ts';
export type * from './ir.ts';
export { printIr } from './print-ir.ts';

/** Source lines with the instructions that became of them. */
export const dumpSpec = (spec: CollectionSpec): string => dump({ spec });
