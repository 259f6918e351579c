/**
 * The load generator: a process in the client's namespace that takes an order a line and gives a slice a line.
 *
 * New connections are one chain of requests to the kernel each; keep-alive requests are chains of two. The client closes
 * first, as browsers and most clients of services do, so TIME_WAIT is the client's and not the director's.
 */
import { createInterface } from 'node:readline';
import {
  CHUNK_BYTES,
  Fixed,
  type Load,
  type Order,
  REQUEST_BYTES,
  RESPONSE_BYTES,
  requestMemory,
  type Slice,
} from './protocol.ts';
import { ALONE, LINK, Ring, socketAddress } from './ring.ts';

const FILES = 1024;
const WORK = 0;
/** The socket of a chain that failed is closed on its own. */
const MEND = 1;
const CANCEL = 2;
const END_MS = 2000;

const tagOf = (kind: number, slot: number): number => kind * 65_536 + slot;

class Generator {
  readonly #ring = new Ring({ entries: 8192, files: FILES });
  readonly #request = requestMemory();
  readonly #sink = new Fixed(CHUNK_BYTES);
  readonly #addresses = new Map<string, Fixed>();
  readonly #started = new Float64Array(FILES);
  readonly #latencies = new Float64Array(1 << 20);

  run(order: Order): Slice {
    const spinUs = spin();
    const targets = order.targets.map(({ address, port }) => this.#address(address, port));
    const { load } = order;
    const began = performance.now();
    const countFrom = began + order.warmupMs;
    const end = countFrom + order.ms;
    let now = began;
    let next = 0;
    let busy = 0;
    let done = 0;
    let total = 0;
    let errors = 0;
    let samples = 0;

    const connect = (slot: number): void => {
      this.#connect(slot, targets[next++ % targets.length]!.address, load);
      this.#started[slot] = now;
      busy++;
    };
    const again = (slot: number): void => {
      if (load === 'cps') {
        connect(slot);
        return;
      }
      busy++;
      this.#started[slot] = now;
      this.#proceed(slot, load);
    };
    const take = (tag: number, result: number): void => {
      const kind = tag >> 16;
      const slot = tag & 65_535;
      if (kind === CANCEL) return;
      busy--;
      if (kind === WORK && result < (load === 'cps' ? 0 : 1)) {
        if (now < end) errors++;
        this.#ring.closeSocket(slot, ALONE, tagOf(MEND, slot));
        busy++;
        return;
      }
      if (kind === WORK) {
        const amount = load === 'bulk' ? result : 1;
        total += amount;
        if (now >= countFrom && now < end) {
          done += amount;
          if (load !== 'bulk' && samples < this.#latencies.length)
            this.#latencies[samples++] = now - this.#started[slot]!;
        }
        if (now < end) again(slot);
        return;
      }
      if (now < end) connect(slot);
    };

    for (let slot = 0; slot < order.connections; slot++) connect(slot);
    while (busy > 0 && now < end + END_MS) {
      this.#ring.enter(now < end ? Math.max(1, end - now) : 50);
      now = performance.now();
      this.#ring.answers(take);
      // Nothing ends a transfer, and nothing need end a request whose packet was lost.
      if (now >= end && (load === 'bulk' || now > end + 100)) break;
    }
    this.#end(order.connections);
    const sorted = this.#latencies.subarray(0, samples).sort();
    const at = (share: number): number => Math.round((sorted[Math.floor(samples * share)] ?? 0) * 1000);
    return { done, seconds: order.ms / 1000, total, errors, p50Us: at(0.5), p99Us: at(0.99), spinUs };
  }

  /** A whole connection for `cps`; for the others its beginning, up to the first answer. */
  #connect(slot: number, address: number, load: Load): void {
    const ring = this.#ring;
    const tag = tagOf(WORK, slot);
    ring.socket(slot, LINK, tag);
    ring.connect(slot, address, LINK, tag);
    ring.send(slot, this.#request.address, REQUEST_BYTES, LINK, tag);
    if (load === 'bulk') ring.receive(slot, this.#sink.address, CHUNK_BYTES, false, ALONE, tag);
    else ring.receive(slot, this.#sink.address, RESPONSE_BYTES, true, load === 'cps' ? LINK : ALONE, tag);
    if (load === 'cps') ring.closeSocket(slot, ALONE, tag);
  }

  #proceed(slot: number, load: Load): void {
    const ring = this.#ring;
    const tag = tagOf(WORK, slot);
    if (load === 'bulk') {
      ring.receive(slot, this.#sink.address, CHUNK_BYTES, false, ALONE, tag);
      return;
    }
    ring.send(slot, this.#request.address, REQUEST_BYTES, LINK, tag);
    ring.receive(slot, this.#sink.address, RESPONSE_BYTES, true, ALONE, tag);
  }

  /** No request and no socket is left behind. */
  #end(connections: number): void {
    const ring = this.#ring;
    ring.cancelAll(tagOf(CANCEL, 0));
    ring.enter(20);
    const drop = (): void => {};
    while (ring.answers(drop) > 0) ring.enter(1);
    for (let slot = 0; slot < connections; slot++) ring.closeSocket(slot, ALONE, tagOf(MEND, slot));
    for (let left = connections; left > 0; ) {
      ring.enter(20);
      const got = ring.answers(drop);
      if (got === 0) break;
      left -= got;
    }
  }

  #address(address: string, port: number): Fixed {
    const key = `${address}:${port}`;
    const known = this.#addresses.get(key) ?? new Fixed(socketAddress(address, port));
    this.#addresses.set(key, known);
    return known;
  }
}

/** A fixed piece of work, some 2 ms: how long it takes says whether the host lets us run. */
function spin(): number {
  const began = performance.now();
  let x = 1;
  for (let i = 0; i < 250_000; i++) x = Math.imul(x ^ (x >>> 15), 0x2c1b3c6d) + i;
  const us = (performance.now() - began) * 1000;
  // Used, so that it is not optimised away.
  return x === 0 ? 0 : Math.round(us);
}

const generator = new Generator();
createInterface({ input: process.stdin }).on('line', (line) => {
  process.stdout.write(`${JSON.stringify(generator.run(JSON.parse(line) as Order))}\n`);
});
process.stdout.write('ready\n');
