export { parseArguments } from './arguments.ts';
export { type Change, changeOf } from './change.ts';
export { type CommandDefinition, type CommandName, commands } from './commands.ts';
export type { Io, Output } from './io.ts';
export { ipvsadmMain, ipvsadmRestoreMain, ipvsadmSaveMain, type OpenDirector, processIo } from './main.ts';
export { refusal, UsageError } from './messages.ts';
export { type OptionDefinition, type OptionName, options } from './options.ts';
export {
  formatProcApplications,
  formatProcConnections,
  formatProcCpuStats,
  formatProcServices,
  formatProcStats,
  formatProcSyncedConnections,
} from './proc.ts';
export { runIpvsadm } from './run.ts';
export { runIpvsadmRestore, runIpvsadmSave } from './scripts.ts';
export { fileNames, type Names, rememberingNames, systemNames } from './services-names.ts';
