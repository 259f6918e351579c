/** Collections from hand-assembled instructions, for tests of the loader without a compiler. */

import { encode, type Insn } from '../assembler/index.ts';
import { BtfBuilder } from '../kernel/btf.ts';
import type { CollectionSpec, LineInfo, MapSpec, ProgramSpec, ProgramType, Relocation } from '../spec.ts';

export interface HandMade {
  readonly name?: string;
  readonly type?: ProgramType;
  readonly insns: readonly Insn[];
  readonly relocations?: readonly Relocation[];
  readonly lines?: readonly LineInfo[];
  /** Functions after the entry, by their first slot. */
  readonly functions?: Readonly<Record<string, number>>;
}

export function mapSpec(spec: Partial<MapSpec> & Pick<MapSpec, 'name' | 'type'>): MapSpec {
  return { keySize: 4, valueSize: 4, maxEntries: 1, flags: 0, keyTypeId: 0, valueTypeId: 0, ...spec };
}

/** `btf` may hold the types of the maps already; prototypes and source lines are added to it. */
export function collection(
  programs: readonly HandMade[],
  maps: readonly MapSpec[] = [],
  files: CollectionSpec['files'] = [],
  btf: BtfBuilder = new BtfBuilder(),
): CollectionSpec {
  const lineStrings: Record<string, number> = {};
  for (const [i, file] of files.entries()) {
    lineStrings[`file:${i}`] = btf.string(file.path);
    for (const [line, text] of file.text.split('\n').entries())
      lineStrings[`${i}:${line + 1}`] = btf.string(text.trim());
  }
  const specs = programs.map((program): ProgramSpec => programSpec(program, btf));
  return {
    format: 1,
    maps,
    programs: specs,
    files,
    btf: programs.length === 0 ? '' : base64(btf.bytes()),
    lineStrings,
  };
}

function programSpec(program: HandMade, btf: BtfBuilder): ProgramSpec {
  const name = program.name ?? 'test';
  const context = btf.pointer(btf.struct('__sk_buff', 0, []));
  const entry = btf.function(name, btf.prototype(btf.scalar('i32'), [{ name: 'ctx', type: context }]), 'global');
  const callback = btf.prototype(btf.scalar('i64'), [
    { name: 'a', type: btf.pointer(0) },
    { name: 'b', type: btf.pointer(0) },
    { name: 'c', type: btf.pointer(0) },
  ]);
  return {
    name,
    type: program.type ?? 'tc',
    instructions: base64(encode(program.insns)),
    relocations: program.relocations ?? [],
    functions: [
      { instruction: 0, name, typeId: entry },
      ...Object.entries(program.functions ?? {}).map(([fn, instruction]) => ({
        instruction,
        name: fn,
        typeId: btf.function(fn, callback, 'static'),
      })),
    ],
    lines: program.lines ?? [],
    stackBytes: 0,
  };
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64');
}
