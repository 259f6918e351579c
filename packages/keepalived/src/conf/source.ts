/** Where a word stands, and text that remembers it through every substitution. */

export interface Position {
  readonly file: string;
  /** Both counted from 1; the column counts UTF-16 units, as editors do. */
  readonly line: number;
  readonly column: number;
  readonly length: number;
}

/**
 * A line on its way from the file to the parser. What replaces `$NAME` stands where `$NAME` stood, so each stretch of
 * text knows its column and whether the columns run on inside it.
 */
export interface Line {
  readonly file: string;
  readonly line: number;
  readonly text: string;
  readonly stretches: readonly Stretch[];
}

interface Stretch {
  readonly at: number;
  readonly column: number;
  /** False for replaced text: all of it stands at one place of the file. */
  readonly runsOn: boolean;
}

export function lineOfFile(file: string, line: number, text: string): Line {
  return { file, line, text, stretches: [{ at: 0, column: 1, runsOn: true }] };
}

export function positionIn(line: Line, at: number, length: number): Position {
  const stretch = line.stretches.findLast((candidate) => candidate.at <= at) ?? line.stretches[0];
  const column = stretch === undefined ? 1 : stretch.runsOn ? stretch.column + at - stretch.at : stretch.column;
  return { file: line.file, line: line.line, column, length: stretch?.runsOn === false ? 1 : length };
}

export function sliceLine(line: Line, from: number, to = line.text.length): Line {
  const stretches: Stretch[] = [{ ...stretchAt(line, from), at: 0 }];
  for (const stretch of line.stretches) {
    if (stretch.at > from && stretch.at < to) stretches.push({ ...stretch, at: stretch.at - from });
  }
  return { ...line, text: line.text.slice(from, to), stretches };
}

/** `text` in the place of `from..to`. */
export function replaceInLine(line: Line, from: number, to: number, text: string): Line {
  const before = line.stretches.filter(({ at }) => at < from);
  const after = line.stretches.filter(({ at }) => at > to);
  const shift = text.length - (to - from);
  return {
    ...line,
    text: line.text.slice(0, from) + text + line.text.slice(to),
    stretches: [
      ...before,
      { at: from, column: stretchAt(line, from).column, runsOn: false },
      { ...stretchAt(line, to), at: to + shift },
      ...after.map((stretch) => ({ ...stretch, at: stretch.at + shift })),
    ],
  };
}

/** The stretch as it would begin exactly there. */
function stretchAt(line: Line, at: number): Stretch {
  const { column } = positionIn(line, at, 0);
  const runsOn = line.stretches.findLast((candidate) => candidate.at <= at)?.runsOn ?? true;
  return { at, column, runsOn };
}
