/**
 * A place in the control flow graph where lowering may go on, and what is known there.
 *
 * Facts are keyed by register: conditions narrow the bounds of numbers and prove pointers to be non-null, a helper that moves
 * the packet makes pointers stale. Facts of flows that meet are weakened to what holds in both.
 */
import type { Position, Register } from '../ir.ts';
import { type Bounds, sameRange, unionBounds } from './range.ts';

export interface Flow {
  /** The open block. */
  readonly block: number;
  /** Bounds narrower than the register's own. */
  readonly bounds: Map<Register, Bounds>;
  readonly nonNull: Set<Register>;
  /** Shared variables that were read and not assigned since, by the register they were read into. */
  readonly loaded: Map<object, Register>;
  /** Packet pointers that died, with the call that moved the packet. */
  readonly stale: Map<Register, Position>;
}

export const entryFlow = (block: number): Flow => ({
  block,
  bounds: new Map(),
  nonNull: new Set(),
  loaded: new Map(),
  stale: new Map(),
});

export const forkFlow = (flow: Flow, block: number): Flow => ({
  block,
  bounds: new Map(flow.bounds),
  nonNull: new Set(flow.nonNull),
  loaded: new Map(flow.loaded),
  stale: new Map(flow.stale),
});

/** What holds after any of `flows`; `own` gives a register's bounds where a flow has no fact. */
export function meetFlows(flows: readonly Flow[], block: number, own: (reg: Register) => Bounds): Flow {
  const [first, ...rest] = flows as [Flow, ...Flow[]];
  const met = forkFlow(first, block);
  for (const [reg, bounds] of first.bounds) {
    const weakest = rest.reduce((sum, flow) => unionBounds(sum, flow.bounds.get(reg) ?? own(reg)), bounds);
    const base = own(reg);
    if (sameRange(weakest.range, base.range) && sameRange(weakest.known, base.known)) met.bounds.delete(reg);
    else met.bounds.set(reg, weakest);
  }
  for (const reg of first.nonNull) if (!rest.every((flow) => flow.nonNull.has(reg))) met.nonNull.delete(reg);
  for (const [cell, reg] of first.loaded)
    if (!rest.every((flow) => flow.loaded.get(cell) === reg)) met.loaded.delete(cell);
  for (const flow of rest) for (const [reg, at] of flow.stale) met.stale.set(reg, at);
  return met;
}
