/**
 * Numbers as C reads them, because scripts lean on it: blanks and a sign may lead, nothing may follow (strtol), or
 * anything may follow (atoi), and an IPv4 address may be written in one to four parts of any base (inet_aton).
 */
import { parseDotted } from '@ipvsd/director';

/** A decimal number between the bounds, or undefined. */
export function readNumber(text: string, low: number, high: number): number | undefined {
  if (!/^[ \t\n\v\f\r]*[+-]?[0-9]+$/.test(text)) return undefined;
  const value = Number(text);
  return value >= low && value <= high ? value : undefined;
}

/** The number a text begins with, or 0. */
export function readLeadingNumber(text: string): number {
  const match = /^[ \t\n\v\f\r]*[+-]?[0-9]+/.exec(text);
  return match ? Number(match[0]) : 0;
}

const ipv4Part = /^(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)$/;

/** The last part fills all the bytes that are left: `10.1` is 10.0.0.1. Whatever follows a blank is not looked at. */
export function readIPv4(text: string): number | undefined {
  return parseDotted(text) ?? readAnyIPv4(text);
}

function readAnyIPv4(text: string): number | undefined {
  const parts = text.split(/[ \t\n\v\f\r]/, 1)[0]!.split('.');
  if (parts.length > 4 || !parts.every((part) => ipv4Part.test(part))) return undefined;
  const values = parts.map((part) => (/^0[0-7]+$/.test(part) ? Number.parseInt(part, 8) : Number(part)));
  const last = values.pop()!;
  if (values.some((value) => value > 255) || last >= 256 ** (4 - values.length)) return undefined;
  return values.reduce((sum, value, index) => sum + value * 256 ** (3 - index), last);
}
