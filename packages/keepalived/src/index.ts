export { NodeSockets } from './checkers/node-sockets.ts';
export type { Sockets } from './checkers/sockets.ts';
export { type DrivenTimers, startTimers, type Timer, type Timers, TimingWheel } from './checkers/timers.ts';
export {
  type Diagnostic,
  diagnose,
  formatDiagnostic,
  type Severity,
  type Verdict,
  verdictOf,
} from './conf/diagnostics.ts';
export { diskFiles, lineFinder, parseFile, parseText } from './conf/parse.ts';
export type { Statement } from './conf/tree.ts';
export { Daemon, type DaemonOptions, type ServerReport } from './daemon/daemon.ts';
export type { Log } from './daemon/effects.ts';
export { type Drain, ServiceHealth } from './health/service-health.ts';
export type * from './model/configuration.ts';
export {
  isNativeFile,
  type LoadedConfiguration,
  loadConfigurationFile,
  loadKeepalivedFile,
  loadKeepalivedText,
  loadNativeText,
} from './model/load.ts';
export { outline } from './model/outline.ts';
export { configurationJsonSchema } from './native/schema.ts';
export { commandsFor, commandsToDelete, serviceKeys } from './reconcile.ts';
