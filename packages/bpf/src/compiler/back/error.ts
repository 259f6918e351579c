import type { Position } from '../ir.ts';

/** What a program may not do and only the back end can see. The front end shows it with the source line. */
export class EmitError extends Error {
  override readonly name = 'EmitError';
  readonly at: Position;

  constructor(text: string, at: Position) {
    super(text);
    this.at = at;
  }
}
