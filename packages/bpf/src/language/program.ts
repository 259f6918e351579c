/**
 * Entry points. A program is declared at module scope; the compiler compiles its function, Node calls it through `run`.
 */
import type { Skb } from './skb.ts';
import type { Fields, Struct, View } from './struct.ts';

/** Verdicts of tc programs. */
export const TC_ACT_UNSPEC = -1;
export const TC_ACT_OK = 0;
export const TC_ACT_SHOT = 2;
export const TC_ACT_REDIRECT = 7;

export interface TcProgram {
  readonly kind: 'program';
  readonly type: 'tc';
  readonly name: string;
  readonly run: (skb: Skb) => number;
}

export interface SyscallProgram<Fs extends Fields> {
  readonly kind: 'program';
  readonly type: 'syscall';
  readonly name: string;
  /** The struct that user space passes and gets back. */
  readonly context: Struct<Fs>;
  readonly run: (context: View<Fs>) => number;
}

export type Program = TcProgram | SyscallProgram<Fields>;

/** Runs on each packet of an interface (TCX, or cls_bpf on older kernels); returns a TC_ACT verdict. */
export const tcProgram = (name: string, run: (skb: Skb) => number): TcProgram => ({
  kind: 'program',
  type: 'tc',
  name,
  run,
});

/** Runs when user space asks (test_run), for what only the kernel side may do to a map. Returns 0 or what it likes. */
export const syscallProgram = <Fs extends Fields>(
  name: string,
  context: Struct<Fs>,
  run: (context: View<Fs>) => number,
): SyscallProgram<Fs> => ({ kind: 'program', type: 'syscall', name, context, run });
