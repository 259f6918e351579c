/**
 * Firewall marks as the recordings' director sets them: `iptables -t mangle` rules on PREROUTING, read from the commands
 * themselves, and the one that only a note tells of (`fwmark 7 = all of 198.51.100.0/24`).
 */
import { parseIp } from '@ipvsd/linux';
import { type Matcher, matcher } from './site.ts';
import { ICMPV6, parsePacket, SCTP, TCP, UDP } from './wire.ts';

interface Rule {
  readonly family: 4 | 6;
  readonly destination: Matcher | undefined;
  readonly source: Matcher | undefined;
  readonly protocol: number | undefined;
  readonly ports: readonly [number, number][] | undefined;
  readonly mark: number;
}

const PROTOCOLS: Readonly<Record<string, number>> = { tcp: TCP, udp: UDP, sctp: SCTP, icmp: 1, icmpv6: ICMPV6 };

export class Marks {
  #rules: Rule[] = [];

  /** The mark that a packet bears when it reaches IPVS: the last rule that matches decides. */
  of(packet: Uint8Array): number {
    if (this.#rules.length === 0) return 0;
    const p = parsePacket(packet);
    let mark = 0;
    for (const rule of this.#rules) {
      if (rule.family !== p.family) continue;
      if (rule.protocol !== undefined && rule.protocol !== p.protocol) continue;
      if (
        rule.ports !== undefined &&
        !rule.ports.some(([low, high]) => p.destinationPort >= low && p.destinationPort <= high)
      )
        continue;
      if (rule.destination !== undefined && !rule.destination(parseIp(p.destination))) continue;
      if (rule.source !== undefined && !rule.source(parseIp(p.source))) continue;
      mark = rule.mark;
    }
    return mark;
  }

  add(prefix: string, mark: number): void {
    this.#rules.push({
      family: prefix.includes(':') ? 6 : 4,
      destination: matcher([prefix]),
      source: undefined,
      protocol: undefined,
      ports: undefined,
      mark,
    });
  }

  /** Carries out one iptables or ip6tables command; false where it is none that it knows. */
  command(text: string): boolean {
    const words = text.trim().split(/\s+/);
    const family = words[0] === 'iptables' ? 4 : words[0] === 'ip6tables' ? 6 : undefined;
    if (family === undefined || optionOf(words, '-t') !== 'mangle') return false;
    if (words.includes('-F')) {
      this.#rules = this.#rules.filter((rule) => rule.family !== family);
      return true;
    }
    const chain = optionOf(words, '-A') ?? optionOf(words, '-I') ?? optionOf(words, '-D');
    if (chain !== 'PREROUTING' || optionOf(words, '-j') !== 'MARK') return false;
    const rule = ruleOf(words, family);
    if (rule === undefined) return false;
    if (words.includes('-D')) this.#rules = this.#rules.filter((known) => known.mark !== rule.mark);
    else if (words.includes('-I')) this.#rules.unshift(rule);
    else this.#rules.push(rule);
    return true;
  }
}

const KNOWN = new Set([
  '-t',
  '-A',
  '-I',
  '-D',
  '-d',
  '-s',
  '-p',
  '-m',
  '-j',
  '--dport',
  '--dports',
  '--set-mark',
  '--set-xmark',
]);

function ruleOf(words: readonly string[], family: 4 | 6): Rule | undefined {
  if (words.some((word) => word.startsWith('-') && !KNOWN.has(word))) return undefined;
  const protocol = optionOf(words, '-p');
  const ports = optionOf(words, '--dports') ?? optionOf(words, '--dport');
  const mark = Number((optionOf(words, '--set-mark') ?? optionOf(words, '--set-xmark'))?.split('/')[0]);
  if (!Number.isInteger(mark) || (protocol !== undefined && PROTOCOLS[protocol] === undefined)) return undefined;
  return {
    family,
    destination: prefixOf(words, '-d'),
    source: prefixOf(words, '-s'),
    protocol: protocol === undefined ? undefined : PROTOCOLS[protocol],
    ports: ports?.split(',').map(portRange),
    mark,
  };
}

function prefixOf(words: readonly string[], option: string): Matcher | undefined {
  const prefix = optionOf(words, option);
  return prefix === undefined ? undefined : matcher([prefix]);
}

function portRange(text: string): [number, number] {
  const [low = '', high = low] = text.split(':');
  return [Number(low), Number(high)];
}

function optionOf(words: readonly string[], option: string): string | undefined {
  const at = words.indexOf(option);
  return at < 0 ? undefined : words[at + 1];
}
