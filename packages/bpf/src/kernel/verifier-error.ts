/**
 * The verifier's refusal as a diagnostic: file, line, column, its last sentence, the source line and a caret.
 *
 * The log ends with the path that failed: the last instruction it printed is the culprit, and what follows that, up to
 * the statistics, is the reason. Errors found before any path is walked name an instruction in their text instead.
 */

import { errnoCode } from '@ipvsd/linux';
import { disassemble } from '../assembler/index.ts';
import type { CollectionSpec, LineInfo, ProgramSpec } from '../spec.ts';

export interface SourcePosition {
  readonly path: string;
  readonly line: number;
  readonly column: number;
  /** The source line itself. */
  readonly text: string;
}

export class VerifierError extends Error {
  override readonly name = 'VerifierError';
  readonly program: string;
  readonly errno: number;
  readonly code: string;
  /** The verifier's last words. */
  readonly reason: string;
  /** Slot of the instruction that it refused, where known. */
  readonly instruction: number | undefined;
  readonly position: SourcePosition | undefined;
  /** The whole log. */
  readonly log: string;

  constructor(spec: ProgramSpec, files: CollectionSpec['files'], errno: number, log: string) {
    const reason = lastWords(log) ?? errnoCode(errno);
    const instruction = culprit(log);
    const position = instruction === undefined ? undefined : sourcePosition(spec, files, instruction);
    super(message(spec, reason, instruction, position));
    this.program = spec.name;
    this.errno = errno;
    this.code = errnoCode(errno);
    this.reason = reason;
    this.instruction = instruction;
    this.position = position;
    this.log = log;
  }
}

/** Where an instruction comes from: the last line info at or before it. */
export function sourcePosition(
  spec: ProgramSpec,
  files: CollectionSpec['files'],
  instruction: number,
): SourcePosition | undefined {
  let found: LineInfo | undefined;
  for (const line of spec.lines) {
    if (line.instruction <= instruction && (found === undefined || line.instruction >= found.instruction)) found = line;
  }
  const file = found === undefined ? undefined : files[found.file];
  if (found === undefined || file === undefined) return undefined;
  return { path: file.path, line: found.line, column: found.column, text: file.text.split('\n')[found.line - 1] ?? '' };
}

/** Lines of the log that tell where the verifier is, not what is wrong. */
const NOT_A_REASON = [
  /^\s*$/,
  /^processed \d+ insns/,
  /^verification time/,
  /^stack depth/,
  /^insns_state/,
  /^max_states/,
  /^(cur|old) state: /,
];
/** An instruction with or without the state after it, a source line, a state, a jump between paths, back-tracking. */
const WALK = [
  /^\d+: /,
  /^; /,
  /^from \d+ to \d+/,
  /^(caller|callee|frame\d+):/,
  /^\s+R\d+/,
  /^mark_precise/,
  /^func#\d+/,
  /^R\d+=/,
];

function lastWords(log: string): string | undefined {
  // This one reason follows its instruction on the same line.
  const text = log.replaceAll(' infinite loop detected', '\ninfinite loop detected');
  const lines = text.split('\n').filter((line) => !NOT_A_REASON.some((pattern) => pattern.test(line)));
  let from = lines.length;
  while (from > 0 && !WALK.some((pattern) => pattern.test(lines[from - 1]!))) from--;
  const words = lines.slice(from).map((line) => line.trim());
  return words.length === 0 ? lines.at(-1)?.trim() : words.join('; ');
}

function culprit(log: string): number | undefined {
  const walked = [...log.matchAll(/^(\d+): \([0-9a-f]{2}\) /gm)].at(-1);
  const named = /\binsn (\d+)/.exec(lastWords(log) ?? '');
  const found = walked?.[1] ?? named?.[1];
  return found === undefined ? undefined : Number(found);
}

function message(
  spec: ProgramSpec,
  reason: string,
  instruction: number | undefined,
  position: SourcePosition | undefined,
): string {
  const refused = `Cannot load program "${spec.name}": the verifier says: ${reason}`;
  const machine = instruction === undefined ? '' : `\n\ninstruction ${describeInstruction(spec, instruction)}`;
  if (position === undefined) return `${refused}${machine}`;
  const number = `${position.line}`;
  // Tabs stay tabs, so that the caret stands under the column in any editor.
  const indent = position.text.slice(0, position.column - 1).replace(/[^\t]/g, ' ');
  const source = `${number} | ${position.text}\n${' '.repeat(number.length)} | ${indent}^`;
  return `${position.path}:${position.line}:${position.column}: ${refused}\n\n${source}${machine}`;
}

function describeInstruction(spec: ProgramSpec, instruction: number): string {
  const bytes = Buffer.from(spec.instructions, 'base64').subarray(instruction * 8, instruction * 8 + 16);
  return disassemble(bytes).split('\n')[0]!.replace(/^0: /, `${instruction}: `);
}
