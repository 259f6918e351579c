/** FILE_CHECK: a number in a file, times a weight, is added to the real server's weight. With weight 0 any number but 0 is a failure. */
import type { FileCheck } from '../model/configuration.ts';
import { failure, type Probe, success } from './probe.ts';

const LOWEST = -2_147_483_648;

export function fileProbe({ path, weight }: FileCheck): Probe {
  return {
    run({ sockets }, done) {
      done(judgeFile(sockets.readFile(path), weight));
      return { close() {} };
    },
  };
}

/** A file that is not there, or has no number, counts as 0: that is how keepalived starts too. */
export function judgeFile(text: string | undefined, weight: number) {
  const value = Number(/^\s*([+-]?[0-9]+)/.exec(text ?? '')?.[1] ?? 0);
  if (weight === 0) return value === 0 ? success('the file says 0') : failure(`the file says ${value}`);
  const delta = value * weight;
  if (delta <= LOWEST) return failure(`the file says ${value}`);
  return { ...success(`the file says ${value}`), weightDelta: delta };
}
