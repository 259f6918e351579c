/**
 * A second thread for system calls that keep a CPU busy, such as the verifier's work on a program: the calls of a list go to
 * whoever is free, the caller included, who waits until all are done.
 *
 *     shared: | next call | calls done | result i32 of each | ... and of each call: three f64 arguments |
 */
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import type { Worker } from 'node:worker_threads';
import { rawCall, type SystemCallName, systemCallNumber } from './syscall.ts';

const NEXT = 0;
const DONE = 1;
const HEAD = 2;

/** What the other thread runs; it is told by a message of each list, and has no code of ours but this. */
const HELPER = `
const { parentPort, workerData } = require('node:worker_threads');
const koffi = require(workerData.koffi);
const call = koffi.load(null).func('syscall', 'int64', ['int64', 'int64', 'int64', 'int64', 'int64', 'int64', 'int64']);
parentPort.on('message', ({ number, words, list }) => {
  for (let i = Atomics.add(words, ${NEXT}, 1); i < list.length / 3; i = Atomics.add(words, ${NEXT}, 1)) {
    const result = Number(call(number, list[3 * i], list[3 * i + 1], list[3 * i + 2], 0, 0, 0));
    words[${HEAD} + i] = result === -1 ? -koffi.errno() : result;
    Atomics.add(words, ${DONE}, 1);
    Atomics.notify(words, ${DONE});
  }
});
`;

export class Crew {
  #helper: Worker | undefined;

  /** The thread starts at once, beside what the caller does next; there is none where there is one CPU. */
  constructor() {
    if (availableParallelism() < 2) return;
    const require = createRequire(import.meta.url);
    const koffi = require.resolve('koffi');
    // Only here: every command would wait for it.
    const { Worker } = require('node:worker_threads') as typeof import('node:worker_threads');
    this.#helper = new Worker(HELPER, { eval: true, workerData: { koffi } });
    // Whoever cannot help does not: the caller does all by itself.
    this.#helper.on('error', () => {});
    this.#helper.unref();
  }

  /** The calls' results in order, below zero minus the error number. What they point to must live until then. */
  call(name: SystemCallName, calls: readonly (readonly [number, number, number])[]): number[] {
    const words = new Int32Array(new SharedArrayBuffer(4 * (HEAD + calls.length)));
    const list = new Float64Array(new SharedArrayBuffer(8 * 3 * calls.length));
    list.set(calls.flat());
    this.#helper?.postMessage({ number: systemCallNumber(name), words, list });
    for (let i = Atomics.add(words, NEXT, 1); i < calls.length; i = Atomics.add(words, NEXT, 1)) {
      words[HEAD + i] = rawCall(name, ...calls[i]!);
      Atomics.add(words, DONE, 1);
    }
    for (let done = Atomics.load(words, DONE); done < calls.length; done = Atomics.load(words, DONE)) {
      Atomics.wait(words, DONE, done);
    }
    return [...words.subarray(HEAD)];
  }

  dismiss(): void {
    void this.#helper?.terminate();
    this.#helper = undefined;
  }
}
