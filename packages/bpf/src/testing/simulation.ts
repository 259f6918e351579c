/**
 * The kernel around a program, in Node: memory by address, maps, packets and helpers with the meaning that
 * `language/` gives them. Both interpreters, of eBPF instructions and of IR, run in it.
 *
 *     address:  region (32 bits) | offset (32 bits)
 *
 * Region 0 is no memory, so null and small numbers are invalid pointers. Moving the packet gives it a new region: a stale
 * pointer fails here as it would in the verifier.
 */
import * as language from '../language/helper.ts';
import { MapDefinition } from '../language/map.ts';
import { NodeMap } from '../language/node-map.ts';
import { u8, u32 } from '../language/scalar.ts';
import { type NodeSkb, SKB_FIELDS } from '../language/skb.ts';
import { array, bytesOf, type Fields, type Struct, struct, type View } from '../language/struct.ts';
import { type Surroundings, World } from '../language/world.ts';
import type { MapType } from '../spec.ts';

export interface SimulatedMap {
  readonly name: string;
  readonly type: MapType;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
}

/** Runs a function of the program: for bpf_loop. */
export type Callback = (name: string, args: readonly bigint[]) => bigint;

export interface Simulated {
  /** Constant surroundings unless told. */
  readonly surroundings?: Partial<Surroundings>;
  readonly maps?: readonly SimulatedMap[];
  /** Helpers that the test answers itself, by number. */
  readonly helpers?: Readonly<Record<number, (args: readonly bigint[], simulation: Simulation) => bigint>>;
}

type Region = () => Uint8Array;

const SHIFT = 32n;
const CONTEXT_BYTES = 192;
const DATA = 76;
const DATA_END = 80;

export class Simulation {
  readonly world: World;
  readonly #maps = new Map<string, NodeMap>();
  readonly #mapAddresses = new Map<string, bigint>();
  readonly #regions = new Map<bigint, Region>();
  readonly #regionOf = new WeakMap<ArrayBufferLike, bigint>();
  readonly #functions: string[] = [];
  readonly #helpers: NonNullable<Simulated['helpers']>;
  #nextRegion = 1n;
  #skb: NodeSkb | undefined;
  #packet = 0n;
  #packetBytes: Uint8Array | undefined;
  #context = 0n;

  constructor({ surroundings = {}, maps = [], helpers = {} }: Simulated) {
    this.world = new World({ now: () => 1_000_000_000n, random: () => 4, ...surroundings });
    this.#helpers = helpers;
    for (const map of maps) {
      const node = new NodeMap(definitionOf(map), map.maxEntries);
      this.#maps.set(map.name, node);
      this.#mapAddresses.set(
        map.name,
        this.region(() => new Uint8Array(0)),
      );
    }
  }

  /** The map as user space sees it. */
  map(name: string): NodeMap {
    const map = this.#maps.get(name);
    if (map === undefined) throw new Error(`Cannot find map "${name}" in the simulation`);
    return map;
  }

  /** Addresses from the one returned reach the bytes, whichever they are at the time. */
  region(bytes: Region): bigint {
    const id = this.#nextRegion++;
    this.#regions.set(id, bytes);
    return id << SHIFT;
  }

  /** Makes this packet the program's context, whose address is returned. */
  enter(skb: NodeSkb): bigint {
    this.#skb = skb;
    this.#mapPacket();
    this.#context = this.region(() => new Uint8Array(CONTEXT_BYTES));
    return this.#context;
  }

  mapAddress(name: string): bigint {
    this.map(name);
    return this.#mapAddresses.get(name)!;
  }

  mapValueAddress(name: string, offset: number): bigint {
    return this.#addressOf(bytesOf(this.map(name).elementView(0)!)) + BigInt(offset);
  }

  functionAddress(name: string): bigint {
    const known = this.#functions.indexOf(name);
    // No memory is there: only calling it makes sense.
    return (1n << 62n) + BigInt(known >= 0 ? known : this.#functions.push(name) - 1);
  }

  load(address: bigint, size: 1 | 2 | 4 | 8): bigint {
    const field = this.#contextField(address, size);
    if (field !== undefined) return field.get();
    const { view, at } = this.#resolve(address, size, 'load');
    if (size === 8) return view.getBigUint64(at, true);
    return BigInt(size === 4 ? view.getUint32(at, true) : size === 2 ? view.getUint16(at, true) : view.getUint8(at));
  }

  store(address: bigint, size: 1 | 2 | 4 | 8, value: bigint): void {
    const field = this.#contextField(address, size);
    if (field !== undefined) {
      field.set(Number(BigInt.asUintN(32, value)));
      return;
    }
    const { view, at } = this.#resolve(address, size, 'store');
    for (let i = 0; i < size; i++) view.setUint8(at + i, Number((value >> BigInt(8 * i)) & 255n));
  }

  call(helper: number, args: readonly bigint[], callback: Callback): bigint {
    const own = this.#helpers[helper];
    const result = own === undefined ? this.world.run(() => this.#builtIn(helper, args, callback)) : own(args, this);
    return BigInt.asUintN(64, BigInt(result));
  }

  #builtIn(helper: number, args: readonly bigint[], callback: Callback): bigint | number {
    const [a = 0n, b = 0n, c = 0n, d = 0n, e = 0n] = args;
    const word = (value: bigint): number => Number(BigInt.asUintN(32, value));
    const int = (value: bigint): number => Number(BigInt.asIntN(32, value));
    const skb = (): NodeSkb => {
      if (a !== this.#context || this.#skb === undefined) throw new Error(`Helper ${helper} wants the context`);
      return this.#skb;
    };
    const moving = (result: number): number => {
      this.#mapPacket();
      return result;
    };
    switch (helper) {
      case 1:
        return this.#lookup(a, b);
      case 2: {
        const map = this.#mapAt(a);
        return map.updateFrom(this.#key(map, b), this.#view(c, map.valueSize), int(d));
      }
      case 3: {
        const map = this.#mapAt(a);
        return map.deleteKey(this.#key(map, b));
      }
      case 5:
      case 160:
        return this.world.surroundings.now();
      case 7:
        return language.randomU32();
      case 8:
        return language.cpuId();
      case 9:
        return moving(language.storeBytes(skb(), word(b), this.#view(c, word(d)), word(e)));
      case 10:
        return moving(language.l3CsumReplace(skb(), word(b), word(c), word(d), word(e)));
      case 11:
        return moving(language.l4CsumReplace(skb(), word(b), word(c), word(d), word(e)));
      case 23:
        return this.#redirecting(() => language.redirect(word(a), word(b)));
      case 26:
        return language.loadBytes(skb(), word(b), this.#view(c, word(d)));
      case 28: {
        const part = (address: bigint, size: bigint): object | null =>
          address === 0n ? null : this.#view(address, word(size));
        return language.csumDiff(part(a, b), part(c, d), word(e));
      }
      case 31:
        return moving(language.changeProtocol(skb(), (word(b) & 0xffff) as never, word(c)));
      case 38:
        return moving(language.changeTail(skb(), word(b), word(c)));
      case 39:
        return moving(language.pullData(skb(), word(b)));
      case 50:
        return moving(language.adjustRoom(skb(), int(b), word(c), word(d)));
      case 69:
        return language.fibLookup(skb(), this.#view(b, word(c)) as never, word(d));
      case 87:
        return this.#mapAt(a).push(this.#view(b, this.#mapAt(a).valueSize), word(c));
      case 88:
        return this.#mapAt(a).pop(this.#view(b, this.#mapAt(a).valueSize));
      case 130:
        return this.#mapAt(a).output(this.#view(b, word(c)), word(d));
      case 152: {
        const next = b === 0n ? null : this.#view(b, word(c));
        return this.#redirecting(() => language.redirectNeigh(word(a), next as never, word(d)));
      }
      case 155:
        return this.#redirecting(() => language.redirectPeer(word(a), word(b)));
      case 181:
        return this.#loop(word(a), this.#functionAt(b), c, callback);
      default:
        throw new Error(`Cannot call helper ${helper}: the simulation has none`);
    }
  }

  #loop(count: number, name: string, context: bigint, callback: Callback): number {
    for (let i = 0; i < count; i++) if (callback(name, [BigInt(i), context]) !== 0n) return i + 1;
    return count;
  }

  #redirecting(what: () => number): number {
    if (this.#skb === undefined) throw new Error('Cannot redirect: there is no packet');
    return this.world.runTc({ run: what }, this.#skb);
  }

  #lookup(map: bigint, key: bigint): bigint {
    const node = this.#mapAt(map);
    const isArray = node.type === 'array' || node.type === 'percpuArray';
    const found = isArray ? node.elementView(Number(this.load(key, 4))) : node.lookupView(this.#key(node, key));
    return found === null ? 0n : this.#addressOf(bytesOf(found));
  }

  #key(map: NodeMap, address: bigint): unknown {
    return this.#view(address, map.keySize);
  }

  /** Live bytes at an address as a view, which is how the language's helpers take them. */
  #view(address: bigint, size: number): View<Fields> {
    const { view, at } = this.#resolve(address, size, 'read');
    return bytesStruct(size).on(new Uint8Array(view.buffer, view.byteOffset, view.byteLength), at);
  }

  #addressOf(bytes: Uint8Array): bigint {
    let base = this.#regionOf.get(bytes.buffer);
    if (base === undefined) {
      const whole = new Uint8Array(bytes.buffer);
      base = this.region(() => whole);
      this.#regionOf.set(bytes.buffer, base);
    }
    return base + BigInt(bytes.byteOffset);
  }

  #mapAt(address: bigint): NodeMap {
    for (const [name, at] of this.#mapAddresses) if (at === address) return this.map(name);
    throw new Error(`Cannot find a map at ${show(address)}`);
  }

  #functionAt(address: bigint): string {
    const name = this.#functions[Number(address - (1n << 62n))];
    if (name === undefined) throw new Error(`Cannot find a function at ${show(address)}`);
    return name;
  }

  #mapPacket(): void {
    const bytes = this.#skb!.bytes;
    this.#packetBytes = bytes;
    this.#packet = this.region(() => {
      if (this.#packetBytes !== bytes) throw new Error('Cannot use a packet pointer from before the packet moved');
      return bytes;
    });
  }

  #contextField(address: bigint, size: number): { get: () => bigint; set: (value: number) => void } | undefined {
    if (this.#context === 0n || address >> SHIFT !== this.#context >> SHIFT) return undefined;
    const offset = Number(address - this.#context);
    const skb = this.#skb!;
    if (size !== 4) throw new Error(`Cannot reach ${size} bytes of the context at ${offset}: fields have 4`);
    const readOnly = (): never => {
      throw new Error(`Cannot write the context at ${offset}`);
    };
    if (offset === DATA) return { get: () => this.#packet, set: readOnly };
    if (offset === DATA_END) return { get: () => this.#packet + BigInt(skb.bytes.length), set: readOnly };
    for (const [name, field] of Object.entries(SKB_FIELDS)) {
      if (field.offset !== offset) continue;
      const fields = skb as unknown as Record<string, number>;
      const set = field.writable ? (value: number) => Object.assign(skb, { [name]: value }) : readOnly;
      return { get: () => BigInt(fields[name]!), set };
    }
    throw new Error(`Cannot find a field of the context at ${offset}`);
  }

  #resolve(address: bigint, size: number, what: string): { view: DataView; at: number } {
    const bytes = this.#regions.get(address >> SHIFT)?.();
    const at = Number(address & 0xffff_ffffn);
    if (bytes === undefined || at + size > bytes.length) {
      throw new RangeError(`Cannot ${what} ${size} bytes at ${show(address)}: no memory is there`);
    }
    return { view: new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), at };
  }
}

function show(address: bigint): string {
  return `${address >> SHIFT}:${address & 0xffff_ffffn}`;
}

const structs = new Map<number, Struct<Fields>>();

function bytesStruct(size: number): Struct<Fields> {
  const known = structs.get(size) ?? struct(`bytes${size}`, { bytes: array(u8, size) });
  structs.set(size, known);
  return known;
}

function definitionOf(map: SimulatedMap): MapDefinition {
  const indexed = map.type === 'array' || map.type === 'percpuArray';
  const key = indexed ? u32 : map.keySize === 0 ? undefined : bytesStruct(map.keySize);
  const value = map.valueSize === 0 ? undefined : bytesStruct(map.valueSize);
  return new MapDefinition(map.type, map.name, key as never, value, { maxEntries: map.maxEntries });
}
