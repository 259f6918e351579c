/**
 * What clang leaves: an object file, of which one section's code, its functions and its references to maps are wanted.
 *
 * Conventions of bench/c: all functions lie in section "tc", the program first; `map_NAME` is a map, `value_NAME` the value of a
 * map of one element.
 */
import type { CollectionSpec, FunctionInfo, MapSpec, ProgramSpec, Relocation } from '@ipvsd/bpf';
import { BtfBuilder } from '@ipvsd/bpf/kernel';

const SECTION = 'tc';
const SYMBOL_TABLE = 2;
const RELOCATIONS = 9;
const R_BPF_64_64 = 1;
const STT_FUNC = 2;
const PSEUDO_FUNC = 4;

interface Section {
  readonly name: string;
  readonly type: number;
  readonly link: number;
  readonly info: number;
  readonly bytes: Uint8Array;
}

interface Symbol {
  readonly name: string;
  readonly kind: number;
  readonly section: number;
  readonly value: number;
}

/** A program from an object file, to be loaded with maps of these shapes. */
export function readObject(file: Uint8Array, maps: readonly MapSpec[]): CollectionSpec {
  const sections = readSections(file);
  const code = sections.findIndex(({ name }) => name === SECTION);
  const symbols = readSymbols(sections);
  const functions = symbols
    .filter(({ kind, section }) => kind === STT_FUNC && section === code)
    .sort((a, b) => a.value - b.value);
  const [entry] = functions;
  if (entry === undefined || entry.value !== 0) {
    throw new Error(`Cannot read the object file: section "${SECTION}" does not begin with its program`);
  }
  const instructions = sections[code]!.bytes.slice();
  const relocations = relocate(instructions, sections, code, symbols);
  const { btf, infos } = describeFunctions(functions);
  const program: ProgramSpec = {
    name: entry.name.slice(0, 15),
    type: 'tc',
    instructions: Buffer.from(instructions).toString('base64'),
    relocations,
    functions: infos,
    lines: [],
    stackBytes: 0,
  };
  const used = new Set(relocations.map(({ map }) => map));
  return {
    format: 1,
    maps: maps.filter(({ name }) => used.has(name)),
    programs: [program],
    files: [],
    btf,
    lineStrings: {},
  };
}

function relocate(
  code: Uint8Array,
  sections: readonly Section[],
  at: number,
  symbols: readonly Symbol[],
): Relocation[] {
  const view = new DataView(code.buffer, code.byteOffset);
  const relocations: Relocation[] = [];
  for (const section of sections) {
    if (section.type !== RELOCATIONS || section.info !== at) continue;
    const entries = new DataView(section.bytes.buffer, section.bytes.byteOffset, section.bytes.length);
    for (let i = 0; i < section.bytes.length; i += 16) {
      const offset = Number(entries.getBigUint64(i, true));
      const type = entries.getUint32(i + 8, true);
      const symbol = symbols[entries.getUint32(i + 12, true)]!;
      const instruction = offset / 8;
      const addend = view.getInt32(offset + 4, true);
      if (type !== R_BPF_64_64) throw new Error(`Cannot read the object file: relocation ${type} of ${symbol.name}`);
      const [, kind, map] = /^(map|value)_(.+)$/.exec(symbol.name) ?? [];
      if (map !== undefined) {
        setSource(code, offset, kind === 'map' ? 1 : 2);
        relocations.push(
          kind === 'map' ? { kind: 'map', instruction, map } : { kind: 'mapValue', instruction, map, offset: addend },
        );
      } else {
        // The address of a callback: as a distance in instructions.
        setSource(code, offset, PSEUDO_FUNC);
        view.setInt32(offset + 4, (symbol.value + addend) / 8 - instruction - 1, true);
      }
    }
  }
  return relocations;
}

function setSource(code: Uint8Array, offset: number, source: number): void {
  code[offset + 1] = (code[offset + 1]! & 0x0f) | (source << 4);
}

/** The kernel wants to know each function of a program that has callbacks. */
function describeFunctions(functions: readonly Symbol[]): { btf: string; infos: FunctionInfo[] } {
  const builder = new BtfBuilder();
  const context = builder.pointer(builder.struct('__sk_buff', 0, []));
  const main = builder.prototype(builder.scalar('i32'), [{ name: 'ctx', type: context }]);
  const nothing = builder.pointer(0);
  const step = builder.prototype(builder.scalar('i64'), [
    { name: 'i', type: builder.scalar('u32') },
    { name: 'context', type: nothing },
  ]);
  const infos = functions.map(({ name, value }, i) => ({
    instruction: value / 8,
    name,
    typeId: builder.function(name, i === 0 ? main : step, i === 0 ? 'global' : 'static'),
  }));
  return { btf: Buffer.from(builder.bytes()).toString('base64'), infos };
}

function readSections(file: Uint8Array): Section[] {
  const view = new DataView(file.buffer, file.byteOffset, file.length);
  const table = Number(view.getBigUint64(0x28, true));
  const [size, count, names] = [0x3a, 0x3c, 0x3e].map((at) => view.getUint16(at, true)) as [number, number, number];
  const raw = Array.from({ length: count }, (_, i) => {
    const at = table + i * size;
    const offset = Number(view.getBigUint64(at + 24, true));
    const bytes = Number(view.getBigUint64(at + 32, true));
    const type = view.getUint32(at + 4, true);
    return {
      nameAt: view.getUint32(at, true),
      type,
      link: view.getUint32(at + 40, true),
      info: view.getUint32(at + 44, true),
      bytes: file.subarray(offset, offset + bytes),
    };
  });
  return raw.map(({ nameAt, ...section }) => ({ name: textAt(raw[names]!.bytes, nameAt), ...section }));
}

function readSymbols(sections: readonly Section[]): Symbol[] {
  const table = sections.find(({ type }) => type === SYMBOL_TABLE)!;
  const names = sections[table.link]!.bytes;
  const view = new DataView(table.bytes.buffer, table.bytes.byteOffset, table.bytes.length);
  return Array.from({ length: table.bytes.length / 24 }, (_, i) => ({
    name: textAt(names, view.getUint32(i * 24, true)),
    kind: view.getUint8(i * 24 + 4) & 15,
    section: view.getUint16(i * 24 + 6, true),
    value: Number(view.getBigUint64(i * 24 + 8, true)),
  }));
}

function textAt(bytes: Uint8Array, at: number): string {
  return new TextDecoder().decode(bytes.subarray(at, bytes.indexOf(0, at)));
}
