/**
 * The stack frame of a function: its slots, and the homes of registers that found no machine register.
 *
 *     r10 ->  | slots, those never in use together over each other |
 *             | homes, 8 bytes each, likewise                      |
 *     r10 - bytes
 *
 * The kernel allows 512 bytes per program, summed over the chain of calls. Inlining brings many slots of short life, so a
 * slot takes room only between the first and the last instruction that can touch it.
 */
import type { IrFunction } from '../ir.ts';
import { BitSet } from './bit-set.ts';
import type { Body } from './body.ts';
import { predecessors, successors } from './control-flow.ts';
import { EmitError } from './error.ts';
import { usedByEnd } from './instruction.ts';
import { pointsTo } from './points-to.ts';

export const MAX_STACK = 512;
/** The kernel rounds each function's share up to this. */
const FRAME_UNIT = 32;

export interface Frame {
  /** Distance below the frame pointer of each slot's first byte; undefined for slots that are not used any more. */
  readonly slots: readonly (number | undefined)[];
  readonly homes: readonly number[];
  readonly bytes: number;
}

export function layOutFrame(body: Body, homeConflicts: readonly ReadonlySet<number>[]): Frame {
  const { conflicts, used } = slotConflicts(body);
  const slots = body.source.slots.map(({ size, align }, id) => (used.has(id) ? { size, align } : undefined));
  const below = pack(slots, conflicts, 0);
  const homes = pack(
    homeConflicts.map(() => ({ size: 8, align: 8 })),
    homeConflicts,
    Math.ceil(below.end / 8) * 8,
  );
  const bytes = Math.ceil(homes.end / 8) * 8;
  if (bytes > MAX_STACK) throw tooLarge(body.source, below.end, homes.end - below.end);
  return { slots: below.places, homes: homes.places.map((place) => place!), bytes };
}

export interface FrameUse {
  readonly name: string;
  readonly bytes: number;
  readonly calls: readonly string[];
  readonly at: IrFunction['at'];
}

/** Bytes of the deepest chain of calls, as the kernel counts them. */
export function deepestChain(functions: readonly FrameUse[]): number {
  const byName = new Map(functions.map((one) => [one.name, one]));
  const share = ({ bytes }: FrameUse): number => Math.ceil(Math.max(bytes, 1) / FRAME_UNIT) * FRAME_UNIT;
  const deepest = (one: FrameUse, above: readonly FrameUse[]): readonly FrameUse[] => {
    if (above.includes(one)) throw new EmitError(`Cannot compile ${one.name}: it calls itself`, one.at);
    const chain = [...above, one];
    const chains = one.calls.map((name) => deepest(byName.get(name)!, chain));
    const total = (links: readonly FrameUse[]): number => links.reduce((sum, link) => sum + share(link), 0);
    return chains.reduce((best, other) => (total(other) > total(best) ? other : best), chain);
  };
  // Timer callbacks are called by nobody here and start a stack of their own.
  const called = new Set(functions.flatMap(({ calls }) => calls));
  let most = 0;
  for (const root of functions.filter(({ name }, index) => index === 0 || !called.has(name))) {
    const chain = deepest(root, []);
    const only = chain.length === 1;
    const bytes = only ? root.bytes : chain.reduce((sum, link) => sum + share(link), 0);
    if (bytes > MAX_STACK) {
      const links = chain.map((link) => `${link.name} ${share(link)}`).join(' -> ');
      throw new EmitError(
        `Cannot fit the stack of ${root.name}: the calls ${links} need ${bytes} bytes, must be <= ${MAX_STACK}`,
        root.at,
      );
    }
    most = Math.max(most, bytes);
  }
  return most;
}

function tooLarge({ name, at, slots }: IrFunction, slotBytes: number, homeBytes: number): EmitError {
  const largest = [...slots].sort((a, b) => b.size - a.size).slice(0, 3);
  const sizes = largest.map(({ size }) => size).join(', ');
  return new EmitError(
    `Cannot fit the stack of ${name}: structs on the stack take ${slotBytes} bytes (the largest ${sizes}) ` +
      `and ${homeBytes} are needed for values at once alive, must be <= ${MAX_STACK} together`,
    at,
  );
}

/** First fit, the largest first. `end` is the lowest byte's distance from the frame pointer. */
function pack(
  things: readonly ({ readonly size: number; readonly align: number } | undefined)[],
  conflicts: readonly ReadonlySet<number>[],
  start: number,
): { places: (number | undefined)[]; end: number } {
  const places = things.map((): number | undefined => undefined);
  const order = things.map((_, id) => id).filter((id) => things[id] !== undefined);
  order.sort((a, b) => things[b]!.size - things[a]!.size || a - b);
  let end = start;
  for (const id of order) {
    const { size, align } = things[id]!;
    const fit = (at: number): number => Math.ceil((at + size) / align) * align;
    let place = fit(start);
    const others = [...conflicts[id]!]
      .filter((other) => places[other] !== undefined)
      .sort((a, b) => places[a]! - places[b]!);
    for (const other of others) {
      // `other` covers the bytes from its place, exclusive of its size, downwards.
      const top = places[other]! - things[other]!.size;
      if (place > top && place - size < places[other]!) place = fit(places[other]!);
    }
    places[id] = place;
    end = Math.max(end, place);
  }
  return { places, end };
}

/** Which slots are in use at the same time, and which are used at all. */
function slotConflicts(body: Body): { conflicts: Set<number>[]; used: Set<number> } {
  const count = body.source.slots.length;
  const conflicts = Array.from({ length: count }, () => new Set<number>());
  const used = new Set<number>();
  const mentions = mentionsOf(body);
  const { before, after } = reach(body, mentions, count);
  const atOnce = (slots: ReadonlySet<number>, here: readonly number[]): void => {
    for (const a of here) {
      for (const b of slots) {
        if (a === b) continue;
        conflicts[a]!.add(b);
        conflicts[b]!.add(a);
      }
    }
  };
  body.blocks.forEach((_, id) => {
    const steps = mentions.inBlock[id]!;
    const alive = new Set<number>(mentions.escaped);
    // Slots that live across the start of the block.
    const through = (slot: number): boolean =>
      !body.source.slots[slot]!.scratch && before[id]!.has(slot) && after[id]!.has(slot);
    const last = new Map<number, number>();
    steps.forEach((slots, index) => {
      for (const slot of slots) last.set(slot, index);
    });
    for (let slot = 0; slot < count; slot++) if (through(slot)) alive.add(slot);
    atOnce(alive, [...alive]);
    const outlives = (slot: number): boolean =>
      mentions.escaped.has(slot) ||
      (!body.source.slots[slot]!.scratch && successors(body.blocks[id]!.end).some((next) => after[next]!.has(slot)));
    const leaving = new Map<number, number[]>();
    for (const [slot, index] of last) if (!outlives(slot)) leaving.set(index, [...(leaving.get(index) ?? []), slot]);
    steps.forEach((slots, index) => {
      const entering = slots.filter((slot) => !alive.has(slot));
      for (const slot of slots) {
        alive.add(slot);
        used.add(slot);
      }
      atOnce(alive, entering);
      for (const slot of leaving.get(index) ?? []) alive.delete(slot);
    });
  });
  return { conflicts, used };
}

interface Mentions {
  /** For each block and instruction, the slots that it may touch. */
  readonly inBlock: readonly (readonly (readonly number[])[])[];
  readonly escaped: ReadonlySet<number>;
}

function mentionsOf(body: Body): Mentions {
  const { of, escaped, touched } = pointsTo(body);
  const inBlock = body.blocks.map(({ instructions, end }) => [
    ...instructions.map((one) => [...touched(one)]),
    usedByEnd(end).flatMap((reg) => [...of(reg)]),
  ]);
  return { inBlock, escaped };
}

/** The slots mentioned on some way to the start of each block, and on some way from it. */
function reach(body: Body, { inBlock }: Mentions, count: number): { before: BitSet[]; after: BitSet[] } {
  const here = inBlock.map((steps) => {
    const set = new BitSet(count);
    for (const slots of steps) for (const slot of slots) set.add(slot);
    return set;
  });
  const before = here.map(() => new BitSet(count));
  const after = here.map((set) => set.clone());
  const preceding = predecessors(body.blocks);
  for (let changed = true; changed; ) {
    changed = false;
    body.blocks.forEach(({ end }, id) => {
      for (const from of preceding[id]!) {
        if (before[id]!.addAll(before[from]!)) changed = true;
        if (before[id]!.addAll(here[from]!)) changed = true;
      }
      for (const next of successors(end)) if (after[id]!.addAll(after[next]!)) changed = true;
    });
  }
  return { before, after };
}
