export { possibleCpus } from './bpf-syscall.ts';
export * from './btf.ts';
export * from './collection.ts';
export * from './features.ts';
export * from './link.ts';
export * from './map.ts';
export * from './program.ts';
export * from './ring-buffer.ts';
export * from './verifier-error.ts';
