/** Reads a folder of recordings; a line that is no JSON or a file that is not there is an error that names it. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

export class Recordings {
  readonly folder: string;

  constructor(folder: string) {
    if (!existsSync(folder)) throw new Error(`Cannot read recordings: there is no folder "${folder}"`);
    this.folder = folder;
  }

  has(file: string): boolean {
    return existsSync(join(this.folder, file));
  }

  bytes(file: string): Uint8Array {
    const path = join(this.folder, file);
    if (!existsSync(path)) throw new Error(`Cannot read recordings: there is no file "${path}"`);
    return readFileSync(path);
  }

  files(folder: string): string[] {
    return this.has(folder) ? readdirSync(join(this.folder, folder)).sort() : [];
  }

  lines<T>(file: string): T[] {
    const text = new TextDecoder().decode(this.bytes(file));
    return text
      .split('\n')
      .map((line, index) => ({ line, index }))
      .filter(({ line }) => line.trim() !== '')
      .map(({ line, index }) => {
        try {
          return JSON.parse(line) as T;
        } catch (error) {
          throw new Error(`Cannot read "${join(this.folder, file)}" line ${index + 1}: ${(error as Error).message}`);
        }
      });
  }
}
