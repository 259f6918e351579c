/**
 * Kernel TypeScript. The language is all that a data plane imports; the compiler is loaded apart (`@ipvsd/bpf/compiler`), so
 * that running compiled programs needs no `typescript`.
 */
export * from './language/index.ts';
export * from './map-store.ts';
export * from './spec.ts';
