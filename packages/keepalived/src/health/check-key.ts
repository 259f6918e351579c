/** Two checks with equal keys ask the same question in the same rhythm, so one of them answers for both. */
import type { Check } from '../model/configuration.ts';

export function checkKey(check: Check): string {
  const known = keys.get(check);
  if (known !== undefined) return known;
  const key = makeKey(check);
  keys.set(check, key);
  return key;
}

/** Asked for at every result of a check, and a check never changes. */
const keys = new WeakMap<Check, string>();

function makeKey(check: Check): string {
  return JSON.stringify(check, (name, value: unknown) => {
    // Where it was written, and how loud it is, do not change what it asks.
    if (name === 'position' || name === 'logAllFailures') return undefined;
    return value instanceof Uint8Array ? Buffer.from(value).toString('hex') : value;
  });
}
