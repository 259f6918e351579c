export {
  type Address,
  type AddressKind,
  addressBytes,
  addressKind,
  expandIPv6,
  type Family,
  familyOf,
  formatAddress,
  ipv4FromNumber,
  ipv4Number,
  parseAddress,
  parseDotted,
} from './address.ts';
export type * from './command.ts';
export type { Director, EstimatedLoad, Totals } from './director.ts';
export { builtInSchedulers, createEnvironment, type Environment, type EnvironmentOptions } from './environment.ts';
export { DirectorError, type ErrorCode } from './errors.ts';
export { type HelpedPort, helpedPorts } from './helped-ports.ts';
export * from './mark-rule.ts';
export { MemoryDirector, type MemoryDirectorOptions } from './memory-director.ts';
export * from './model.ts';
export * from './plane/kernel-director.ts';
export * from './plane/kernel-plane.ts';
export * from './plane/map-director.ts';
export * from './plane/mark-table.ts';
export * from './plane/masquerade-table.ts';
export * from './plane/node-plane.ts';
export * from './plane/plane.ts';
export { ResetSender } from './plane/reset-sender.ts';
export * from './plane/user-schedulers.ts';
export {
  type OrderServers,
  reconcile,
  reconcileService,
  type Step,
  serverSettingsOf,
  settingsOf,
} from './reconcile.ts';
export { type Applied, apply, emptyTable, type ServiceTable, TableDraft } from './service-table.ts';
export { runningDaemon } from './sync-daemon.ts';
export {
  acceptSysctl,
  defaultSysctls,
  describeSysctls,
  isReadOnlySysctl,
  type SysctlDescription,
} from './sysctls.ts';
