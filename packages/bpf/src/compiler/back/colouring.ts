/**
 * Gives registers by colouring the interference graph (Chaitin, Briggs): copies are joined where that cannot make colouring
 * harder, nodes with few neighbours are set aside, the rest is tried optimistically and what finds no colour is spilled.
 *
 * Values that live across a call interfere with r0 to r5, which calls define; so they find themselves in r6 to r9.
 */
import type { Interference } from './interference.ts';
import { ALLOCATABLE, VIRTUAL } from './machine.ts';

export interface Colouring {
  /** The machine register of each virtual one. */
  readonly colours: readonly number[];
  /** Virtual registers that found none; those joined by copies stay together. */
  readonly spilled: readonly (readonly number[])[];
}

/** The cost of what must have a register. */
export const NEVER = Number.POSITIVE_INFINITY;

export interface Wishes {
  /** What it would cost to keep a register in memory, or `NEVER`. */
  readonly costs: readonly number[];
  /** The context likes r6, as in all BPF code. */
  readonly preferred: ReadonlyMap<number, number>;
}

/** Arguments are wanted in r1 to r5 and results in r0, but those wishes come through copies; r6 is left for the context. */
const ORDER = [1, 2, 3, 4, 5, 0, 7, 8, 9, 6] as const;

export function colour(graph: Interference, wishes: Wishes): Colouring {
  const nodes = new Nodes(graph, wishes);
  nodes.join();
  return nodes.assign();
}

class Nodes {
  readonly #neighbours: Set<number>[];
  readonly #copies: Interference['copies'];
  readonly #wishes: Wishes;
  /** The node that a register was joined to; itself while it stands alone. */
  readonly #joined: number[];

  constructor({ neighbours, copies }: Interference, wishes: Wishes) {
    this.#neighbours = neighbours.map((set) => new Set(set));
    this.#copies = [...copies].sort((a, b) => b.weight - a.weight);
    this.#wishes = wishes;
    this.#joined = neighbours.map((_, reg) => reg);
  }

  /** Copies become one node, the most frequent first; each may make room for another. */
  join(): void {
    for (let changed = true; changed; ) {
      changed = false;
      for (const { dst, src } of this.#copies) {
        const [a, b] = [this.#find(dst), this.#find(src)].sort((x, y) => x - y) as [number, number];
        // r10 is everyone's neighbour in spirit: it cannot be written.
        if (a === b || a >= ALLOCATABLE === a < VIRTUAL || this.#neighbours[a]!.has(b) || b < VIRTUAL) continue;
        if (!this.#isSafe(a, b)) continue;
        this.#merge(a, b);
        changed = true;
      }
    }
  }

  assign(): Colouring {
    const order = this.#simplify();
    const colours = this.#joined.map((_, reg) => (reg < ALLOCATABLE ? reg : -1));
    const partners = this.#partners();
    const failed = new Map<number, number[]>();
    for (const node of order.reverse()) {
      const taken = new Set([...this.#neighbours[node]!].map((other) => colours[other]!));
      const free = ORDER.filter((reg) => !taken.has(reg));
      const best = free[0] === undefined ? undefined : this.#choose(node, free, partners.get(node) ?? [], colours);
      if (best === undefined) failed.set(node, []);
      else colours[node] = best;
    }
    for (let reg = VIRTUAL; reg < this.#joined.length; reg++) {
      const node = this.#find(reg);
      failed.get(node)?.push(reg);
      colours[reg] = colours[node]!;
    }
    return { colours, spilled: [...failed.values()] };
  }

  /** The register of a partner in a copy, or else one that partners without a register may take as well. */
  #choose(node: number, free: readonly number[], partners: readonly number[], colours: readonly number[]): number {
    const given = partners.map((other) => colours[this.#find(other)]!);
    const liked = [this.#wishes.preferred.get(node), ...given].find((reg) => reg !== undefined && free.includes(reg));
    if (liked !== undefined) return liked;
    let best = free[0]!;
    let most = -1;
    const waiting = partners.filter((_, i) => given[i] === -1);
    const taken = waiting.map((other) => new Set([...this.#neighbours[this.#find(other)]!].map((t) => colours[t]!)));
    for (const reg of free) {
      const fits = taken.filter((set) => !set.has(reg)).length;
      if (fits <= most) continue;
      best = reg;
      most = fits;
    }
    return best;
  }

  #find(reg: number): number {
    let root = reg;
    while (this.#joined[root] !== root) root = this.#joined[root]!;
    this.#joined[reg] = root;
    return root;
  }

  /** Whether the joined node can still be coloured if the parts could. A machine register counts as full of neighbours. */
  #isSafe(a: number, b: number): boolean {
    if (a < VIRTUAL) {
      // George: whoever minds b minds a already, or minds little.
      return [...this.#neighbours[b]!].every(
        (t) => t < VIRTUAL || this.#degree(t) < ALLOCATABLE || this.#neighbours[t]!.has(a),
      );
    }
    // Briggs: the joined node has few weighty neighbours.
    let weighty = 0;
    for (const t of new Set([...this.#neighbours[a]!, ...this.#neighbours[b]!])) {
      const common = this.#neighbours[a]!.has(t) && this.#neighbours[b]!.has(t);
      if (t < VIRTUAL || this.#degree(t) - (common ? 1 : 0) >= ALLOCATABLE) weighty++;
    }
    return weighty < ALLOCATABLE;
  }

  #degree(node: number): number {
    return this.#neighbours[node]!.size;
  }

  #merge(into: number, node: number): void {
    this.#joined[node] = into;
    for (const other of this.#neighbours[node]!) {
      this.#neighbours[other]!.delete(node);
      this.#neighbours[other]!.add(into);
      this.#neighbours[into]!.add(other);
    }
    this.#neighbours[node]!.clear();
  }

  /** The order of giving up: nodes that are sure to find a colour first, else the one that is cheapest in memory. */
  #simplify(): number[] {
    const degrees = this.#neighbours.map((set) => set.size);
    const rest = new Set<number>();
    // A node may be kept in memory if any of the registers that copies have joined in it may.
    const costs = new Array<number>(this.#joined.length).fill(NEVER);
    for (let reg = VIRTUAL; reg < this.#joined.length; reg++) {
      const node = this.#find(reg);
      const cost = this.#wishes.costs[reg]!;
      if (cost !== NEVER) costs[node] = cost + (costs[node] === NEVER ? 0 : costs[node]!);
      if (node === reg) rest.add(reg);
    }
    const order: number[] = [];
    const easy = [...rest].filter((node) => degrees[node]! < ALLOCATABLE);
    const take = (node: number): void => {
      rest.delete(node);
      order.push(node);
      for (const other of this.#neighbours[node]!) {
        if (--degrees[other]! === ALLOCATABLE - 1 && rest.has(other)) easy.push(other);
      }
    };
    while (rest.size > 0) {
      const node = easy.pop();
      if (node !== undefined) {
        if (rest.has(node)) take(node);
        continue;
      }
      let cheapest = -1;
      let price = Number.POSITIVE_INFINITY;
      for (const candidate of rest) {
        const mine = costs[candidate]! / degrees[candidate]!;
        if (cheapest === -1 || mine < price) {
          cheapest = candidate;
          price = mine;
        }
      }
      take(cheapest);
    }
    return order;
  }

  /** Copies that could not be joined may still get the same register by choice; the most frequent first. */
  #partners(): Map<number, number[]> {
    const partners = new Map<number, number[]>();
    const add = (node: number, other: number): void => {
      const known = partners.get(node);
      if (known === undefined) partners.set(node, [other]);
      else known.push(other);
    };
    for (const { dst, src } of this.#copies) {
      const a = this.#find(dst);
      const b = this.#find(src);
      if (a === b) continue;
      add(a, b);
      add(b, a);
    }
    return partners;
  }
}
