/** Shell patterns of `include`: `*`, `?`, `[a-z]` and `{a,b}`, over a file system handed in so that tests need none. */
import { dirname, join, resolve } from 'node:path';

export interface Files {
  /** The text, or an Error that says why not. */
  read(path: string): string | Error;
  /** Names in a folder; none where there is no such folder. */
  list(folder: string): readonly string[];
}

/** More alternatives than this are no pattern of a person's. */
const MOST_ALTERNATIVES = 1024;

export function hasWildcard(pattern: string): boolean {
  return /[*?[]/.test(pattern);
}

/** `{a,b}` taken apart first, as shells do. */
export function braceAlternatives(pattern: string): string[] {
  let patterns = [pattern];
  for (let round = 0; round < 16 && patterns.length < MOST_ALTERNATIVES; round++) {
    const next = patterns.flatMap((text) => {
      // An innermost group first: nested ones follow in the next round.
      const found = /\{([^{}]*,[^{}]*)\}/.exec(text);
      if (found === null) return [text];
      const [group, inside = ''] = found;
      return inside.split(',').map((part) => text.replace(group, () => part));
    });
    if (next.length === patterns.length) break;
    patterns = next;
  }
  return patterns.slice(0, MOST_ALTERNATIVES);
}

/** Files that one alternative without braces names, sorted; a name without wildcards is itself, there or not. */
export function matchFiles(pattern: string, folder: string, files: Files): string[] {
  const path = resolve(folder, pattern);
  if (!hasWildcard(pattern)) return [path];
  let found = [''];
  for (const part of path.split('/').slice(1)) {
    found = found.flatMap((parent) => {
      if (!hasWildcard(part)) return [`${parent}/${part}`];
      const test = toRegExp(part);
      return files
        .list(parent === '' ? '/' : parent)
        .filter((name) => test.test(name))
        .map((name) => join(parent, '/', name));
    });
  }
  // A wildcard in the middle has made paths that may not exist.
  return found.filter((file) => files.list(dirname(file)).includes(file.slice(file.lastIndexOf('/') + 1))).sort();
}

function toRegExp(part: string): RegExp {
  // A leading dot must be matched by a dot.
  let source = part.startsWith('.') ? '' : '(?!\\.)';
  for (let at = 0; at < part.length; at++) {
    const char = part[at]!;
    const set = char === '[' ? /^\[(!?)(\]?[^\]]*)\]/.exec(part.slice(at)) : null;
    if (set) {
      source += `[${set[1] === '!' ? '^' : ''}${set[2]!.replace(/[\\\]^]/g, '\\$&')}]`;
      at += set[0].length - 1;
    } else source += char === '*' ? '.*' : char === '?' ? '.' : char.replace(/[\\^$.|+(){}[\]]/g, '\\$&');
  }
  try {
    return new RegExp(`^${source}$`, 's');
  } catch {
    // A set such as [z-a] matches nothing.
    return /^(?!)/;
  }
}
