/**
 * One IR function under construction: registers, blocks, stack slots, and the flow that instructions are added to.
 *
 * A view that may be null usually meets its null test at once. So after a bounds check the two outcomes stay apart for a
 * moment (`pending`): the flow goes on where the view exists, and the flow where it is null waits. A null test takes it;
 * anything else first joins the two, with 0 in the view's register. That way no null is materialised only to be tested.
 */
import type ts from 'typescript';
import { CompileError, diagnosticAt, type Message, placeOf, relatedAt, say } from '../diagnostics.ts';
import type {
  Base,
  Block,
  Condition,
  Instruction,
  IrFunction,
  Operand,
  Position,
  Register,
  Slot,
  Terminator,
} from '../ir.ts';
import type { Captures } from './captures.ts';
import { entryFlow, type Flow, forkFlow, meetFlows } from './flow.ts';
import type { Frame } from './frame.ts';
import { type Bounds, exactly, intersect, type Range, seen, UNKNOWN } from './range.ts';
import type { ProgramContext, Unit } from './unit.ts';
import { type ConstantValue, isScalar, type ScalarKind, type ScalarValue, type Value } from './value.ts';

type WithoutPosition<T> = T extends unknown ? Omit<T, 'at'> : never;
export type NewInstruction = WithoutPosition<Instruction>;

interface OpenBlock {
  readonly instructions: Instruction[];
  end: Terminator | undefined;
}

interface Pending {
  readonly reg: Register;
  readonly nullFlow: Flow;
}

/** The kernel's limit for a function and all it calls. */
const STACK_BYTES = 512;
const MOST_INSTRUCTIONS = 200_000;

export class FunctionLowering {
  readonly program: ProgramContext;
  readonly unit: Unit;
  readonly name: string;
  readonly kind: IrFunction['kind'];
  readonly params: Register[] = [];
  readonly slots: Slot[] = [];
  /** The function whose loop body this is. */
  readonly parent: FunctionLowering | undefined;
  /** What a loop body received from the function around. */
  captures: Captures | undefined;
  /** Registers of variables that loop bodies or local functions assign. */
  readonly shared = new Set<Register>();
  /** Registers that hold packet pointers. */
  readonly packetBases = new Set<Register>();
  /** Registers that are assigned again: who keeps their value copies it. */
  readonly mutable = new Set<Register>();
  /** Whether a packet may move in here. */
  moves = false;
  context: IrFunction['context'];
  at: Position;
  frame!: Frame;
  readonly #blocks: OpenBlock[] = [];
  readonly #bounds: Bounds[] = [];
  readonly #names = new Map<Register, string>();
  readonly #position: Position;
  /** Instructions to put before all others: loads of what a loop body captured. */
  readonly #prologue: Instruction[] = [];
  readonly #useLogs: Map<Register, ts.Node>[] = [];
  #flow: Flow | undefined;
  #pending: Pending | undefined;
  #count = 0;

  constructor(
    program: ProgramContext,
    name: string,
    kind: IrFunction['kind'],
    node: ts.Node,
    parent: FunctionLowering | undefined = undefined,
  ) {
    this.program = program;
    this.unit = program.unit;
    this.name = name;
    this.kind = kind;
    this.parent = parent;
    this.#position = this.unit.positionOf(node);
    this.at = this.#position;
    this.#flow = entryFlow(this.newBlock());
  }

  finish(): IrFunction {
    const blocks = this.#reachableBlocks();
    blocks[0]?.instructions.unshift(...this.#prologue);
    return {
      name: this.name,
      params: this.params,
      kind: this.kind,
      ...(this.context !== undefined && { context: this.context }),
      registerCount: this.#bounds.length,
      registerNames: this.#names,
      slots: this.slots,
      blocks,
      at: this.#position,
    };
  }

  // Errors -----------------------------------------------------------------------------------------------------------

  fail(node: ts.Node, message: Message, related: { readonly at: Position; readonly text: string }[] = []): never {
    const places = related.map(({ at, text }) => ({
      text,
      file: this.unit.files[at.file]!.fileName,
      line: at.line,
      column: at.column,
    }));
    for (
      let frame: Frame | undefined = this.frame;
      frame?.callSite !== undefined && places.length < 4;
      frame = frame.caller
    ) {
      places.push(relatedAt(placeOf(frame.callSite), 'called from'));
    }
    const diagnostic = diagnosticAt(placeOf(node), message, places);
    // An argument that does not fit is an error at the call itself.
    const [first] = places;
    if (first?.file === diagnostic.file && first?.line === diagnostic.line) places.shift();
    throw new CompileError(diagnostic);
  }

  // Registers --------------------------------------------------------------------------------------------------------

  newRegister(bounds: Bounds = { range: UNKNOWN, known: UNKNOWN }, name?: string): Register {
    const reg = this.#bounds.push(bounds) - 1;
    if (name !== undefined) this.#names.set(reg, name);
    return reg;
  }

  nameRegister(reg: Register, name: string): void {
    if (!this.#names.has(reg)) this.#names.set(reg, name);
  }

  boundsOfRegister(reg: Register): Bounds {
    return this.#flow?.bounds.get(reg) ?? this.#bounds[reg]!;
  }

  /** What holds wherever the register is used. */
  ownBounds(reg: Register): Bounds {
    return this.#bounds[reg]!;
  }

  setOwnBounds(reg: Register, bounds: Bounds): void {
    this.#bounds[reg] = bounds;
  }

  /** Bounds of a number, bigint, boolean or be value, also of a constant one. */
  boundsOf(value: ScalarValue | ConstantValue): Bounds {
    if (value.kind !== 'constant') return this.boundsOfRegister(value.reg);
    return seen(exactly(BigInt(value.value as number | bigint | boolean)));
  }

  /** What is known of a register after an assignment or a test on this flow. */
  setBounds(reg: Register, bounds: Bounds): void {
    this.#flow?.bounds.set(reg, bounds);
  }

  /** A scalar in a new register. */
  scalar(kind: ScalarKind, bounds: Bounds): ScalarValue {
    return { kind, reg: this.newRegister(bounds) };
  }

  /** A value that later assignments to variables cannot change. */
  stable(value: Value, name?: string): Value {
    if (isScalar(value) && this.mutable.has(value.reg)) {
      const copy = this.scalar(value.kind, this.boundsOfRegister(value.reg));
      this.emit({ op: 'move', dst: copy.reg, src: value.reg });
      if (name !== undefined) this.nameRegister(copy.reg, name);
      return copy;
    }
    if ((value.kind === 'view' || value.kind === 'elements' || value.kind === 'timer') && 'reg' in value.base) {
      if (!this.mutable.has(value.base.reg)) return value;
      return { ...value, base: { reg: this.copyPointer(value.base.reg) } };
    }
    return value;
  }

  copyPointer(from: Register): Register {
    const reg = this.newRegister();
    this.emit({ op: 'move', dst: reg, src: from });
    this.inherit(reg, from);
    return reg;
  }

  /** A pointer made from another: as stale, as much of the packet, as null as that one. */
  inherit(reg: Register, from: Register): void {
    if (this.packetBases.has(from)) this.packetBases.add(reg);
    if (this.#flow === undefined) return;
    const moved = this.#flow.stale.get(from);
    if (moved === undefined) this.#flow.stale.delete(reg);
    else this.#flow.stale.set(reg, moved);
    if (this.#flow.nonNull.has(from)) this.#flow.nonNull.add(reg);
    else this.#flow.nonNull.delete(reg);
  }

  // Instructions -----------------------------------------------------------------------------------------------------

  emit(instruction: NewInstruction): void {
    this.settle();
    if (this.#flow === undefined) return;
    if (++this.#count > MOST_INSTRUCTIONS) {
      throw new CompileError(diagnosticAt(placeOf(this.frame.node), say.tooManyInstructions(MOST_INSTRUCTIONS)));
    }
    this.#blocks[this.#flow.block]!.instructions.push({ ...instruction, at: this.at } as Instruction);
  }

  emitPrologue(instruction: NewInstruction): void {
    this.#prologue.push({ ...instruction, at: this.#position } as Instruction);
  }

  /** Run `lower` with instructions attributed to `node`. */
  located<T>(node: ts.Node, lower: () => T): T {
    const before = this.at;
    this.at = this.unit.positionOf(node);
    try {
      return lower();
    } finally {
      this.at = before;
    }
  }

  // Control flow -----------------------------------------------------------------------------------------------------

  get isReachable(): boolean {
    return this.#flow !== undefined;
  }

  /** The current flow, for going back to after an error. */
  get flow(): Flow | undefined {
    return this.#flow;
  }

  get registerCount(): number {
    return this.#bounds.length;
  }

  newBlock(): number {
    return this.#blocks.push({ instructions: [], end: undefined }) - 1;
  }

  /** Stop adding to the current flow and hand it over. */
  takeFlow(): Flow | undefined {
    this.settle();
    const flow = this.#flow;
    this.#flow = undefined;
    return flow;
  }

  /** Go on at `flow`; undefined: what follows is unreachable and is not lowered. */
  resume(flow: Flow | undefined): void {
    this.#pending = undefined;
    this.#flow = flow;
  }

  /** Run `lower` at `flow`, then give the flow it ended in. */
  within(flow: Flow | undefined, lower: () => void): Flow | undefined {
    this.resume(flow);
    if (flow !== undefined) lower();
    return this.takeFlow();
  }

  goto(flow: Flow, to: number): void {
    this.#end(flow, { op: 'goto', to, at: this.at });
  }

  /** One flow after any of several. */
  join(flows: readonly (Flow | undefined)[]): Flow | undefined {
    const open = flows.filter((flow) => flow !== undefined);
    if (open.length <= 1) return open[0];
    const block = this.newBlock();
    const met = meetFlows(open, block, (reg) => this.#bounds[reg]!);
    for (const flow of open) this.goto(flow, block);
    return met;
  }

  /** Ends the current flow in a test; the flows of both outcomes know nothing new yet. */
  branch(condition: Condition, width: 32 | 64, a: Operand, b: Operand): { yes: Flow; no: Flow } | undefined {
    const flow = this.takeFlow();
    if (flow === undefined) return undefined;
    const yes = forkFlow(flow, this.newBlock());
    const no = forkFlow(flow, this.newBlock());
    // biome-ignore lint/suspicious/noThenProperty: a block number, not a promise
    this.#end(flow, { op: 'if', condition, width, a, b, then: yes.block, else: no.block, at: this.at });
    return { yes, no };
  }

  /** Ends the current flow in a jump to a new block that loops may come back to. */
  loopHead(): Flow | undefined {
    const flow = this.takeFlow();
    if (flow === undefined) return undefined;
    const head = forkFlow(flow, this.newBlock());
    this.goto(flow, head.block);
    return head;
  }

  return(value: Operand): void {
    const flow = this.takeFlow();
    if (flow !== undefined) this.#end(flow, { op: 'return', value, at: this.at });
  }

  // Nulls ------------------------------------------------------------------------------------------------------------

  /** The current flow is where `reg` points somewhere; on `nullFlow` it is null and not yet set to 0. */
  setPending(reg: Register, nullFlow: Flow): void {
    this.settle();
    if (this.#flow === undefined) {
      this.#flow = nullFlow;
      return;
    }
    this.#flow.nonNull.add(reg);
    this.#pending = { reg, nullFlow };
  }

  /** The waiting null flow of `reg`, if there is one; the current flow is then the other outcome. */
  takePending(reg: Register): Flow | undefined {
    if (this.#pending?.reg !== reg) return undefined;
    const { nullFlow } = this.#pending;
    this.#pending = undefined;
    return nullFlow;
  }

  /** The same with the null as a 0 in its register: it may be tested again where this flow has met another. */
  takeNull(reg: Register): Flow | undefined {
    const nullFlow = this.takePending(reg);
    if (nullFlow !== undefined) this.#setToNull(reg, nullFlow);
    return nullFlow;
  }

  isPending(reg: Register): boolean {
    return this.#pending?.reg === reg;
  }

  /** Join a waiting null flow: from here on the null is a 0 in its register. */
  settle(): void {
    const pending = this.#pending;
    if (pending === undefined) return;
    this.#pending = undefined;
    this.#setToNull(pending.reg, pending.nullFlow);
    this.#flow = this.join([this.#flow, pending.nullFlow]);
  }

  #setToNull(reg: Register, { block }: Flow): void {
    this.#blocks[block]!.instructions.push({ op: 'const', dst: reg, value: 0n, at: this.at });
  }

  isNonNull(base: Base): boolean {
    return 'slot' in base || this.#flow?.nonNull.has(base.reg) === true;
  }

  setNonNull(reg: Register): void {
    this.#flow?.nonNull.add(reg);
  }

  setMaybeNull(reg: Register): void {
    this.#flow?.nonNull.delete(reg);
  }

  // Staleness --------------------------------------------------------------------------------------------------------

  /** A helper that can move the packet was called. */
  packetMoved(): void {
    this.moves = true;
    if (this.#flow === undefined) return;
    for (const reg of this.packetBases) this.#flow.stale.set(reg, this.at);
  }

  setFresh(reg: Register): void {
    this.#flow?.stale.delete(reg);
  }

  staleSince(reg: Register): Position | undefined {
    return this.#flow?.stale.get(reg);
  }

  /** Note a use of a pointer, for loops: what a later round finds stale was used too early. */
  noteUse(reg: Register, node: ts.Node): void {
    for (const log of this.#useLogs) if (!log.has(reg)) log.set(reg, node);
  }

  /** First uses of pointers while `lower` runs. */
  loggingUses(lower: () => void): ReadonlyMap<Register, ts.Node> {
    const log = new Map<Register, ts.Node>();
    this.#useLogs.push(log);
    try {
      lower();
    } finally {
      this.#useLogs.splice(this.#useLogs.indexOf(log), 1);
    }
    return log;
  }

  // Stack ------------------------------------------------------------------------------------------------------------

  /** A slot of its own for each struct: the back end finds out which of them may lie over each other. */
  newSlot(size: number, node: ts.Node): number {
    const rounded = Math.ceil(size / 8) * 8;
    if (rounded > STACK_BYTES) this.fail(node, say.stackTooLarge(size));
    return this.slots.push({ size: rounded, align: 8, scratch: false }) - 1;
  }

  /** A slot for the arguments of one call. */
  newScratch(size: number): number {
    return this.slots.push({ size: Math.ceil(size / 4) * 4, align: size >= 8 ? 8 : 4, scratch: true }) - 1;
  }

  // Ends of blocks ---------------------------------------------------------------------------------------------------

  #end(flow: Flow, end: Terminator): void {
    this.#blocks[flow.block]!.end = end;
  }

  /** Blocks that the entry reaches, renumbered in the order they were made. */
  #reachableBlocks(): Block[] {
    const reached = new Set<number>();
    const visit = [0];
    for (let id = visit.pop(); id !== undefined; id = visit.pop()) {
      if (reached.has(id)) continue;
      reached.add(id);
      const { end } = this.#blocks[id]!;
      if (end === undefined) throw new Error(`block ${id} of ${this.name} has no end`);
      if (end.op === 'goto') visit.push(end.to);
      if (end.op === 'if') visit.push(end.then, end.else);
    }
    const numbers = new Map([...reached].sort((a, b) => a - b).map((id, index) => [id, index]));
    return [...numbers].map(([id, number]) => {
      const { instructions, end } = this.#blocks[id]!;
      return { id: number, instructions, end: renumbered(end!, numbers) };
    });
  }
}

function renumbered(end: Terminator, numbers: ReadonlyMap<number, number>): Terminator {
  if (end.op === 'goto') return { ...end, to: numbers.get(end.to)! };
  // biome-ignore lint/suspicious/noThenProperty: a block number, not a promise
  if (end.op === 'if') return { ...end, then: numbers.get(end.then)!, else: numbers.get(end.else)! };
  return end;
}

/** Bounds after a test on a flow. The ranges left a doubt, or there would be no test: something is always left. */
export function narrowFlow(
  flow: Flow,
  reg: Register,
  own: Bounds,
  by: { range: Range; known: Range | undefined },
): void {
  const bounds = flow.bounds.get(reg) ?? own;
  const range = intersect(bounds.range, by.range) ?? bounds.range;
  const known = by.known === undefined ? bounds.known : (intersect(bounds.known, by.known) ?? by.known);
  flow.bounds.set(reg, { range, known });
}
