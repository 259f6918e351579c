/** `ADDRESS:PORT` as people write it, `[v6]:PORT`, or an address alone. */
import { parseAddress } from '@ipvsd/director';

export function readEndPoint(
  text: string,
): { readonly address: string; readonly port: number | undefined } | undefined {
  const whole = parseAddress(text);
  if (whole !== undefined) return { address: whole, port: undefined };
  const [, v6, v4, port] = /^(?:\[(.*)\]|([^:]*)):([0-9]{1,5})$/.exec(text) ?? [];
  const address = parseAddress(v6 ?? v4 ?? '');
  const number = Number(port);
  return address === undefined || number > 65_535 ? undefined : { address, port: number };
}
