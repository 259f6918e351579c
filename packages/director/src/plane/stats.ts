/**
 * Counters as operators read them: sums over the CPUs since they were last set to zero.
 *
 * The packet path counts at the real server only. A service's counters are the sum of its real servers' and of what those
 * counted that have left it; the director's are the sum over all services there are and were.
 */
import { bytesOf, hashMap, type MapStore, u32 } from '@ipvsd/bpf';
import { Traffic, traffic } from '@ipvsd/ipvs';
import { noFigures, type Rates, type Stats } from '../model.ts';
import type { Plane } from './plane.ts';

/** What the counters said when they were last set to zero, by number of the real server. */
export const serverBases = hashMap('server_bases', u32, Traffic, { maxEntries: 131_072, noPreallocation: true });
/** What real servers counted that have left, by index of the service; TOTAL for the services that have. */
export const serviceCarries = hashMap('service_carries', u32, Traffic, { maxEntries: 32_768, noPreallocation: true });
const TOTAL = 0xffff_ffff;

export interface Figures {
  readonly stats: Stats;
  readonly rates: Rates;
}

const indexKey = (index: number): Uint8Array => new Uint8Array(Uint32Array.of(index).buffer);
const FIELDS = ['connections', 'inPackets', 'outPackets', 'inBytes', 'outBytes'] as const;

export class StatsReader {
  readonly #traffic: MapStore;
  readonly #bases: MapStore;
  readonly #carries: MapStore;

  constructor(plane: Plane) {
    this.#traffic = plane.store(traffic);
    this.#bases = plane.store(serverBases);
    this.#carries = plane.store(serviceCarries);
  }

  server(number: number): Figures {
    return { stats: this.#since(number), rates: noFigures };
  }

  service(index: number, numbers: readonly number[]): Figures {
    const own = numbers.map((number) => this.#since(number));
    return { stats: addStats(this.#carry(index), ...own), rates: noFigures };
  }

  resetServer(number: number): void {
    this.#bases.update(indexKey(number), encode(this.#counted(number)));
  }

  resetService(index: number): void {
    this.#carries.delete(indexKey(index));
  }

  /** A real server leaves: what it counted stays with the service, and with itself in case it returns. */
  leave(number: number, service: number): void {
    this.#setCarry(service, addStats(this.#carry(service), this.#since(number)));
  }

  /** It returns from the trash with its counts. */
  comeBack(number: number, service: number): void {
    this.#setCarry(service, subtract(this.#carry(service), this.#since(number)));
  }

  /** A service is removed: what it counted stays with the director. */
  removeService(index: number): void {
    this.#setCarry(TOTAL, addStats(this.#carry(TOTAL), this.#carry(index)));
    this.#carries.delete(indexKey(index));
  }

  /** What the services counted that are no more. */
  removed(): Stats {
    return this.#carry(TOTAL);
  }

  /** Set to zero what a service and its real servers counted. */
  zeroService(index: number, numbers: readonly number[]): void {
    for (const number of numbers) this.resetServer(number);
    this.resetService(index);
  }

  zeroTotal(): void {
    this.#carries.delete(indexKey(TOTAL));
  }

  #setCarry(index: number, stats: Stats): void {
    this.#carries.update(indexKey(index), encode(stats));
  }

  #since(number: number): Stats {
    const base = this.#bases.lookup(indexKey(number));
    const counted = this.#counted(number);
    return base === null ? counted : subtract(counted, decode(base));
  }

  #counted(number: number): Stats {
    return addStats(...this.#traffic.lookupPerCpu(indexKey(number)).map(decode));
  }

  #carry(index: number): Stats {
    const carry = this.#carries.lookup(indexKey(index));
    return carry === null ? noFigures : decode(carry);
  }
}

const decode = (bytes: Uint8Array): Stats => {
  const { connections, inPackets, outPackets, inBytes, outBytes } = Traffic.on(bytes);
  return { connections, inPackets, outPackets, inBytes, outBytes };
};

const encode = (stats: Stats): Uint8Array => bytesOf(Traffic.create(stats));

function combine(a: Stats, b: Stats, with_: (x: bigint, y: bigint) => bigint): Stats {
  const entries = FIELDS.map((field) => [field, BigInt.asUintN(64, with_(a[field], b[field]))] as const);
  return Object.fromEntries(entries) as unknown as Stats;
}

export const addStats = (...parts: readonly Stats[]): Stats =>
  parts.reduce((sum, part) => combine(sum, part, (x, y) => x + y), noFigures);
const subtract = (a: Stats, b: Stats): Stats => combine(a, b, (x, y) => x - y);
