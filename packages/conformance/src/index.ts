/** The conformance runner: plays what the kernel's IPVS did and says where we differ. */
export { type RunOptions, run } from './run.ts';
export * from './report.ts';
