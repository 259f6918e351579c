/**
 * The graph of blocks: who follows whom, which blocks can be reached, which are one, and in what order they are laid out.
 *
 * The verifier refuses unreachable instructions, so dropping them is not only tidiness.
 */
import type { Block, Terminator } from '../ir.ts';
import type { Body } from './body.ts';
import { isRegister } from './instruction.ts';

export type If = Extract<Terminator, { op: 'if' }>;

export function successors(end: Terminator): number[] {
  if (end.op === 'goto') return [end.to];
  if (end.op === 'return') return [];
  return end.then === end.else ? [end.then] : [end.then, end.else];
}

export function predecessors(blocks: readonly Block[]): number[][] {
  const found: number[][] = blocks.map(() => []);
  for (const block of blocks) {
    for (const next of successors(block.end)) found[next]!.push(block.id);
  }
  return found;
}

export function retarget(end: Terminator, to: (block: number) => number): Terminator {
  if (end.op === 'return') return end;
  if (end.op === 'goto') return to(end.to) === end.to ? end : { ...end, to: to(end.to) };
  const then = to(end.then);
  const otherwise = to(end.else);
  return then === end.then && otherwise === end.else ? end : branch(end, then, otherwise);
}

/** The same test with other ways to go. */
export function branch(test: If, then: number, otherwise: number): If {
  return { ...test, then, else: otherwise };
}

/** Skips empty blocks, shares equal returns, joins straight lines, drops what cannot be reached. */
export function cleanControlFlow(body: Body): void {
  skipEmptyBlocks(body);
  returnAtOnce(body);
  shareReturns(body);
  joinStraightLines(body);
  dropUnreachable(body);
}

/** Blocks that can be reached, renumbered so that a block's id is its place. */
export function dropUnreachable(body: Body): void {
  const order = reversePostOrder(body.blocks);
  const place = new Map(order.map((id, index) => [id, index]));
  body.blocks = order.map((id, index) => {
    const { instructions, end } = body.blocks[id]!;
    return { id: index, instructions, end: retarget(end, (to) => place.get(to)!) };
  });
}

/**
 * Every block before its successors, but for the edges back to a loop's head; of two successors the likely one comes
 * first where it can, so that it is fallen through to.
 */
export function reversePostOrder(blocks: readonly Block[]): number[] {
  const seen = new Set<number>();
  const order: number[] = [];
  // An own stack instead of recursion: one function may have thousands of blocks in a row.
  const open: { id: number; rest: number[] }[] = [];
  const visit = (id: number): void => {
    if (seen.has(id)) return;
    seen.add(id);
    open.push({ id, rest: unlikelyFirst(blocks, blocks[id]!.end) });
  };
  visit(0);
  while (open.length > 0) {
    const top = open.at(-1)!;
    const next = top.rest.shift();
    if (next === undefined) {
      order.push(top.id);
      open.pop();
    } else {
      visit(next);
    }
  }
  return order.reverse();
}

/** How often a block runs, roughly: ten times more in each loop, a tenth behind each unlikely branch. */
export function frequencies(blocks: readonly Block[]): number[] {
  const depth = loopDepths(blocks);
  const unlikely = new Array<number>(blocks.length).fill(Number.POSITIVE_INFINITY);
  unlikely[0] = 0;
  for (const id of reversePostOrder(blocks)) {
    const end = blocks[id]!.end;
    const rare = end.op === 'if' ? unlikelyFirst(blocks, end)[0] : undefined;
    for (const next of successors(end)) {
      const steps = unlikely[id]! + (next === rare && isRare(blocks, end) ? 1 : 0);
      unlikely[next] = Math.min(unlikely[next]!, steps);
    }
  }
  return blocks.map((_, id) => 10 ** depth[id]! / 10 ** Math.min(unlikely[id]!, 3));
}

/** How many loops each block lies in. */
export function loopDepths(blocks: readonly Block[]): number[] {
  const order = reversePostOrder(blocks);
  const place = new Map(order.map((id, index) => [id, index]));
  const before = predecessors(blocks);
  const depth = new Array<number>(blocks.length).fill(0);
  const loops = new Map<number, Set<number>>();
  for (const id of order) {
    for (const head of successors(blocks[id]!.end)) {
      // In a reducible graph an edge against the order leads to the head of a loop.
      if (place.get(head)! > place.get(id)!) continue;
      const inside = loops.get(head) ?? new Set([head]);
      loops.set(head, inside);
      const open = [id];
      for (let at = open.pop(); at !== undefined; at = open.pop()) {
        if (inside.has(at)) continue;
        inside.add(at);
        open.push(...before[at]!.filter((p) => place.has(p)));
      }
    }
  }
  for (const inside of loops.values()) for (const id of inside) depth[id]!++;
  return depth;
}

/** Which of an `if`'s ways is the exception: finding nothing, or leaving at once. */
function unlikelyFirst(blocks: readonly Block[], end: Terminator): number[] {
  if (end.op !== 'if') return successors(end);
  return thenIsUnlikely(blocks, end) ? [end.then, end.else] : [end.else, end.then];
}

function thenIsUnlikely(blocks: readonly Block[], end: If): boolean {
  if (leaves(blocks, end.then) !== leaves(blocks, end.else)) return leaves(blocks, end.then);
  if (!isRegister(end.b) && end.b.imm === 0n) {
    if (end.condition === 'eq') return true;
    if (end.condition === 'ne') return false;
  }
  // What lowering makes of `if (bad) return` reads better when the rest of the function follows.
  return true;
}

function isRare(blocks: readonly Block[], end: Terminator): boolean {
  if (end.op !== 'if') return false;
  if (leaves(blocks, end.then) !== leaves(blocks, end.else)) return true;
  return (end.condition === 'eq' || end.condition === 'ne') && !isRegister(end.b) && end.b.imm === 0n;
}

/** Whether a block returns a constant at once, as error paths do. */
function leaves(blocks: readonly Block[], id: number): boolean {
  const { instructions, end } = blocks[id]!;
  return end.op === 'return' && !isRegister(end.value) && instructions.length <= 2;
}

function skipEmptyBlocks(body: Body): void {
  const final = (id: number): number => {
    // An endless loop of empty blocks must not hang the compiler.
    const seen = new Set<number>();
    let at = id;
    for (;;) {
      const { instructions, end } = body.blocks[at]!;
      if (instructions.length > 0 || end.op !== 'goto' || seen.has(at)) return at;
      seen.add(at);
      at = end.to;
    }
  };
  for (const block of body.blocks) {
    const end = retarget(block.end, final);
    block.end = end.op === 'if' && end.then === end.else ? { op: 'goto', to: end.then, at: end.at } : end;
  }
}

/** Going to a block that only returns is returning: what is returned may then turn out to be a constant. */
function returnAtOnce(body: Body): void {
  for (const block of body.blocks) {
    if (block.end.op !== 'goto') continue;
    const { instructions, end } = body.blocks[block.end.to]!;
    if (instructions.length === 0 && end.op === 'return') block.end = end;
  }
}

/** `return 0` from twenty places is one block. */
function shareReturns(body: Body): void {
  const first = new Map<string, number>();
  const shared = new Map<number, number>();
  for (const { id, instructions, end } of body.blocks) {
    if (instructions.length > 0 || end.op !== 'return' || isRegister(end.value)) continue;
    const key = String(BigInt.asIntN(64, end.value.imm));
    const known = first.get(key);
    if (known === undefined) first.set(key, id);
    else shared.set(id, known);
  }
  for (const block of body.blocks) block.end = retarget(block.end, (to) => shared.get(to) ?? to);
}

function joinStraightLines(body: Body): void {
  const entered = new Array<number>(body.blocks.length).fill(0);
  const reachable = reversePostOrder(body.blocks);
  for (const id of reachable) {
    for (const next of successors(body.blocks[id]!.end)) entered[next]!++;
  }
  for (const block of reachable.map((id) => body.blocks[id]!)) {
    for (;;) {
      const { end } = block;
      if (end.op !== 'goto' || end.to === block.id || end.to === 0 || entered[end.to] !== 1) break;
      const next = body.blocks[end.to]!;
      if (next.end.op === 'goto' && next.end.to === next.id) break;
      for (const one of next.instructions) block.instructions.push(one);
      block.end = next.end;
      // Nobody reaches it any more; it must not be joined to anything in its turn.
      next.instructions = [];
      next.end = { op: 'goto', to: next.id, at: next.end.at };
    }
  }
}
