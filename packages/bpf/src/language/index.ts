/** Everything that kernel TypeScript may say, and what Node needs to run it. */
export * from './helper.ts';
export * from './map.ts';
export * from './program.ts';
export * from './scalar.ts';
export * from './skb.ts';
export * from './struct.ts';
export { type Surroundings, World } from './world.ts';
