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
import type { Body } from './body.ts';
import { EmitError } from './error.ts';
import { slotConflicts } from './slot-liveness.ts';

export const MAX_STACK = 512;
/** What the functions around one that makes a tail call may take, for the program called starts with a frame of its own. */
const MAX_BELOW_TAIL_CALL = 256;
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
  readonly tailCalls: boolean;
  readonly at: IrFunction['at'];
}

/** Bytes of the deepest chain of calls, as the kernel counts them. */
export function deepestChain(functions: readonly FrameUse[]): number {
  const byName = new Map(functions.map((one) => [one.name, one]));
  const share = ({ bytes }: FrameUse): number => Math.ceil(Math.max(bytes, 1) / FRAME_UNIT) * FRAME_UNIT;
  const deepest = (one: FrameUse, above: readonly FrameUse[]): readonly FrameUse[] => {
    if (above.includes(one)) throw new EmitError(`Cannot compile ${one.name}: it calls itself`, one.at);
    const chain = [...above, one];
    const below = above.reduce((sum, link) => sum + share(link), 0);
    if (one.tailCalls && below >= MAX_BELOW_TAIL_CALL) {
      throw new EmitError(
        `Cannot make a tail call in ${one.name}: its callers need ${below} bytes of stack, must be < ${MAX_BELOW_TAIL_CALL}`,
        one.at,
      );
    }
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
