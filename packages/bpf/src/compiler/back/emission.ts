/**
 * Placed machine code becomes instruction slots: blocks in a row, jumps by distance, the functions of a program behind
 * each other, calls between them resolved, maps left to the loader as relocations.
 */

import type { Insn } from '../../assembler/assembler.ts';
import * as bpf from '../../assembler/assembler.ts';
import type { FunctionInfo, LineInfo, Relocation } from '../../spec.ts';
import type { Position } from '../ir.ts';
import { EmitError } from './error.ts';
import { INVERTED } from './evaluate.ts';
import type {
  MachineBlock,
  MachineEnd,
  MachineFunction,
  MachineIf,
  MachineInstruction,
  Place,
  Source,
} from './machine.ts';
import { machineBranch, retargetMachine } from './machine.ts';
import type { Frame } from './stack.ts';

export interface PlacedFunction {
  readonly machine: MachineFunction;
  readonly frame: Frame;
}

export interface Emitted {
  readonly insns: readonly Insn[];
  readonly relocations: readonly Relocation[];
  readonly functions: readonly Omit<FunctionInfo, 'typeId'>[];
  readonly lines: readonly LineInfo[];
}

/** Slots that do not know yet how far it is: to a block of the same function, or to a function. */
interface Jump {
  readonly slot: number;
  readonly to: number;
  /** A jump over 32 bits, for functions beyond 32,767 slots (Linux 6.6). */
  readonly far: boolean;
}

export function emitProgram(functions: readonly PlacedFunction[]): Emitted {
  const program = new Emission();
  for (const { machine, frame } of functions) program.function(machine, frame);
  return program.link();
}

class Emission {
  readonly #insns: Insn[] = [];
  #relocations: Relocation[] = [];
  readonly #functions: Omit<FunctionInfo, 'typeId'>[] = [];
  readonly #lines: LineInfo[] = [];
  #calls: { readonly slot: number; readonly name: string; readonly at: Position }[] = [];

  function(machine: MachineFunction, frame: Frame): void {
    const start = this.#insns.length;
    this.#functions.push({ instruction: start, name: machine.source.name });
    const blocks = withoutEmptyBlocks(machine.blocks);
    const lines = this.#lines.length;
    if (this.#emit(blocks, frame, false)) return;
    // Somewhere a jump is longer than 16 bits: all over again with long ones.
    this.#insns.length = start;
    this.#lines.length = lines;
    this.#relocations = this.#relocations.filter(({ instruction }) => instruction < start);
    this.#calls = this.#calls.filter(({ slot }) => slot < start);
    this.#emit(blocks, frame, true);
  }

  link(): Emitted {
    const starts = new Map(this.#functions.map(({ name, instruction }) => [name, instruction]));
    for (const { slot, name, at } of this.#calls) {
      const start = starts.get(name);
      if (start === undefined) throw new EmitError(`Cannot call ${name}: the program has no such function`, at);
      this.#insns[slot] = { ...this.#insns[slot]!, imm: start - slot - 1 };
    }
    return { insns: this.#insns, relocations: this.#relocations, functions: this.#functions, lines: this.#lines };
  }

  /** False when a jump did not fit. */
  #emit(blocks: readonly MachineBlock[], frame: Frame, far: boolean): boolean {
    const starts: number[] = [];
    const jumps: Jump[] = [];
    let line: Position | undefined;
    const note = (at: Position): void => {
      if (line?.line === at.line && line.file === at.file) return;
      line = at;
      this.#lines.push({ instruction: this.#insns.length, file: at.file, line: at.line, column: at.column });
    };
    blocks.forEach(({ code, end }, id) => {
      starts[id] = this.#insns.length;
      for (const one of code) {
        note(one.at);
        this.#instruction(one, frame);
      }
      const before = this.#insns.length;
      const lineBefore = line;
      note(end.at);
      this.#end(end, id + 1, jumps, far);
      // Falling through leaves no instruction to speak of.
      if (this.#insns.length === before && line !== lineBefore) {
        this.#lines.pop();
        line = lineBefore;
      }
    });
    for (const jump of jumps) {
      const distance = starts[jump.to]! - jump.slot - 1;
      if (!jump.far && (distance < -0x8000 || distance > 0x7fff)) return false;
      const one = this.#insns[jump.slot]!;
      this.#insns[jump.slot] = jump.far ? { ...one, imm: distance } : { ...one, offset: distance };
    }
    return true;
  }

  #instruction(one: MachineInstruction, frame: Frame): void {
    const push = (...insns: readonly Insn[]): void => {
      this.#insns.push(...insns);
    };
    switch (one.op) {
      case 'alu':
        push((one.width === 64 ? bpf.alu64 : bpf.alu32)(one.kind, one.dst, sourceOf(one.src)));
        return;
      case 'swap':
        push(bpf.toBigEndian(one.dst, one.bits));
        return;
      case 'constant':
        push(...bpf.ldImm64(one.dst, one.value));
        return;
      case 'load': {
        const { base, offset } = addressOf(one.base, one.offset, frame);
        push(bpf.ldx(one.size, one.dst, base, offset));
        return;
      }
      case 'store': {
        const { base, offset } = addressOf(one.base, one.offset, frame);
        push(
          'reg' in one.src ? bpf.stx(one.size, base, offset, one.src.reg) : bpf.st(one.size, base, offset, one.src.imm),
        );
        return;
      }
      case 'atomic': {
        const { base, offset } = addressOf(one.base, one.offset, frame);
        push(bpf.atomic(one.kind, one.size, base, offset, one.src, one.fetch));
        return;
      }
      case 'slotAddress': {
        const { base, offset } = addressOf({ slot: one.slot }, one.offset, frame);
        push(bpf.mov64(one.dst, { reg: base }), bpf.alu64('add', one.dst, offset));
        return;
      }
      case 'mapAddress':
        this.#relocations.push({ kind: 'map', instruction: this.#insns.length, map: one.map });
        push(...bpf.ldMap(one.dst));
        return;
      case 'mapValueAddress':
        this.#relocations.push({ kind: 'mapValue', instruction: this.#insns.length, map: one.map, offset: one.offset });
        push(...bpf.ldMapValue(one.dst));
        return;
      case 'functionAddress':
        this.#calls.push({ slot: this.#insns.length, name: one.name, at: one.at });
        push(...bpf.ldFunction(one.dst, 0));
        return;
      case 'call':
        push(bpf.call(one.helper));
        return;
      case 'callFunction':
        this.#calls.push({ slot: this.#insns.length, name: one.name, at: one.at });
        push(bpf.callFunction(0));
    }
  }

  /** Falls through to `next` where it can. */
  #end(end: MachineEnd, next: number, jumps: Jump[], far: boolean): void {
    switch (end.op) {
      case 'exit':
        this.#insns.push(bpf.exit());
        return;
      case 'goto':
        if (end.to !== next) this.#goto(end.to, jumps, far);
        return;
      case 'if': {
        const test = fallingThrough(end, next);
        const branch = test.width === 64 ? bpf.jump64 : bpf.jump32;
        if (far) {
          // Over the long jump unless the condition holds; then past the one that is taken otherwise.
          this.#insns.push(branch(test.condition, test.a, sourceOf(test.b), 1));
          this.#insns.push(bpf.jump(1));
          this.#goto(test.then, jumps, far);
        } else {
          jumps.push({ slot: this.#insns.length, to: test.then, far });
          this.#insns.push(branch(test.condition, test.a, sourceOf(test.b), 0));
        }
        if (test.else !== next) this.#goto(test.else, jumps, far);
      }
    }
  }

  #goto(to: number, jumps: Jump[], far: boolean): void {
    jumps.push({ slot: this.#insns.length, to, far });
    this.#insns.push(far ? bpf.insn(bpf.CLASS.jmp32 | bpf.JUMP.always, 0, 0, 0, 0) : bpf.jump(0));
  }
}

/** The same test, turned so that the block that comes next is the one it does not jump to. */
function fallingThrough(end: MachineIf, next: number): MachineIf {
  const inverted = INVERTED[end.condition];
  if (end.then !== next || inverted === undefined) return end;
  return machineBranch({ ...end, condition: inverted }, end.else, end.then);
}

/** Blocks of which allocation left nothing are jumped past; numbers follow the places again. */
function withoutEmptyBlocks(blocks: readonly MachineBlock[]): MachineBlock[] {
  const final = (id: number): number => {
    const seen = new Set<number>();
    for (let at = id; ; ) {
      const { code, end } = blocks[at]!;
      if (code.length > 0 || end.op !== 'goto' || seen.has(at)) return at;
      seen.add(at);
      at = end.to;
    }
  };
  const reached = blocks.map(({ code, end, frequency }): MachineBlock => {
    const to = retargetMachine(end, final);
    const same = to.op === 'if' && to.then === to.else;
    return { code, end: same ? { op: 'goto', to: to.then, at: to.at } : to, frequency };
  });
  const kept = new Set([0]);
  for (const id of kept) {
    const { end } = reached[id]!;
    if (end.op === 'goto') kept.add(end.to);
    if (end.op === 'if') {
      kept.add(end.then);
      kept.add(end.else);
    }
  }
  const order = [...kept].sort((a, b) => a - b);
  const place = new Map(order.map((id, index) => [id, index]));
  return order.map((id) => {
    const block = reached[id]!;
    return { ...block, end: retargetMachine(block.end, (to) => place.get(to)!) };
  });
}

function addressOf(base: Place, offset: number, frame: Frame): { base: number; offset: number } {
  if ('reg' in base) return { base: base.reg, offset };
  const below = 'slot' in base ? frame.slots[base.slot]! : frame.homes[base.home]!;
  return { base: bpf.FRAME_POINTER, offset: offset - below };
}

function sourceOf(source: Source): bpf.Source {
  return 'reg' in source ? { reg: source.reg } : source.imm;
}
