/**
 * Between rules that are tried in order and ours, where the most exact one counts: which of them mean the same, and which
 * cannot be said.
 *
 * With iptables and nft each rule that fits sets the mark anew, so the last one counts, and the first one where it ends its
 * chain. Where two that a packet may fit both would come out otherwise with us, the later one is refused.
 */
import { compareExactness, type MarkRule, markRuleKey, overlaps } from '@ipvsd/director';

/** A line of a rule set. */
export interface Line {
  readonly number: number;
  readonly text: string;
}

export interface SourceRule extends Line {
  /** One for each network, protocol and port that it names. */
  readonly rules: readonly MarkRule[];
  /** It changes some bits of a mark and leaves the others. */
  readonly partial: boolean;
  /** The chain that it ends for packets that fit. */
  readonly ends?: string;
  readonly chain: string;
}

export interface Refusal extends Line {
  readonly reason: string;
}

export interface Translation {
  readonly rules: readonly SourceRule[];
  readonly refusals: readonly Refusal[];
}

/** Thrown while a line is read that ours cannot say. */
export class Untranslatable extends Error {}

export interface Settled {
  readonly rules: readonly MarkRule[];
  readonly refusals: readonly Refusal[];
}

/** Unordered rules that mean the same as the ordered ones. */
export function settle(ordered: readonly SourceRule[]): Settled {
  const refusals: Refusal[] = [];
  const placed: { readonly source: SourceRule; readonly rule: MarkRule }[] = [];
  for (const source of ordered) {
    const earlier = placed.length;
    let reason: string | undefined;
    for (const rule of source.rules) {
      for (let i = 0; i < earlier && reason === undefined; i++) {
        const { source: other, rule: known } = placed[i]!;
        if (known.mark === rule.mark || !overlaps(known, rule)) continue;
        reason = conflict(other, known, source, rule);
      }
      if (reason !== undefined) break;
      placed.push({ source, rule });
    }
    if (reason === undefined) continue;
    placed.length = earlier;
    refusals.push({ number: source.number, text: source.text, reason });
  }
  const byKey = new Map<string, MarkRule>();
  for (const { source, rule } of placed) {
    const key = markRuleKey(rule);
    // Of the same destination the last one counts, or the first one where it ended the chain.
    if (byKey.has(key) && placed.some((p) => markRuleKey(p.rule) === key && endsBefore(p.source, source))) continue;
    byKey.set(key, rule);
  }
  return { rules: [...byKey.values()], refusals };
}

const endsBefore = (a: SourceRule, b: SourceRule): boolean => a !== b && a.ends === b.chain && a.number < b.number;

function conflict(first: SourceRule, a: MarkRule, second: SourceRule, b: MarkRule): string | undefined {
  const exact = compareExactness(a, b);
  if (first.ends === second.chain) {
    if (exact >= 0) return undefined;
    return `line ${first.number} comes first and ends the chain for some of its packets, but here the more exact rule counts: this one`;
  }
  if (second.partial || first.partial) {
    return `line ${first.number} sets a mark for some of the same packets, and here a rule sets a whole mark and never some of its bits`;
  }
  if (exact <= 0) return undefined;
  return `it comes after line ${first.number} and counts for packets of both, but here the more exact rule counts: that one`;
}

/** Numbers of ports from `80`, or a range as a pair. */
export function portsOf(text: string, separator: ':' | '-'): number[] {
  const [low = '', high = low, ...rest] = text.split(separator);
  const [from, to] = [Number(low === '' ? Number.NaN : low), Number(high === '' ? Number.NaN : high)];
  if (rest.length > 0 || !isPort(from) || !isPort(to) || from > to) {
    throw new Untranslatable(`its port is ${text}, must be a number of 1..65535 or a range`);
  }
  if (to - from >= MOST_PORTS) {
    throw new Untranslatable(
      `its range of ports ${text} is too wide, must be at most ${MOST_PORTS} ports, one rule each`,
    );
  }
  return Array.from({ length: to - from + 1 }, (_, i) => from + i);
}

const MOST_PORTS = 1024;
const isPort = (value: number): boolean => Number.isInteger(value) && value >= 1 && value <= 65_535;

export function markOf(text: string): number {
  const value = /^(0[xX][0-9a-fA-F]+|\d+)$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= 0 && value <= 0xffff_ffff)) throw new Untranslatable(`its mark is ${text}, must be 0..4294967295`);
  return value;
}
