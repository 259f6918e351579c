/**
 * The back end: from the IR of a module to the blueprint of its maps and programs.
 *
 *     IR -> optimise -> select -> assignRegisters -> layOutFrame -> emitProgram -> spec
 *           (Body)      (machine code on            (bytes below    (slots, jumps,
 *                        virtual, then machine       r10)            relocations)
 *                        registers)
 *
 * Nothing here asks the machine it runs on: equal IR gives equal bytes.
 */
import { encode } from '../../assembler/assembler.ts';
import type { CollectionSpec, ProgramSpec } from '../../spec.ts';
import type { Instruction, IrFunction, IrModule, IrProgram } from '../ir.ts';
import { type Body, bodyOf, type PacketFields } from './body.ts';
import { CollectionBtf } from './btf.ts';
import { emitProgram, type PlacedFunction } from './emission.ts';
import { mergeEndings } from './merge-blocks.ts';
import { optimise } from './optimise.ts';
import { assignRegisters } from './registers.ts';
import { select } from './select.ts';
import { deepestChain, layOutFrame } from './stack.ts';

export { EmitError } from './error.ts';

/** Where `data` and `data_end` lie in `__sk_buff` and `xdp_md`. */
const PACKET_FIELDS: Readonly<Record<IrProgram['type'], Omit<PacketFields, 'context'> | undefined>> = {
  tc: { data: 76, end: 80 },
  xdp: { data: 0, end: 4 },
  syscall: undefined,
};

const TAIL_CALL = 12;
const TIMER_SET_CALLBACK = 170;

export function emit(module: IrModule): CollectionSpec {
  const btf = new CollectionBtf(module);
  const maps = module.maps.map((map) => btf.map(map));
  const programs = module.programs.map((program) => emitOne(program, btf));
  return {
    format: 1,
    maps,
    programs,
    files: module.files,
    btf: base64(btf.bytes()),
    lineStrings: btf.lineStrings,
  };
}

/** A function as the back end leaves the IR: for dumps and for tests of the passes. */
export function optimised(source: IrFunction, type: IrProgram['type']): Body {
  const fields = source.kind === 'entry' ? PACKET_FIELDS[type] : undefined;
  const context = source.params[0];
  const body = bodyOf(source, fields === undefined || context === undefined ? undefined : { context, ...fields });
  optimise(body);
  return body;
}

function emitOne(program: IrProgram, btf: CollectionBtf): ProgramSpec {
  const bodies = reachable(program.functions.map((one) => optimised(one, program.type)));
  const placed = bodies.map(placeFunction);
  const frames = placed.map(({ frame }, i) => {
    const { name, at } = bodies[i]!.source;
    const tailCalls = bodies[i]!.blocks.some(({ instructions }) => instructions.some(isTailCall));
    return { name, bytes: frame.bytes, calls: callsOf(bodies[i]!), tailCalls, at };
  });
  const { insns, relocations, functions, lines } = emitProgram(placed);
  for (const { file, line } of lines) btf.line(file, line);
  return {
    name: program.name,
    type: program.type,
    instructions: base64(encode(insns)),
    relocations,
    functions: functions.map((one, i) => ({ ...one, typeId: btf.function(bodies[i]!.source, program.type) })),
    lines,
    stackBytes: deepestChain(frames),
  };
}

function placeFunction(body: Body): PlacedFunction {
  const { machine, homes } = assignRegisters(select(body));
  return { machine: mergeEndings(machine), frame: layOutFrame(body, homes) };
}

function isTailCall(one: Instruction): boolean {
  return one.op === 'call' && one.helper === TAIL_CALL;
}

/** The verifier refuses functions that nobody calls, and optimisation may have removed the last call. */
function reachable(bodies: readonly Body[]): Body[] {
  const named = new Set([bodies[0]!.source.name]);
  for (const name of named) {
    const body = bodies.find(({ source }) => source.name === name);
    for (const { instructions } of body?.blocks ?? []) {
      for (const one of instructions)
        if (one.op === 'callFunction' || one.op === 'functionAddress') named.add(one.name);
    }
  }
  return bodies.filter(({ source }) => named.has(source.name));
}

/** Functions that run while this one does. A timer's callback does not: it has a stack of its own. */
function callsOf(body: Body): string[] {
  const calls = new Set<string>();
  const addresses = new Map<number, string>();
  const later = new Set<number>();
  for (const { instructions } of body.blocks) {
    for (const one of instructions) {
      if (one.op === 'callFunction') calls.add(one.name);
      if (one.op === 'functionAddress') addresses.set(one.dst, one.name);
      if (one.op !== 'call' || one.helper !== TIMER_SET_CALLBACK) continue;
      for (const arg of one.args) if ('reg' in arg) later.add(arg.reg);
    }
  }
  for (const [reg, name] of addresses) if (!later.has(reg)) calls.add(name);
  return [...calls];
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64');
}
