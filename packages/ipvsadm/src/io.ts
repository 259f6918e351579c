/** What a run of ipvsadm touches: everything outside the process comes in here, so tests and the daemon bring their own. */
import type { Director } from '@ipvsd/director';
import type { Names } from './services-names.ts';

export interface Output {
  /** A promise where the reader is slow: writing goes on when it resolves. */
  write(text: string): void | Promise<void>;
}

export interface Io {
  /** Asked only when a command needs it, so `--help` loads nothing and needs no privilege. */
  readonly director: () => Director | Promise<Director>;
  readonly stdin: AsyncIterable<string | Uint8Array>;
  readonly stdout: Output;
  readonly stderr: Output;
  readonly names: Names;
  /** As the operator called it: it appears in messages. */
  readonly programName: string;
  /** Waits between two listings of `--watch`; resolves to false to end them. */
  readonly sleep?: (milliseconds: number) => Promise<boolean>;
}

export async function readAll(stdin: AsyncIterable<string | Uint8Array>): Promise<string> {
  const decoder = new TextDecoder();
  let text = '';
  for await (const chunk of stdin) text += typeof chunk === 'string' ? chunk : decoder.decode(chunk, { stream: true });
  return text + decoder.decode();
}

/** Output kept as text, for tests and for those who want ipvsadm's words and not its terminal. */
export class CapturedOutput implements Output {
  text = '';

  write(text: string): void {
    this.text += text;
  }
}

export async function* textInput(text: string): AsyncGenerator<string> {
  yield text;
}
