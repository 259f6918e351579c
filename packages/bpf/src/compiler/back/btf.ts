/**
 * Type information for a collection: keys and values of the maps, prototypes of the functions, and the source lines as
 * strings, which is how `bpftool prog dump xlated linum` comes to show TypeScript.
 */
import { BtfBuilder, btfName, type TypeId, VOID } from '../../kernel/btf.ts';
import type { MapSpec } from '../../spec.ts';
import type { IrFunction, IrMap, IrModule, IrProgram, IrStruct, Register } from '../ir.ts';

const CONTEXTS: Readonly<Record<IrProgram['type'], string>> = { tc: '__sk_buff', xdp: 'xdp_md', syscall: 'void' };
/** Map types whose keys and values the kernel refuses to hear about. */
const UNTYPED: ReadonlySet<IrMap['type']> = new Set(['progArray', 'queue', 'stack', 'ringBuffer']);

export class CollectionBtf {
  readonly #builder = new BtfBuilder();
  readonly #structs: ReadonlyMap<string, IrStruct>;
  readonly #files: readonly { readonly path: string; readonly lines: readonly string[] }[];
  readonly lineStrings: Record<string, number> = {};

  constructor({ structs, files }: IrModule) {
    this.#structs = new Map(structs.map((one) => [one.name, one]));
    this.#files = files.map(({ path, text }) => ({ path, lines: text.split('\n') }));
  }

  map({ name, type, keySize, valueSize, maxEntries, flags, keyType, valueType, programs }: IrMap): MapSpec {
    const typed = keyType !== undefined && valueType !== undefined && !UNTYPED.has(type);
    const keyTypeId = typed ? this.#type(keyType) : 0;
    const valueTypeId = typed ? this.#type(valueType) : 0;
    const table = programs === undefined ? {} : { programs };
    return { name, type, keySize, valueSize, maxEntries, flags, keyTypeId, valueTypeId, ...table };
  }

  /** The verifier looks at global functions by themselves: programs, and subprograms that are to be. All others it follows from their callers. */
  function({ name, kind, params, context }: IrFunction, type: IrProgram['type']): TypeId {
    const builder = this.#builder;
    const anything = builder.pointer(VOID);
    const contextType = type === 'syscall' ? anything : builder.pointer(builder.struct(CONTEXTS[type], 0, []));
    if (kind === 'entry') {
      return builder.function(
        btfName(name),
        builder.prototype(builder.scalar('i32'), [{ name: 'ctx', type: contextType }]),
        'global',
      );
    }
    const isContext = (param: Register): boolean => kind === 'alone' && param === context;
    const parameters = params.map((param, i) => ({
      name: `p${i}`,
      type: kind === 'callback' ? anything : isContext(param) ? contextType : builder.scalar('u64'),
    }));
    return builder.function(
      btfName(name),
      builder.prototype(builder.scalar(kind === 'callback' ? 'i64' : 'u64'), parameters),
      kind === 'alone' ? 'global' : 'static',
    );
  }

  /** Makes the text of a source line available to the loader. */
  line(file: number, line: number): void {
    const source = this.#files[file];
    this.lineStrings[`file:${file}`] ??= this.#builder.string(source?.path ?? '');
    this.lineStrings[`${file}:${line}`] ??= this.#builder.string(source?.lines[line - 1]?.trim() ?? '');
  }

  bytes(): Uint8Array {
    return this.#builder.bytes();
  }

  #type(name: string): TypeId {
    const builder = this.#builder;
    if (name === 'bpf_timer') return builder.timer();
    if (name === 'bpf_spin_lock') return builder.spinLock();
    const struct = this.#structs.get(name);
    if (struct === undefined) return builder.scalar(name);
    const fields = struct.fields.map((field) => {
      const element = this.#type(field.type);
      const type = field.count === undefined ? element : builder.array(element, field.count);
      return { name: btfName(field.name), type, offset: field.offset };
    });
    return builder.struct(btfName(struct.name), struct.size, fields);
  }
}
