/** All programs of the data plane: the compiler's entry. They share their maps, so they are compiled and loaded together. */
export { drop, server, start, sweep, zero } from './control.ts';
export * from './helpers.ts';
export * from './schedulers.ts';
export * from './tc.ts';
