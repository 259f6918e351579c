/**
 * A whole collection in the kernel: BTF once, then maps, then programs.
 *
 * With a pin folder, maps that are pinned there already are taken over with their contents, which is how a restart keeps
 * connections; the folder then is the truth, and a map of another shape is an error, never silently replaced.
 */

import { existsSync, mkdirSync } from 'node:fs';
import { Crew, errnoNumber } from '@ipvsd/linux';
import type { CollectionSpec, MapSpec, ProgramSpec } from '../spec.ts';
import { Attr, bpfError, closeFd, tryBpf } from './bpf-syscall.ts';
import { KernelMap } from './map.ts';
import { KernelProgram, type LoadContext } from './program.ts';

export interface LoadOptions {
  /** Sizes that differ from the spec's, by map. A map that is taken over keeps the size it has. */
  readonly maxEntries?: Readonly<Record<string, number>>;
  /** Folder on a BPF file system: maps are taken from there where they are, and pinned there where they are not. */
  readonly pinTo?: string;
  /** Maps that exist already, by name; they stay their owner's. */
  readonly reuseMaps?: ReadonlyMap<string, KernelMap>;
  /** Only these programs, with the maps that they use; all unless told. */
  readonly programs?: readonly string[];
  /** Ask for the verifier's log of each program, see `KernelProgram.log`. */
  readonly log?: 1 | 2 | 4;
}

/** As many programs are worth another thread. */
const MANY = 8;

export class Collection {
  readonly maps: ReadonlyMap<string, KernelMap>;
  readonly programs: ReadonlyMap<string, KernelProgram>;
  readonly #owned: readonly KernelMap[];

  constructor(
    maps: ReadonlyMap<string, KernelMap>,
    programs: ReadonlyMap<string, KernelProgram>,
    owned: readonly KernelMap[],
  ) {
    this.maps = maps;
    this.programs = programs;
    this.#owned = owned;
  }

  map(name: string): KernelMap {
    const map = this.maps.get(name);
    if (map === undefined) throw new Error(`Cannot find map "${name}": there are ${listNames(this.maps)}`);
    return map;
  }

  program(name: string): KernelProgram {
    const program = this.programs.get(name);
    if (program === undefined) throw new Error(`Cannot find program "${name}": there are ${listNames(this.programs)}`);
    return program;
  }

  /** Closes what was opened here. What is pinned or attached lives on in the kernel. */
  close(): void {
    for (const program of this.programs.values()) program.close();
    for (const map of this.#owned) map.close();
  }
}

export function loadCollection(spec: CollectionSpec, options: LoadOptions = {}): Collection {
  if (spec.format !== 1)
    throw new Error(`Cannot load the collection: its format is ${spec.format as number}, must be 1`);
  const maps = new Map<string, KernelMap>();
  const programs = new Map<string, KernelProgram>();
  const owned: KernelMap[] = [];
  const wanted = wantedPrograms(spec, options.programs);
  // It takes its time to begin, while the maps are made.
  const crew = wanted.length < MANY || options.log !== undefined ? undefined : new Crew();
  const btfFd = spec.btf === '' ? undefined : loadBtf(Buffer.from(spec.btf, 'base64'));
  try {
    for (const mapSpec of options.programs === undefined ? spec.maps : mapsOf(spec, wanted)) {
      const reused = options.reuseMaps?.get(mapSpec.name);
      if (reused !== undefined) checkShape(mapSpec, reused, 'the map given for it');
      const map = reused ?? openOrCreate(mapSpec, btfFd, options);
      if (reused === undefined) owned.push(map);
      maps.set(mapSpec.name, map);
    }
    const context: LoadContext = {
      maps,
      files: spec.files,
      lineStrings: spec.lineStrings,
      ...(btfFd === undefined ? {} : { btfFd }),
      ...(options.log === undefined ? {} : { log: options.log }),
    };
    const load = (program: ProgramSpec): KernelProgram => KernelProgram.load(program, context);
    if (crew === undefined) for (const program of wanted) programs.set(program.name, load(program));
    else for (const program of KernelProgram.loadAll(wanted, context, crew)) programs.set(program.name, program);
    fillTables(spec, maps, programs);
    return new Collection(maps, programs, owned);
  } catch (error) {
    new Collection(maps, programs, owned).close();
    throw error;
  } finally {
    crew?.dismiss();
    // Maps and programs hold the BTF themselves from here on.
    if (btfFd !== undefined) closeFd(btfFd);
  }
}

/** Program arrays get the programs that the build put in them; of those that were not asked for, none. */
function fillTables(
  spec: CollectionSpec,
  maps: ReadonlyMap<string, KernelMap>,
  programs: ReadonlyMap<string, KernelProgram>,
): void {
  for (const { name, programs: table = [] } of spec.maps) {
    for (const [index, programName] of table) {
      const program = programs.get(programName);
      if (program !== undefined) maps.get(name)?.setProgram(index, program);
    }
  }
}

/** Loads type information; the caller closes the file descriptor. */
export function loadBtf(bytes: Uint8Array): number {
  const attr = new Attr().pointer(0, bytes).u32(16, bytes.length);
  const result = tryBpf('BTF_LOAD', attr);
  if (result >= 0) return result;
  if (-result === errnoNumber('EPERM')) throw bpfError('load BTF', 'BTF_LOAD', -result);
  const log = new Uint8Array(1 << 20);
  const again = tryBpf('BTF_LOAD', attr.pointer(8, log).u32(20, log.length).u32(24, 1));
  if (again >= 0) return again;
  const text = new TextDecoder().decode(log.subarray(0, Math.max(0, log.indexOf(0))));
  const lastLine = text.trim().split('\n').at(-1);
  throw bpfError('load BTF', 'BTF_LOAD', -result, lastLine === '' ? undefined : `the kernel says: ${lastLine}`);
}

function openOrCreate(spec: MapSpec, btfFd: number | undefined, options: LoadOptions): KernelMap {
  const maxEntries = options.maxEntries?.[spec.name];
  const create = (): KernelMap =>
    KernelMap.create(spec, {
      ...(maxEntries === undefined ? {} : { maxEntries }),
      ...(btfFd === undefined ? {} : { btfFd }),
    });
  if (options.pinTo === undefined) return create();
  const path = `${options.pinTo}/${spec.name}`;
  if (existsSync(path)) return takeOver(spec, path);
  mkdirSync(options.pinTo, { recursive: true, mode: 0o700 });
  const map = create();
  try {
    map.pin(path);
    return map;
  } catch (error) {
    map.close();
    throw error;
  }
}

function takeOver(spec: MapSpec, path: string): KernelMap {
  const map = KernelMap.fromPin(path);
  try {
    checkShape(spec, map, path);
    return map;
  } catch (error) {
    map.close();
    throw error;
  }
}

function checkShape(spec: MapSpec, map: KernelMap, where: string): void {
  const parts = ['type', 'keySize', 'valueSize'] as const;
  const words = { type: 'type', keySize: 'key size', valueSize: 'value size' };
  const differences = parts
    .filter((part) => spec[part] !== map[part])
    .map((part) => `its ${words[part]} is ${map[part]}, must be ${spec[part]}`);
  if (differences.length > 0) throw new Error(`Cannot use ${where} as map "${spec.name}": ${differences.join('; ')}`);
}

function wantedPrograms(spec: CollectionSpec, names: readonly string[] | undefined): CollectionSpec['programs'] {
  if (names === undefined) return spec.programs;
  return names.map((name) => {
    const program = spec.programs.find((one) => one.name === name);
    if (program === undefined) throw new Error(`Cannot load program "${name}": the collection has none of that name`);
    return program;
  });
}

function mapsOf(spec: CollectionSpec, programs: CollectionSpec['programs']): CollectionSpec['maps'] {
  const used = new Set(programs.flatMap(({ relocations }) => relocations.map(({ map }) => map)));
  return spec.maps.filter(({ name }) => used.has(name));
}

function listNames(things: ReadonlyMap<string, unknown>): string {
  return things.size === 0 ? 'none' : [...things.keys()].join(', ');
}
