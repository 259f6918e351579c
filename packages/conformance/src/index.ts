/** The conformance runner: plays what the kernel's IPVS did and says where we differ. */

export * from './report.ts';
export { type RunOptions, run } from './run.ts';
