/** Playing the recordings, for the conformance script and for tests of a plane. */
export * from './conformance.ts';
export type { Outcome, Programs } from './conformance-shell.ts';
export { directorStage, recordedNames, type Stage, type World } from './conformance-stage.ts';
