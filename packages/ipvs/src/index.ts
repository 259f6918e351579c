/** The data plane: maps and programs in kernel TypeScript. Written once; compiled for the kernel, run as it is in Node. */
export { compiledPrograms } from './compiled.ts';
export * from './connection/connection.ts';
export * from './connection/sweep.ts';
export * from './connection/tcp-state.ts';
export * from './counters.ts';
export * from './family.ts';
export * from './frame/frame.ts';
export * from './packet/address.ts';
export * from './packet/headers.ts';
export * from './programs/control.ts';
export { ingress } from './programs/tc.ts';
export { SCHEDULER_NAMES, SCHEDULERS } from './scheduler/index.ts';
export * from './scheduler/scheduler.ts';
export * from './service/service.ts';
export * from './settings.ts';
