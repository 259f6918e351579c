/**
 * Counters and rates as operators read them: what the data plane published at its last tick (ipvs/service/statistics.ts),
 * since they were last set to zero.
 */
import { bytesOf, type MapDefinition, type MapStore } from '@ipvsd/bpf';
import {
  Figures,
  FiguresOrder,
  OF_ALL,
  OF_SERVER,
  OF_SERVICE,
  serverFigures,
  serviceFigures,
  totalFigures,
  zero,
} from '@ipvsd/ipvs';
import type { Rates, Stats } from '../model.ts';
import { indexKey } from './index-key.ts';
import type { Plane } from './plane.ts';

export interface Read {
  readonly stats: Stats;
  readonly rates: Rates;
}

export class StatsReader {
  readonly #plane: Plane;

  constructor(plane: Plane) {
    this.#plane = plane;
  }

  server(number: number): Read {
    return readFigures(this.#store(serverFigures).lookup(indexKey(number))!);
  }
  service(index: number): Read {
    return readFigures(this.#store(serviceFigures).lookup(indexKey(index))!);
  }
  total(): Read {
    return readFigures(this.#store(totalFigures).lookup(indexKey(0))!);
  }

  /** Set to zero what a service and its real servers counted. */
  zeroService(index: number, numbers: readonly number[]): void {
    for (const number of numbers) this.#zero(OF_SERVER, number);
    this.#zero(OF_SERVICE, index);
  }

  zeroTotal(): void {
    this.#zero(OF_ALL, 0);
  }

  /** A new service has counted nothing, whoever had its number before. */
  beginService(index: number): void {
    this.#store(serviceFigures).update(indexKey(index), bytesOf(Figures.create()));
  }

  #zero(kind: number, number: number): void {
    this.#plane.call(zero, FiguresOrder.create({ kind, number }));
  }

  #store(map: MapDefinition): MapStore {
    return this.#plane.store(map);
  }
}

/** What listings show of a map's value. */
export function readFigures(value: Uint8Array): Read {
  const { published, base, rates } = Figures.on(value);
  const since = (field: keyof Stats): bigint => BigInt.asUintN(64, published[field] - base[field]);
  return {
    stats: {
      connections: since('connections'),
      inPackets: since('inPackets'),
      outPackets: since('outPackets'),
      inBytes: since('inBytes'),
      outBytes: since('outBytes'),
    },
    rates: {
      connections: perSecond(rates.connections),
      inPackets: perSecond(rates.inPackets),
      outPackets: perSecond(rates.outPackets),
      inBytes: bytesPerSecond(rates.inBytes),
      outBytes: bytesPerSecond(rates.outBytes),
    },
  };
}

/** Out of the estimator's scales, rounded up from a half on less one. */
const perSecond = (rate: bigint): bigint => (rate + 0x1ffn) >> 10n;
const bytesPerSecond = (rate: bigint): bigint => (rate + 0xfn) >> 5n;
